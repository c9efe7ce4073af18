"""A receiver of one's own for each test, whose log is checked when the test is over."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from ingest import sources
from ingest.app import create_app
from ingest.server import Server, configuration
from ingest.sources import Sources
from ingest.writer import Writer
from schema.body import not_json
from schema.log import Log, open_to_append, open_to_read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from starlette.types import ASGIApp

    from ingest.limits import Limits
    from schema.event import Event, WebhookReceived

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
    """The log's `append`, which can be held up or made to fail, and remembers its batches."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.sizes: list[int] = []
        self.open = threading.Event()
        self.open.set()
        self.fault: Exception | None = None

    def __call__(self, batch: Sequence[WebhookReceived]) -> list[int]:
        """Called by the writer, in its thread."""
        self.sizes.append(len(batch))
        assert self.open.wait(DEADLINE_S)
        if self.fault is not None:
            raise self.fault
        return self.log.append(batch)


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
        """Until the writer holds a first group at the closed tape, and all others wait behind it."""
        async with asyncio.timeout(DEADLINE_S):
            while not self.tape.sizes or self.tape.sizes[-1] + self.writer._queue.qsize() < count:  # noqa: ASYNC110 - in another thread
                await asyncio.sleep(0)


def read_events(log_path: Path) -> list[Event]:
    events: list[Event] = []
    with open_to_read(log_path) as log:
        while page := log.after(events[-1].position if events else 0):
            events += page
    return events


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
        events = read_events(folder / "log.db")
        assert [event.position for event in events] == list(range(1, len(events) + 1))


@pytest.fixture
def start(folder: Path, clock: Clock, entropy: Callable[[int], bytes]) -> Iterator[Callable[..., Receiver]]:
    """Start a receiver, with limits if wanted; stopped when the test is over."""
    with contextlib.ExitStack() as stack:

        def start(limits: Limits | None = None) -> Receiver:
            secret = sources.add(folder / "sources.json", "main", now=clock(), entropy=entropy)
            known = Sources(folder / "sources.json")
            tape = Tape(stack.enter_context(open_to_append(folder / "log.db")))
            writer = stack.enter_context(Writer(tape, clock=clock, entropy=entropy))
            stack.callback(tape.open.set)
            app = create_app(known, writer, clock=clock, not_json=not_json, limits=limits)
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

        def run(app: ASGIApp, forwarded_allow_ips: str | None = None) -> Served:
            listener = socket.create_server(("127.0.0.1", 0))
            ready = threading.Event()
            server = Server(configuration(app, forwarded_allow_ips), ready.set)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            thread.start()
            served = Served(listener.getsockname()[1])

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
