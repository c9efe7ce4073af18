"""A receiver of one's own for each test, whose log is checked when the test is over."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ingest import sources
from ingest.app import create_app
from ingest.appender import Appender
from ingest.counts import Counts
from ingest.ring import Ring, mapped
from ingest.server import Server, configuration
from ingest.sources import Sources
from ingest.writer import Writer
from schema import log_place
from schema.body import not_json
from schema.log import Log, open_to_append, open_to_read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from ssl import SSLContext

    from starlette.types import ASGIApp

    from ingest.limits import Limits
    from schema.event import Event
    from schema.log import NewRow
    from schema.log_place import Place

ROOT = Path(__file__).parents[2]

STARTED_AT = datetime(2026, 5, 1, tzinfo=UTC)

DEADLINE_S = 20
"""How long anything in another thread or process may take before a test gives up on it."""


class Clock:
    """Time that passes by a millisecond whenever it is looked at."""

    def __init__(self) -> None:
        self.now = STARTED_AT

    def __call__(self) -> datetime:
        """The time now, which is not the time before."""
        self.now += timedelta(milliseconds=1)
        return self.now


class Tape:
    """The log's `append_rows`, which can be held up or made to fail, and remembers its batches."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.sizes: list[int] = []
        self.open = threading.Event()
        self.open.set()
        self.fault: Exception | None = None

    def __call__(self, batch: Sequence[NewRow]) -> list[int]:
        """Called by the appender."""
        self.sizes.append(len(batch))
        assert self.open.wait(DEADLINE_S)
        if self.fault is not None:
            raise self.fault
        return self.log.append_rows(batch)


@dataclass
class Receiver:
    """A running writer on a log of its own, an application, and one source, `main`."""

    folder: Path
    app: ASGIApp
    sources: Sources
    writer: Writer
    tape: Tape
    secret: str
    path: str

    def events(self) -> list[Event]:
        """Everything recorded so far, as a reader beside the receiver finds it."""
        return read_events(self.folder / "log.db")

    async def until_waiting(self, count: int) -> None:
        """Until a first group is at the closed tape, and all others are handed over behind it."""
        async with asyncio.timeout(DEADLINE_S):
            while not self.tape.sizes or sum(map(len, self.writer._handed)) < count:  # noqa: ASYNC110 - in another thread
                await asyncio.sleep(0)


def read_events(place: Place) -> list[Event]:
    events: list[Event] = []
    with open_to_read(place) as log:
        while page := log.after(events[-1].position if events else 0):
            events += page
    return events


def read_whole(place: Place) -> list[Event]:
    """Every event of a log, each of which decodes. Positions run from 1."""
    events = read_events(place)
    assert [event.position for event in events] == list(range(1, len(events) + 1))
    return events


@pytest.fixture
def whole() -> Callable[[Place], list[Event]]:
    """Read a log, and check it: `read_whole`."""
    return read_whole


@pytest.fixture
def clock() -> Clock:
    """A clock that a test owns."""
    return Clock()


@pytest.fixture
def entropy() -> Callable[[int], bytes]:
    """Randomness that is the same in every run."""
    return random.Random(20260501).randbytes  # noqa: S311 - for tests


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A data folder. Whatever happened to its log, positions run from 1 and every event decodes."""
    folder = tmp_path / "data"
    folder.mkdir()
    yield folder
    if (folder / "log.db").exists():
        read_whole(folder / "log.db")


RING_BYTES = 64 * 1024 * 1024


@contextlib.contextmanager
def appended(
    append: Callable[[Sequence[NewRow]], Sequence[int]],
    checkpoint: Callable[[], None],
    clock: Callable[[], datetime],
    entropy: Callable[[int], bytes],
    ring_bytes: int = RING_BYTES,
) -> Iterator[Writer]:
    """A writer whose appender is a thread; both are at their end when the context is."""
    ours, its = socket.socketpair()
    with contextlib.closing(Ring(ring_bytes)) as ring, ours:

        def run() -> None:
            with its:
                Appender(
                    its,
                    mapped(ring.descriptor),
                    append,
                    checkpoint=checkpoint,
                    clock=clock,
                    entropy=entropy,
                    timer=time.monotonic,
                ).run()

        thread = threading.Thread(target=run)
        thread.start()
        with Writer(ours, ring, counts=Counts(), clock=clock) as writer:
            yield writer
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


@pytest.fixture
def appending() -> Callable[..., AbstractContextManager[Writer]]:
    """Make a writer whose appender is a thread: `appended`."""
    return appended


@pytest.fixture
def start(folder: Path, clock: Clock, entropy: Callable[[int], bytes]) -> Iterator[Callable[..., Receiver]]:
    """Start a receiver, with limits if wanted; stopped when the test is over."""
    with contextlib.ExitStack() as stack:

        def start(limits: Limits | None = None) -> Receiver:
            secret = sources.add(folder / "sources.json", "main", now=clock(), entropy=entropy)
            known = Sources(folder / "sources.json")
            log = stack.enter_context(open_to_append(folder / "log.db"))
            tape = Tape(log)
            writer = stack.enter_context(appended(tape, log.checkpoint, clock, entropy))
            stack.callback(tape.open.set)
            app = create_app(known, writer, clock=clock, not_json=not_json, limits=limits, counts=writer._counts)
            return Receiver(folder, app, known, writer, tape, secret, f"/webhooks/main/{secret}")

        yield start


@pytest.fixture
def receiver(start: Callable[..., Receiver]) -> Receiver:
    """A receiver with the limits of an installation that sets none."""
    return start()


@dataclass
class Served:
    """The address of a real server, on loopback."""

    port: int
    stop: Callable[[], None] = lambda: None
    """Begin to stop it; it is waited for when the test is over."""
    connections: list[socket.socket] = field(default_factory=list)

    def connect(self) -> socket.socket:
        """A connection to it, closed when the test is over."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_S)
        self.connections.append(connection)
        return connection


@pytest.fixture
def run() -> Iterator[Callable[..., Served]]:
    """Run uvicorn, as the receiver does, in a thread; stopped when the test is over."""
    with contextlib.ExitStack() as stack:

        def run(app: ASGIApp, forwarded_allow_ips: str | None = None, tls: SSLContext | None = None) -> Served:
            listener = socket.create_server(("127.0.0.1", 0))
            ready = threading.Event()
            server = Server(configuration(app, forwarded_allow_ips, tls), ready.set)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            thread.start()
            served = Served(listener.getsockname()[1], lambda: setattr(server, "should_exit", True))

            def stop() -> None:
                for connection in served.connections:
                    connection.close()
                server.should_exit = True
                thread.join(DEADLINE_S)
                assert not thread.is_alive()

            stack.callback(stop)
            assert ready.wait(DEADLINE_S)
            return served

        yield run


RECEIVER = """
import importlib, json, os, signal, sqlite3, sys, time
from datetime import UTC, datetime
from pathlib import Path

from ingest import appender, server
from ingest.limits import Limits
from ingest.protocol import HttpProtocol
from ingest.shortcut import ShortcutProtocol
from ingest.sources import Sources
from ingest.writer import Writer
from schema import log_place
from schema.errors import LogUnavailable
from schema.log import Log
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

script, folder, place, when, act = sys.argv[1], Path(sys.argv[2]), *sys.argv[3:6]
settings = json.loads(sys.argv[6])
for constant, value in settings["constants"].items():
    module, _, name = constant.rpartition(".")
    setattr(importlib.import_module(module), name, value)

def strike(result):
    if act == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if act == "kill the appender":
        (folder / "armed").unlink()
        children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        return result
    if act == "kill the receiver":
        (folder / "armed").unlink()
        os.kill(os.getppid(), signal.SIGKILL)
        return result
    if act == "io error":
        cause = sqlite3.OperationalError("disk I/O error")
        cause.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise LogUnavailable("disk I/O error") from cause
    if act == "no positions":
        return []
    (folder / "held").touch()
    while (folder / "armed").exists():
        time.sleep(0.01)
    return result

if place:
    kind, name = place.split(".")
    kind = globals()[kind]
    original = getattr(kind, name)

    def struck(*arguments):
        if when == "before" and (folder / "armed").exists():
            strike(None)
        result = original(*arguments)
        return strike(result) if when == "after" and (folder / "armed").exists() else result

    setattr(kind, name, struck)

if len(sys.argv) > 7:
    sys.exit(appender.main(int(sys.argv[7])))

appender.PROGRAM = (sys.executable, "-c", script, *sys.argv[1:7])
sys.exit(server.serve(
    place=log_place.place(settings["log"]),
    sources_path=folder / "sources.json",
    clock=lambda: datetime.now(UTC),
    ready=lambda url: print(url, flush=True),
    port=0,
    limits=Limits(held_deliveries=settings["held"]),
))
"""
"""A receiver that can be struck before or after a call, in it or in its appender, once the file `armed` is in its folder."""


CONSTANTS = {"schema.log_sqlite.LOCK_TIMEOUT_S": 1}
"""What is another in a struck receiver and its appender: to be waited for less long."""


@dataclass(frozen=True)
class Settings:
    """What a receiver is started with: where its log is, `log.db` in its folder if nothing is said, and constants of ours."""

    held: int = 100
    log: Place | None = None
    constants: Mapping[str, float] = field(default_factory=lambda: CONSTANTS)

    def said(self, folder: Path) -> str:
        """As the process is told."""
        log = log_place.url(self.log or folder / "log.db")
        return json.dumps({"held": self.held, "log": log, "constants": dict(self.constants)})


class Process:
    """A receiver in a process of its own, with a source `main`."""

    def __init__(self, folder: Path, strike: tuple[str, str, str], settings: Settings) -> None:
        self.folder = folder
        path = folder / "sources.json"
        path.unlink(missing_ok=True)
        self.secret = sources.add(path, "main", now=STARTED_AT, entropy=random.Random(7).randbytes)  # noqa: S311 - for tests
        self._err = folder.with_suffix(".err")
        self._wal_bytes = 0
        with self._err.open("ab") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-c", RECEIVER, RECEIVER, str(folder), *strike, settings.said(folder)],
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
                cwd=ROOT,
            )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        self.path = f"/webhooks/main/{self.secret}"
        self._descriptors = self._open_files()

    def take_descriptors(self, connections: int) -> Callable[[], object]:
        """Leave it no file descriptor beyond those of so many connections; gives what ends that."""
        if sys.platform != "linux":
            pytest.skip("needs prlimit")
        deadline = time.monotonic() + DEADLINE_S
        # Those of connections that were are given back when it has noticed their end.
        while (open_files := self._open_files()) > self._descriptors + connections:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        before = resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE, (open_files, before[1]))
        return lambda: resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE, before)

    @property
    def appender(self) -> int:
        """The process id of its appender."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        if not children.exists():
            pytest.skip("needs Linux, to tell who is whose child")
        return int(children.read_text().split()[0])

    @property
    def wal_bytes(self) -> int:
        """How long its WAL was when it was armed."""
        return self._wal_bytes

    def _open_files(self) -> int:
        folder = Path(f"/proc/{self.process.pid}/fd")
        return len(list(folder.iterdir())) if folder.exists() else 0

    def head(self, body: bytes) -> bytes:
        """What is sent before a body."""
        return f"POST {self.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    def answer(self, connection: socket.socket) -> str:
        """What comes on a connection: the status, or that there was no answer."""
        try:
            return connection.recv(1_000)[9:12].decode() or "no answer"
        except ConnectionError:
            return "no answer"

    def post(self, body: bytes, meanwhile: Callable[[], object] = lambda: None) -> str:
        """Send a delivery on a connection of its own: the status, or that there was no answer. ``meanwhile`` is done before it is read."""
        with contextlib.closing(self.connect()) as connection:
            # One that is killed by what it reads may be gone before all is sent.
            with contextlib.suppress(ConnectionError):
                # At once: what is small comes in one read.
                connection.sendall(self.head(body) + body)
            meanwhile()
            return self.answer(connection)

    def connect(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(("127.0.0.1", int(self.url.rpartition(":")[2])), timeout=DEADLINE_S)

    def lines(self) -> list[dict[str, object]]:
        """What it said in its own log."""
        return [json.loads(line) for line in self._err.read_text().splitlines() if line.startswith("{")]

    def arm(self, *, armed: bool = True) -> None:
        """Let what strikes it strike, or not."""
        self._wal_bytes = (self.folder / "log.db-wal").stat().st_size
        (self.folder / "armed").touch() if armed else (self.folder / "armed").unlink()

    def end(self) -> int:
        """Stop it, if it still runs; its exit code."""
        self.process.terminate()
        return self.process.wait(DEADLINE_S)


@pytest.fixture
def receive(folder: Path) -> Iterator[Callable[..., Process]]:
    """Start receivers in processes of their own, in the data folder; killed when the test is over."""
    begun: list[Process] = []

    def receive(place: str = "", when: str = "", act: str = "", **settings: Any) -> Process:
        begun.append(Process(folder, (place, when, act), Settings(**settings)))
        assert begun[-1].url, begun[-1]._err.read_text()
        return begun[-1]

    yield receive
    for each in begun:
        each.process.kill()
        each.process.communicate()


LET_GO_S = 5
"""How long strace may take to detach, which is done in milliseconds."""


class Strace:
    """Tampers with the system calls of a running process, on one file if it is named, until it is let go."""

    def __init__(self, process: int, inject: str, file: Path | None = None) -> None:
        program = shutil.which("strace")
        if program is None:
            pytest.skip("needs strace")
        call = inject.partition(":")[0]
        arguments = ["-f", "-p", str(process), "-o", os.devnull, *(["-P", str(file)] if file else [])]
        self._process = subprocess.Popen(
            [program, *arguments, "-e", f"trace={call}", "-e", f"inject={inject}"], stderr=subprocess.PIPE, text=True
        )
        assert self._process.stderr is not None
        said = self._process.stderr.readline()
        if "attached" not in said:
            self.let_go()
            pytest.skip(f"strace may not trace here: {said}")

    def let_go(self) -> None:
        """End the tampering, if that has not been done."""
        if self._process.returncode is not None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.communicate(timeout=LET_GO_S)
        except subprocess.TimeoutExpired:
            # It may miss that what it traced has been killed; the kernel lets that go with it.
            self._process.kill()
            self._process.communicate()


@pytest.fixture
def trace() -> Iterator[Callable[..., Strace]]:
    """Tamper with a process's system calls, by strace; ended when the test is over."""
    begun: list[Strace] = []

    def trace(process: int, inject: str, file: Path | None = None) -> Strace:
        begun.append(Strace(process, inject, file))
        return begun[-1]

    yield trace
    for each in begun:
        each.let_go()


@pytest.fixture
def tamper(trace: Callable[..., Strace]) -> Callable[[Process, str, str], Strace]:
    """Tamper with the system calls of a receiver's appender on a file of its folder, by strace; ended when the test is over."""
    return lambda receiver, inject, file: trace(receiver.appender, inject, receiver.folder / file)


@pytest.fixture
def mount() -> Iterator[Callable[..., None]]:
    """Mount something until the test is over, or skip it where that may not be."""
    program, undo = shutil.which("mount"), shutil.which("umount")
    with contextlib.ExitStack() as stack:

        def mount(*arguments: str) -> None:
            if os.geteuid() != 0 or not program or not undo:
                pytest.skip("needs root, to mount a file system")
            # What is mounted in another way than before is undone once.
            stack.callback(subprocess.run, [undo, "--lazy", arguments[-1]], check=False, stderr=subprocess.DEVNULL)
            if subprocess.run([program, *arguments], check=False).returncode:
                pytest.skip("no file system may be mounted here")

        yield mount
