"""Crashes: the real receiver, killed with SIGKILL at random moments under load, again and again.

    python bench/crash.py [--rounds 50] [--connections 64] [--seed N] [--folder DIR]

One log lives through all rounds. In each, a new receiver is started on it, many connections
post bodies that are all different, and the receiver, its appender, or both at once are killed: mostly 20 to 300 ms
after the first answer, now and then while they still start. What the client was answered is the
oracle: every receipt's event must be there, after that round and after all of them, at its
position and with the bytes that were sent. Bodies that were sent but not answered may be in
the log, once and whole; anything else may not. Exit code 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import uvloop  # noqa: E402 - run as a script, from the repository itself

from ingest import sources  # noqa: E402
from schema.log import open_to_read  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schema.event import Event

KILL_AFTER_S = (0.02, 0.3)
"""From the first answer of a round to its kill."""

EARLY = 8
"""One round in so many is killed while the receiver starts, and recovers from the kill before."""

Victim = Literal["receiver", "appender", "both"]

VICTIMS: tuple[Victim, ...] = get_args(Victim)

DEADLINE_S = 60
"""How long a receiver may take to answer, or a connection to end: far beyond what either takes."""

SMALL_BYTES = (20, 2_000)
LARGE_BYTES = 150_000
LARGE = 211
"""One body in so many is large: its commit spans many pages, and several packets."""

NOISE = random.Random(0).randbytes(LARGE_BYTES).hex().encode()  # noqa: S311 - filling


def body_of(serial: int) -> bytes:
    """The body with a serial number: the same in every process, different from every other."""
    size = LARGE_BYTES if serial % LARGE == 0 else SMALL_BYTES[0] + serial * 7_919 % SMALL_BYTES[1]
    start = serial * 104_729 % LARGE_BYTES
    return b'{"serial": %d, "noise": "%s"}' % (serial, NOISE[start : start + size])


@dataclass
class Load:
    """What many connections send, and what they are answered."""

    head: bytes
    serial: int = 0
    receipts: dict[int, bytes] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    bereft: bool = False
    """Whether the appender has been killed, so that the receiver may refuse until it has ended."""
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    def next(self) -> tuple[bytes, bytes]:
        """A body that was never sent before, and the request that carries it."""
        self.serial += 1
        body = body_of(self.serial)
        return body, self.head % len(body) + body

    def answer(self, body: bytes, status: int, content: bytes) -> None:
        """Take down what a body was answered."""
        self.answered.set()
        if status == 503 and self.bereft:  # noqa: PLR2004 - Service Unavailable
            return
        if status != 200:  # noqa: PLR2004 - OK
            self.wrong.append(f"answered {status}: {content.decode(errors='replace')}")
            return
        receipt, digest = json.loads(content), hashlib.sha256(body)
        if receipt["sha256"] != digest.hexdigest():
            self.wrong.append(f"the receipt of position {receipt['position']} has another sha256 than what was sent")
        if receipt["position"] in self.receipts:
            self.wrong.append(f"position {receipt['position']} was given to two deliveries")
        self.receipts[receipt["position"]] = digest.digest()


class Sender(asyncio.Protocol):
    """One connection: a request, its answer, the next request, until it is lost."""

    def __init__(self, load: Load) -> None:
        self.lost = asyncio.get_running_loop().create_future()
        self._load = load
        self._body = b""
        self._data = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none of asyncio's classes
        self._send()

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        self._data += data
        head, end, rest = self._data.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(rest) >= length:
            self._load.answer(self._body, int(head.split(b" ", 2)[1]), rest[:length])
            self._data = rest[length:]
            self._send()

    def connection_lost(self, _error: Exception | None) -> None:
        """Called by the loop."""
        self.lost.set_result(None)

    def _send(self) -> None:
        self._body, request = self._load.next()
        self._transport.write(request)


class Oracle:
    """What must be in the log, and what was found there."""

    def __init__(self, load: Load, log: Path) -> None:
        self._load = load
        self._log = log
        self._position = 0
        self.stored = 0
        self.missing = 0
        self.doubled = 0
        self.altered = 0

    def after_round(self) -> None:
        """Check the events that came since the last round."""
        acknowledged = {at: digest for at, digest in self._load.receipts.items() if at > self._position}
        self._check(acknowledged, self._position)

    def after_all(self) -> None:
        """Check the whole log, and the file itself."""
        self.stored = self._position = 0
        self._check(self._load.receipts, 0)
        with closing(sqlite3.connect(f"{self._log.as_uri()}?mode=ro", uri=True)) as connection:
            found = connection.execute("PRAGMA integrity_check").fetchone()[0]
        if found != "ok":
            self._load.wrong.append(f"integrity_check: {found}")

    def _check(self, acknowledged: dict[int, bytes], since: int) -> None:
        serials: set[int] = set()
        left = set(acknowledged)
        for event in events(self._log, since):
            self._position += 1
            self.stored += 1
            if event.position != self._position:
                self._load.wrong.append(f"position {event.position} follows {self._position - 1}")
                self._position = event.position
            body = event.delivery.body
            serial = int(body.partition(b":")[2].partition(b",")[0] or 0)
            self.doubled += serial in serials
            serials.add(serial)
            self.altered += body != body_of(serial) or serial > self._load.serial
            if event.position in acknowledged:
                left.discard(event.position)
                self.altered += hashlib.sha256(body).digest() != acknowledged[event.position]
        self.missing += len(left)


def events(log_path: Path, after: int) -> Iterator[Event]:
    """The events of a log that nobody has open."""
    if not log_path.exists():
        return
    with open_to_read(log_path) as log:
        while page := log.after(after):
            yield from page
            after = page[-1].position


@dataclass(frozen=True)
class Receiver:
    """How to start one: always on the same folder and port."""

    folder: Path
    port: int

    def start(self) -> subprocess.Popen[bytes]:
        """A receiver's process; its own log in a file, of this start alone."""
        command = [sys.executable, "-P", "-m", "audit", "receive", f"--data={self.folder}", f"--port={self.port}"]
        with self.lines.open("wb") as lines:
            return subprocess.Popen(command, stdout=lines, stderr=lines, env={**os.environ, "PYTHONPATH": str(ROOT)})

    @property
    def lines(self) -> Path:
        """Where it says what it does."""
        return self.folder / "receiver.lines"


async def connected(port: int, load: Load, senders: list[Sender]) -> None:
    """Connect one more sender, as soon as somebody listens."""
    while True:
        with suppress(OSError):
            _, sender = await asyncio.get_running_loop().create_connection(lambda: Sender(load), "127.0.0.1", port)
            senders.append(sender)
            return
        await asyncio.sleep(0.01)


def appender_of(process: subprocess.Popen[bytes]) -> int | None:
    """The process id of a receiver's appender, once it has started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return int(children.read_text().split()[0]) if children.exists() and children.read_text() else None


def kill(process: subprocess.Popen[bytes], victim: Victim, load: Load) -> None:
    """Kill a receiver, its appender, or both; where there is no appender yet, the receiver."""
    appender = None if victim == "receiver" else appender_of(process)
    load.bereft = appender is not None
    if appender is not None:
        with suppress(ProcessLookupError):
            os.kill(appender, signal.SIGKILL)
    if appender is None or victim == "both":
        process.kill()
    expected = {1} if victim == "appender" and appender is not None else {-signal.SIGKILL}
    try:
        status = process.wait(DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        status = process.wait()
    if status not in expected:
        load.wrong.append(f"the receiver ended with status {status} when the {victim} was killed")


async def one_round(  # noqa: PLR0913 - a round, by its parts
    receiver: Receiver, load: Load, connections: int, kill_after: float, *, victim: Victim, early: bool
) -> float:
    """Start, load and kill a receiver; seconds from its start to its first answer, or 0."""
    load.answered.clear()
    load.bereft = False
    process = receiver.start()
    begun, taken = time.monotonic(), 0.0
    senders: list[Sender] = []
    connecting = [asyncio.ensure_future(connected(receiver.port, load, senders)) for _ in range(connections)]
    try:
        if not early:
            await asyncio.wait_for(load.answered.wait(), DEADLINE_S)
            taken = time.monotonic() - begun
        await asyncio.sleep(kill_after)
    except TimeoutError:
        load.wrong.append(f"no answer in {DEADLINE_S} s; the receiver said: {receiver.lines.read_text()[-2000:]}")
    finally:
        # In a thread: the answers until its end are part of what is looked at.
        before = len(load.wrong)
        await asyncio.to_thread(kill, process, victim, load)
        if len(load.wrong) > before:
            load.wrong.append(f"it said: {receiver.lines.read_text()[-2000:]}")
        for each in connecting:
            each.cancel()
    await asyncio.gather(*connecting, return_exceptions=True)
    await asyncio.wait_for(asyncio.gather(*(sender.lost for sender in senders)), DEADLINE_S)
    return taken


async def run(rounds: int, connections: int, seed: int, folder: Path) -> bool:
    """All rounds; prints the table; whether all is well."""
    moments = random.Random(seed)  # noqa: S311 - moments, not secrets
    secret = sources.add(folder / "sources.json", "main", now=datetime.now(UTC), entropy=os.urandom)
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        receiver = Receiver(folder, listener.getsockname()[1])
    path = sources.webhook_path("main", secret).encode()
    load = Load(
        b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )
    oracle = Oracle(load, folder / "log.db")
    start_s, done = 1.0, 0
    for number in range(1, rounds + 1):
        early = moments.randrange(EARLY) == 0 and number > 1
        kill_after = moments.uniform(0, start_s) if early else moments.uniform(*KILL_AFTER_S)
        victim = moments.choice(VICTIMS)
        start_s = await one_round(receiver, load, connections, kill_after, victim=victim, early=early) or start_s
        oracle.after_round()
        done = number
        if load.wrong:
            break
        if number % 10 == 0:
            print(
                f"{number} of {rounds}: {len(load.receipts):,} acknowledged, {oracle.stored:,} stored", file=sys.stderr
            )
    process = receiver.start()
    async with asyncio.timeout(DEADLINE_S):
        await connected(receiver.port, load, [])
        await asyncio.sleep(KILL_AFTER_S[1])
    process.send_signal(signal.SIGTERM)
    if (status := process.wait(DEADLINE_S)) != 0:
        load.wrong.append(f"a stop as asked ended with status {status}: {receiver.lines.read_text()[-2000:]}")
    await asyncio.sleep(0.1)
    oracle.after_all()
    return tell(done, seed, load, oracle)


def tell(rounds: int, seed: int, load: Load, oracle: Oracle) -> bool:
    """Print the table, and what was wrong; whether all is well."""
    print(f"{'rounds':>8}{'acknowledged':>14}{'stored':>12}{'missing':>9}{'doubled':>9}{'altered':>9}   seed {seed}")
    print(
        f"{rounds:>8,}{len(load.receipts):>14,}{oracle.stored:>12,}"
        f"{oracle.missing:>9,}{oracle.doubled:>9,}{oracle.altered:>9,}",
    )
    for wrong in load.wrong[:20]:
        print(wrong, file=sys.stderr)
    if len(load.receipts) == 0:
        print("nothing was acknowledged, so nothing was proven", file=sys.stderr)
    return not (load.wrong or oracle.missing or oracle.doubled or oracle.altered) and len(load.receipts) > 0


def main() -> None:
    """Run the rounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50, help="how often to kill (default %(default)s)")
    parser.add_argument("--connections", type=int, default=64, help="connections that post (default %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="of the moments (default: another each time)")
    parser.add_argument("--folder", type=Path, help="where the log lives (default: a temporary folder, removed)")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if arguments.seed is None else arguments.seed
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="crash-") as folder:
        sys.exit(not uvloop.run(run(arguments.rounds, arguments.connections, seed, Path(folder))))


if __name__ == "__main__":
    main()
