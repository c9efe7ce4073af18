"""Every step from accepting a connection to its answer, struck: what the sender saw, and what the log holds."""

from __future__ import annotations

import socket
import sqlite3
import struct
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import pytest

from schema.log import open_to_read

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.ingest.conftest import Process, Strace

BODY = b'"' + b"x" * 200_000 + b'"'
"""Goes the ordinary way, as all that is large or comes in pieces."""

WHOLE = b'"' + b"w" * 30_000 + b'"'
"""Comes in one read, and so by the shortcut."""

LARGE = b'"' + b"x" * 6_000_000 + b'"'
"""Fills more of the WAL than may be there before it is copied into the log itself."""

DEADLINE_S = 20

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"

Fault: TypeAlias = Literal[
    "fails before it persists", "fails after it persisted", "the receiver is killed", "the appender is killed"
]

FAULTS: tuple[Fault, ...] = get_args(Fault)

Killed: TypeAlias = Literal["kill", "kill the receiver", "kill the appender"]
"""Whom a process kills: itself, or the other one."""

LONG_MICROSECONDS = 2_000_000
"""How long a system call is held up for the receiver to be killed meanwhile."""


@dataclass(frozen=True)
class Struck:
    """A running receiver, and what it can be struck with."""

    receive: Callable[..., Process]
    tamper: Callable[[Process, str, str], Strace]
    body: bytes

    def warm(self, *strike: str, **more: int) -> Process:
        """A receiver that has recorded a delivery, and is struck by the next."""
        receiver = self.receive(*strike, **more)
        assert receiver.post(b'"before"') == "200"
        receiver.arm()
        return receiver


def killed(place: str, when: str, act: Killed = "kill", *, whole: str | None = None) -> Callable[[Struck], str]:
    """SIGKILL before or after a call; before or after another where the delivery comes whole."""

    def strike(struck: Struck) -> str:
        by_shortcut = whole is not None and struck.body == WHOLE
        return struck.warm(whole if by_shortcut else place, when, act).post(struck.body)  # type: ignore[arg-type]

    return strike


def killed_while(call: str, when: int, begun: Callable[[Process, Struck], bool]) -> Callable[[Struck], str]:
    """The receiver is killed while such a call of its appender on the WAL is held up, once one can see that it has come so far."""

    def strike(struck: Struck) -> str:
        receiver = struck.warm()
        struck.tamper(receiver, f"{call}:delay_enter={LONG_MICROSECONDS}:when={when}", "log.db-wal")
        with closing(receiver.connect()) as connection:
            connection.sendall(receiver.head(struck.body) + struck.body)
            deadline = time.monotonic() + DEADLINE_S
            while not begun(receiver, struck):
                assert time.monotonic() < deadline
                time.sleep(0.001)
            receiver.process.kill()
            return receiver.answer(connection)

    return strike


def grown(receiver: Process, _struck: Struck) -> bool:
    """Whether something of the next group is written."""
    return len((receiver.folder / "log.db-wal").read_bytes()) > receiver.wal_bytes


def written(receiver: Process, struck: Struck) -> bool:
    """Whether all of the body is written."""
    return (receiver.folder / "log.db-wal").read_bytes().count(struck.body[-2:-1]) >= len(struck.body) - 2


def killed_behind_the_answer(struck: Struck) -> str:
    """The receiver is killed while the copying that follows its answer is held up."""
    receiver = struck.warm()
    struck.tamper(receiver, f"pwrite64:delay_enter={LONG_MICROSECONDS}:when=1", "log.db")
    status = receiver.post(LARGE)
    receiver.process.kill()
    return status


def tampered(inject: str, file: str, body: bytes | None = None) -> Callable[[Struck], str]:
    """A system call on a file fails, or kills."""

    def strike(struck: Struck) -> str:
        receiver = struck.warm()
        struck.tamper(receiver, inject, file)
        return receiver.post(body or struck.body)

    return strike


def committed_but(act: str) -> Callable[[Struck], str]:
    """The commit is done, and what it gives back is wrong."""
    return lambda struck: struck.warm("Log.append_rows", "after", act).post(struck.body)


def out_of_descriptors(struck: Struck) -> str:
    """No file descriptor is left for another connection."""
    receiver = struck.warm()
    receiver.take_descriptors(0)
    return receiver.post(struck.body)


def damaged_sources(struck: Struck) -> str:
    """The file of the sources is damaged while the receiver runs."""
    receiver = struck.warm()
    (receiver.folder / "sources.json").write_text("{")
    return receiver.post(struck.body)


def half_a_body(struck: Struck) -> str:
    """The sender goes away in the middle."""
    receiver = struck.warm()
    with closing(receiver.connect()) as connection:
        connection.sendall(receiver.head(BODY) + BODY[:100])
        connection.shutdown(socket.SHUT_WR)
        return "no answer" if connection.recv(1) == b"" else "an answer"


def killed_in_the_body(struck: Struck) -> str:
    """SIGKILL while half of the body is there."""
    receiver = struck.warm("RequestResponseCycle.receive", "before", "kill")
    with closing(receiver.connect()) as connection:
        connection.sendall(receiver.head(BODY) + BODY[:100])
        return receiver.answer(connection)


def no_room(struck: Struck) -> str:
    """As many deliveries are held as may be."""
    receiver = struck.warm(held=1)
    with closing(receiver.connect()) as connection:
        connection.sendall(receiver.head(BODY).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        assert connection.recv(1_000).startswith(b"HTTP/1.1 100")
        return receiver.post(struck.body)


def locked(struck: Struck) -> str:
    """Another process is writing to the log."""
    receiver = struck.warm()
    with closing(sqlite3.connect(receiver.folder / "log.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        return receiver.post(struck.body)


def gone_before_the_answer(struck: Struck) -> str:
    """The sender breaks the connection while the commit is under way."""
    receiver = struck.warm("Log.append_rows", "after", "hold")
    with closing(receiver.connect()) as connection:
        connection.sendall(receiver.head(struck.body) + struck.body)
        deadline = time.monotonic() + DEADLINE_S
        while not (receiver.folder / "held").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        broken(connection)
    receiver.arm(armed=False)
    return "no answer"


def gone_after_the_answer(struck: Struck) -> str:
    """The connection breaks behind the answer."""
    receiver = struck.warm()
    with closing(receiver.connect()) as connection:
        connection.sendall(receiver.head(struck.body) + struck.body)
        status = receiver.answer(connection)
        broken(connection)
    return status


def broken(connection: socket.socket) -> None:
    """Close it with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@dataclass(frozen=True)
class Point:
    """One cell of the table: a step, how it is struck, and what comes of it."""

    step: str
    fault: Fault
    sender: str
    log: str
    strike: Callable[[Struck], str]


ACCEPTED = "the connection is accepted"
CHECKED = "source and secret are checked"
READ = "the body is read"
HANDED = "the delivery is handed to the appender"
BEGUN = "the transaction is begun"
WRITTEN = "the group is written to `log.db-wal`"
SYNCED = "`log.db-wal` is fsynced"
RETURNED = "the commit gives back the positions"
COPIED = "`log.db-wal` is copied into `log.db`, now and then"
ANSWERED = "the answer is sent"

BEFORE, AFTER, RECEIVER, APPENDER = FAULTS
NOTHING, EVENT, EITHER = "nothing", "the event", "the event or nothing"

SEND, SHORT = "RequestResponseCycle.send", "ShortcutProtocol._answer"

POINTS = [
    Point(ACCEPTED, BEFORE, "no answer", NOTHING, out_of_descriptors),
    Point(ACCEPTED, RECEIVER, "no answer", NOTHING, killed("HttpProtocol.connection_made", "before")),
    Point(CHECKED, BEFORE, "200", EVENT, damaged_sources),
    Point(CHECKED, RECEIVER, "no answer", NOTHING, killed("Sources.authenticate", "before")),
    Point(READ, BEFORE, "no answer", NOTHING, half_a_body),
    Point(READ, RECEIVER, "no answer", NOTHING, killed_in_the_body),
    Point(HANDED, BEFORE, "503", NOTHING, no_room),
    Point(HANDED, RECEIVER, "no answer", NOTHING, killed("Writer.record", "after")),
    Point(HANDED, APPENDER, "503", NOTHING, killed("Writer.record", "after", "kill the appender")),
    Point(BEGUN, BEFORE, "503", NOTHING, locked),
    Point(BEGUN, RECEIVER, "no answer", EVENT, killed("Log.append_rows", "before", "kill the receiver")),
    Point(BEGUN, APPENDER, "503", NOTHING, killed("Log.append_rows", "before")),
    Point(WRITTEN, BEFORE, "503", NOTHING, tampered("pwrite64:error=EIO", "log.db-wal")),
    Point(WRITTEN, AFTER, "503", NOTHING, tampered("pwrite64:error=ENOSPC:when=4+", "log.db-wal")),
    Point(WRITTEN, RECEIVER, "no answer", EVENT, killed_while("pwrite64", 2, grown)),
    Point(WRITTEN, APPENDER, "503", NOTHING, tampered("pwrite64:signal=KILL:when=4", "log.db-wal")),
    Point(SYNCED, BEFORE, "503", EITHER, tampered("fdatasync:error=EIO", "log.db-wal")),
    Point(SYNCED, AFTER, "503", EVENT, committed_but("io error")),
    Point(SYNCED, RECEIVER, "no answer", EVENT, killed_while("fdatasync", 1, written)),
    Point(SYNCED, APPENDER, "503", EITHER, tampered("fdatasync:signal=KILL", "log.db-wal")),
    Point(RETURNED, AFTER, "503", EVENT, committed_but("no positions")),
    Point(RETURNED, RECEIVER, "no answer", EVENT, killed("Log.append_rows", "after", "kill the receiver")),
    Point(RETURNED, APPENDER, "503", EVENT, killed("Log.append_rows", "after")),
    Point(COPIED, BEFORE, "200", EVENT, tampered("pwrite64:error=EIO", "log.db", LARGE)),
    Point(COPIED, AFTER, "200", EVENT, tampered("fdatasync:error=EIO", "log.db", LARGE)),
    Point(COPIED, RECEIVER, "200", EVENT, killed_behind_the_answer),
    Point(COPIED, APPENDER, "200", EVENT, tampered("pwrite64:signal=KILL", "log.db", LARGE)),
    Point(ANSWERED, BEFORE, "no answer", EVENT, gone_before_the_answer),
    Point(ANSWERED, AFTER, "200", EVENT, gone_after_the_answer),
    Point(ANSWERED, RECEIVER, "no answer", EVENT, killed(SEND, "before", whole=SHORT)),
    Point(ANSWERED, APPENDER, "200", EVENT, killed(SEND, "before", "kill the appender", whole=SHORT)),
]


@pytest.mark.parametrize("body", [BODY, WHOLE], ids=["the ordinary way", "by the shortcut"])
@pytest.mark.parametrize("point", POINTS, ids=lambda point: f"{point.step}, {point.fault}")
def test_a_step_that_is_struck(
    folder: Path,
    receive: Callable[..., Process],
    tamper: Callable[[Process, str, str], Strace],
    point: Point,
    body: bytes,
):
    """The sender sees, and the log holds, what the table says; what was acknowledged before is there in any case."""
    assert point.strike(Struck(receive, tamper, body)) in point.sender.split(" or ")

    def bodies() -> list[bytes]:
        with open_to_read(folder / "log.db") as log:
            return [event.delivery.body for event in log.after(0, max_events=10)]

    expected = {NOTHING: {1}, EVENT: {2}, EITHER: {1, 2}}[point.log]
    deadline = time.monotonic() + DEADLINE_S
    # The sender that went away knows nothing of when the rest is done.
    while len(bodies()) not in expected and time.monotonic() < deadline:
        time.sleep(0.01)
    before, *after = bodies()
    assert before == b'"before"'
    assert len(after) + 1 in expected
    assert set(after) <= {body, LARGE}
    assert (point.sender != "200") or after


def test_the_page_says_the_same():
    """The table that operators read has a row for each step, and in it what the tests found."""
    cells = {(point.step, point.fault): f"{point.sender}; {point.log}" for point in POINTS}
    steps = list(dict.fromkeys(point.step for point in POINTS))
    expected = [["step", *FAULTS]] + [[step, *(cells.get((step, fault), "—") for fault in FAULTS)] for step in steps]
    text = PAGE.read_text().partition("## Crash points\n")[2].partition("\n## ")[0]
    lines = [line.strip("|\n").split("|") for line in text.splitlines() if line.startswith("|") and "---" not in line]
    assert [[cell.strip() for cell in line] for line in lines] == expected
