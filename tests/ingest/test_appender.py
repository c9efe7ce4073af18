"""The appender: what a commit takes, what follows it, and how it comes to its end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from threading import Semaphore
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from ingest import appender, channel
from ingest import writer as writers
from ingest.limits import GROUP_BYTES
from ingest.ring import Ring, mapped
from schema.errors import ConfigurationError, LogError, LogNotThere, LogUnavailable
from schema.event import Delivery, encode, instant
from schema.log import open_to_append, open_to_read

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from ingest.writer import Writer
    from schema.log import NewRow
    from tests.ingest.conftest import Clock, Receiver

    Appending = Callable[..., AbstractContextManager[Writer]]

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def delivery(body: bytes = b"{}") -> Delivery:
    return Delivery(instant(NOW), "main", "127.0.0.1", {}, body)


async def recorded(writer: Writer, bodies: Sequence[bytes]) -> list[int | BaseException]:
    """Record all at once; each one's position or error."""

    async def record(body: bytes) -> int:
        return await writer.recorded(delivery(body))

    async with asyncio.timeout(20):
        return await asyncio.gather(*map(record, bodies), return_exceptions=True)


def no_checkpoint() -> None:
    """Nothing is left for later."""


class Log:
    """Appends nowhere, and writes down what it is asked for; a commit waits until the test lets it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.begun = Semaphore(0)
        self.go_on = Semaphore(0)
        self.copied = Semaphore(0)
        self.fault: Exception | None = None

    def append(self, batch: Sequence[NewRow]) -> list[int]:
        """Called by the appender."""
        self.begun.release()
        assert self.go_on.acquire(timeout=20)
        self.asked.append(f"append {len(batch)}")
        return list(range(1, len(batch) + 1))

    def checkpoint(self) -> None:
        """Called by the appender."""
        self.asked.append("checkpoint")
        self.copied.release()
        if self.fault is not None:
            raise self.fault


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", ["append 1", "checkpoint", "append 2", "checkpoint"]),
        (b"x" * GROUP_BYTES, ["append 1", "append 2", "checkpoint"]),
    ],
)
def test_the_wal_is_copied_while_nobody_waits_for_an_answer(appending: Appending, body: bytes, expected: list[str]):
    """Behind each commit, but for a large one that others have waited for: they come first."""
    log = Log()

    async def three() -> None:
        first = writer.recorded(delivery(body))
        await asyncio.to_thread(log.begun.acquire)
        behind = [writer.recorded(delivery()) for _ in range(2)]
        await asyncio.sleep(0)  # They are handed over at the end of the loop's turn.
        await asyncio.sleep(0)
        log.go_on.release(2)
        await asyncio.gather(first, *behind)

    with appending(log.append, log.checkpoint, lambda: NOW, bytes) as writer:
        asyncio.run(three())
    assert log.asked == expected


def test_a_large_group_that_nobody_waits_behind_is_copied_at_once(appending: Appending):
    """There may be no other for hours."""
    log = Log()
    log.go_on.release()
    with appending(log.append, log.checkpoint, lambda: NOW, bytes) as writer:
        asyncio.run(recorded(writer, [b"x" * GROUP_BYTES]))
        # Not at the end, which looks like more that waits.
        assert log.copied.acquire(timeout=20)
    assert log.asked == ["append 1", "checkpoint"]


def test_a_wal_that_can_not_be_copied_is_told_and_costs_nothing(appending: Appending):
    """What was recorded is in it; the next commit is followed by another attempt."""
    log = Log()
    log.go_on.release(2)
    log.fault = LogUnavailable("the WAL can't be copied into the log: disk I/O error", passing=True)
    with (
        capture_logs() as lines,
        appending(log.append, log.checkpoint, lambda: NOW, bytes) as writer,
    ):
        assert asyncio.run(recorded(writer, [b"1"])) == [1]
        assert asyncio.run(recorded(writer, [b"2"])) == [1]
        assert writer.failure is None
    assert log.asked == ["append 1", "checkpoint"] * 2
    assert [(line["log_level"], line["reason"]) for line in lines] == [("warning", str(log.fault))] * 2


@pytest.mark.parametrize(
    ("name", "bound"), [("GROUP_DELIVERIES", 10), ("GROUP_BYTES", 10 * len(encode(delivery(b"x" * 10))))]
)
def test_a_group_is_bounded(receiver: Receiver, monkeypatch: pytest.MonkeyPatch, name: str, bound: int):
    """A commit takes so many deliveries, or so many bytes, and leaves the rest to the next."""
    for module in (appender, writers):
        monkeypatch.setattr(module, name, bound)

    async def many() -> None:
        receiver.tape.open.clear()
        waiting = asyncio.ensure_future(recorded(receiver.writer, [b"x" * 10] * 36))
        await receiver.until_waiting(36)
        receiver.tape.open.set()
        assert await waiting == list(range(1, 37))

    asyncio.run(many())
    assert max(receiver.tape.sizes) == 10


def test_a_group_takes_one_body_larger_than_its_bound(receiver: Receiver, monkeypatch: pytest.MonkeyPatch):
    """A bound on bytes never keeps out what the receiver has let in."""
    for module in (appender, writers):
        monkeypatch.setattr(module, "GROUP_BYTES", 5)
    assert asyncio.run(recorded(receiver.writer, [b"x" * 50])) == [1]


def test_keys_follow_the_order_of_positions(receiver: Receiver):
    """Ids carry the time of their commit, so the log's index grows at its end."""
    for _ in range(3):
        asyncio.run(recorded(receiver.writer, [b"1"]))
    with closing(sqlite3.connect(receiver.folder / "log.db")) as connection:
        ids = [row[0] for row in connection.execute("SELECT originator_id FROM stored_events ORDER BY rowid")]
    assert ids == sorted(ids)


def test_randomness_is_drawn_from_a_stock(appending: Appending, receiver: Receiver, monkeypatch: pytest.MonkeyPatch):
    """Once for many groups, more where a group needs more, and no byte is used twice: ids of one millisecond differ."""
    monkeypatch.setattr(appender, "DRAWN_BYTES", 250)
    drawn: list[int] = []

    def entropy(size: int) -> bytes:
        drawn.append(size)
        return os.urandom(size)

    with appending(receiver.tape, no_checkpoint, lambda: NOW, entropy) as writer:
        for size in (10, 10, 10, 100):
            asyncio.run(recorded(writer, [b"x"] * size))
    with closing(sqlite3.connect(receiver.folder / "log.db")) as connection:
        ids = [row[0] for row in connection.execute("SELECT originator_id FROM stored_events")]
    assert len({one[-16:] for one in ids}) == 130
    assert receiver.tape.sizes == [10, 10, 10, 100]
    assert drawn == [250, 250, 1_000]


def test_an_append_that_does_not_account_for_everyone_is_a_failure(appending: Appending):
    """Nobody is told a position that the log did not give."""
    with appending(lambda _: [], no_checkpoint, lambda: NOW, bytes) as writer:
        errors = asyncio.run(recorded(writer, [b"x"]))
    assert "1 deliveries were given 0 positions" in str(errors[0])
    assert writer.failure is not None


def test_a_log_that_can_not_be_opened_is_the_same_error_as_here(tmp_path: Path):
    """With its kind, its words, and no process left behind."""
    (tmp_path / "log.db").mkdir()
    with pytest.raises(LogUnavailable) as here:
        open_to_append(tmp_path / "log.db")
    with pytest.raises(LogUnavailable) as there, appender.started(tmp_path / "log.db", 4096):
        pass
    assert str(there.value) == str(here.value)


@pytest.mark.parametrize("kind", [ConfigurationError, LogError, LogNotThere, LogUnavailable])
def test_what_opening_a_log_raises_comes_across(kind: type[Exception]):
    """By a closed list of names."""
    assert appender.ERRORS[kind.__name__] is kind


def test_an_appender_that_does_not_come_up_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The receiver does not wait for it for ever."""
    monkeypatch.setattr(appender, "PROGRAM", (sys.executable, "-c", "raise SystemExit(3)"))
    with pytest.raises(LogUnavailable, match="ended by itself"), appender.started(tmp_path / "log.db", 4096):
        pass


def test_an_appender_that_can_not_be_started_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As where the system has no process or descriptor left."""
    monkeypatch.setattr(appender, "PROGRAM", (str(tmp_path / "nothing"),))
    with (
        pytest.raises(LogUnavailable, match="no process can be started"),
        appender.started(tmp_path / "log.db", 4096),
    ):
        pass


HANGING = """
import socket, time
from ingest import channel
socket.socket(fileno=0).sendall(channel.said(channel.Opened()))
time.sleep(60)
"""


def test_an_appender_that_does_not_end_keeps_nobody_from_stopping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its disk may hang for ever. The error says which process is left, and what it keeps from starting."""
    monkeypatch.setattr(appender, "PROGRAM", (sys.executable, "-c", HANGING))
    monkeypatch.setattr(appender, "STOP_S", 0.01)
    begun: list[subprocess.Popen[bytes]] = []
    begin = appender._process

    def remembered(*what: Any) -> subprocess.Popen[bytes]:
        begun.append(begin(*what))
        return begun[-1]

    monkeypatch.setattr(appender, "_process", remembered)
    with pytest.raises(LogUnavailable, match="left at work") as caught, appender.started(tmp_path / "log.db", 4096):
        pass
    assert f"`kill -KILL {begun[0].pid}`" in str(caught.value)
    begun[0].kill()
    begun[0].wait()


def test_a_receiver_that_ends_with_answers_unread_is_an_end_as_any_other(clock: Clock):
    """The channel is reset then, rather than closed."""
    ours, its = socket.socketpair()
    with its, closing(Ring(4096)) as ring:
        its.send(b"an answer")
        ours.close()
        appender.Appender(
            its,
            mapped(ring.descriptor),
            lambda _: [],
            checkpoint=no_checkpoint,
            clock=clock,
            entropy=bytes,
            timer=lambda: 0.0,
        ).run()


ORPHANED = """
import os, signal, sys
from pathlib import Path
from ingest import appender, channel
from schema.event import Delivery, encode

folder = Path(sys.argv[1])
with appender.started(folder / "log.db", 4096) as (connection, ring):
    envelope = encode(Delivery("2026-05-01T00:00:00.000000Z", "main", "", {}, b"{}"))
    group = channel.group(ring.put([envelope], len(envelope)), [len(envelope)])
    connection.sendall(group[:-1] if "cut" in sys.argv else group)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("how", "kept"), [("whole", 1), ("cut", 0)])
def test_what_was_handed_over_whole_outlives_the_receiver(tmp_path: Path, how: str, kept: int):
    """It is appended though nobody is there to be told; what was cut off is not."""
    # It ends when the appender has: its output is inherited.
    done = subprocess.run([sys.executable, "-c", ORPHANED, str(tmp_path), how], check=False, capture_output=True)
    assert done.returncode < 0
    with open_to_read(tmp_path / "log.db") as log:
        assert [event.delivery.body for event in log.after(0)] == [b"{}"] * kept


def test_signals_that_stop_a_service_do_not_stop_the_appender(tmp_path: Path):
    """The receiver has still something to hand over; its end is the end of the channel."""
    with appender.started(tmp_path / "log.db", 4096) as (connection, ring):
        children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
        if not children.exists():
            pytest.skip("needs Linux, to tell who is whose child")
        for child in map(int, children.read_text().split()):
            if b"ingest.appender" in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(child, signal.SIGTERM)
                os.kill(child, signal.SIGINT)
        envelope = encode(delivery())
        connection.sendall(channel.group(ring.put([envelope], len(envelope)), [len(envelope)]))
        assert b"Kept" in connection.recv(100)
