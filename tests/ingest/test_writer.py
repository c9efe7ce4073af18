from __future__ import annotations

import asyncio
import errno
import os
import socket
import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

import pytest
import uvloop
from structlog.testing import capture_logs

from ingest import channel
from ingest import writer as module
from ingest.appender import Appender
from ingest.channel import Kept
from ingest.counts import Counts
from ingest.limits import LARGE_BODY_BYTES
from ingest.ring import Ring, mapped
from ingest.writer import Writer
from schema import event as events
from schema.errors import LogError, LogUnavailable
from schema.event import Delivery, instant
from schema.log import open_to_append
from schema.log_sqlite import is_passing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from schema.log import NewRow
    from schema.log_sqlite import Recorder
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


def sqlite_error(name: str, kind: type[sqlite3.Error] = sqlite3.OperationalError) -> LogUnavailable:
    """An append's error as the log raises it, caused by SQLite's of that name."""
    cause = kind(name)
    cause.sqlite_errorcode = getattr(sqlite3, name)
    library = RuntimeError("the library's own")
    library.__cause__ = cause
    error = LogUnavailable(f"1 deliveries can't be appended: {name}", passing=is_passing(library))
    error.__cause__ = library
    return error


def test_all_that_wait_share_a_commit(receiver: Receiver):
    """Deliveries that come while the disk is busy cost one commit more, however many they are."""

    async def fifty() -> list[int]:
        receiver.tape.open.clear()
        waiting = [receiver.writer.recorded(delivery(b"0"))]
        await receiver.until_waiting(1)
        for n in range(1, 50):
            waiting.append(receiver.writer.recorded(delivery(b"%d" % n)))
            await asyncio.sleep(0)
        await receiver.until_waiting(50)
        receiver.tape.open.set()
        async with asyncio.timeout(20):
            return await asyncio.gather(*waiting)

    assert asyncio.run(fifty()) == list(range(1, 51))
    assert [event.delivery.body for event in receiver.events()] == [b"%d" % n for n in range(50)]
    assert receiver.tape.sizes == [1, 49]


def test_what_comes_in_one_turn_of_the_loop_shares_a_commit(receiver: Receiver):
    """Also where nothing was under way before."""
    assert asyncio.run(recorded(receiver.writer, [b"x"] * 30)) == list(range(1, 31))
    assert receiver.tape.sizes == [30]


async def ten_waiting(receiver: Receiver) -> list[asyncio.Future[int]]:
    """One delivery at the log, and nine behind it."""
    receiver.tape.open.clear()
    waiting = [receiver.writer.recorded(delivery(b"0"))]
    await receiver.until_waiting(1)
    waiting += [receiver.writer.recorded(delivery(b"%d" % n)) for n in range(1, 10)]
    return waiting


def test_a_delivery_whose_request_was_given_up_is_recorded_all_the_same(receiver: Receiver):
    """A request that is cancelled disturbs nobody else's."""

    async def give_up() -> list[int]:
        waiting = await ten_waiting(receiver)
        for given_up in waiting[:5]:
            given_up.cancel()
        receiver.tape.open.set()
        async with asyncio.timeout(20):
            return await asyncio.gather(*waiting[5:])

    assert asyncio.run(give_up()) == [6, 7, 8, 9, 10]
    assert [event.delivery.body for event in receiver.events()] == [b"%d" % n for n in range(10)]


@pytest.mark.parametrize("fault", [None, LogUnavailable("no")])
def test_a_loop_that_has_ended_keeps_the_writer_from_nothing(receiver: Receiver, fault: Exception | None):
    """What waits when the server is gone is recorded, or not, and nobody is there to be told."""

    async def leave() -> None:
        await ten_waiting(receiver)

    asyncio.run(leave())
    receiver.tape.fault = fault
    receiver.tape.open.set()
    with capture_logs():
        receiver.writer.__exit__(None, None, None)
    assert len(receiver.events()) == (0 if fault else 10)


@pytest.mark.parametrize(
    "fault",
    [
        sqlite_error("SQLITE_IOERR_FSYNC"),
        sqlite_error("SQLITE_IOERR_READ"),
        sqlite_error("SQLITE_CORRUPT", sqlite3.DatabaseError),
        sqlite_error("SQLITE_READONLY_DBMOVED"),
        sqlite_error("SQLITE_ERROR"),
        LogUnavailable("of unknown cause"),
        LogError("not even this"),
        MemoryError(),
        ZeroDivisionError("a defect"),
    ],
    ids=str,
)
def test_after_a_failure_of_unknown_depth_the_writer_never_appends_again(receiver: Receiver, fault: Exception):
    """A failed fsync, or anything not known to be harmless: every delivery is refused until a restart."""
    asyncio.run(recorded(receiver.writer, [b"before"]))
    receiver.tape.fault = fault
    with capture_logs() as lines:
        errors = asyncio.run(recorded(receiver.writer, [b"during", b"during"]))
        receiver.tape.fault = None
        appends = len(receiver.tape.sizes)
        errors += asyncio.run(recorded(receiver.writer, [b"after"]))
    assert [type(error) for error in errors] == [LogUnavailable] * 3
    assert "must be started again" in str(errors[-1])
    assert receiver.writer.failure is not None
    assert len(receiver.tape.sizes) == appends
    assert [line["log_level"] for line in lines] == ["error"]
    assert [event.delivery.body for event in receiver.events()] == [b"before"]


def locked(receiver: Receiver) -> Callable[[], object]:
    """Another process is writing to the log."""
    other = sqlite3.connect(receiver.folder / "log.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other.close


def full(receiver: Receiver) -> Callable[[], object]:
    """The log may not grow by another page."""
    pragma(receiver, "max_page_count=1")
    return lambda: pragma(receiver, "max_page_count=1000000")


def read_only(receiver: Receiver) -> Callable[[], object]:
    """The log may be read, not written."""
    pragma(receiver, "query_only=ON")
    return lambda: pragma(receiver, "query_only=OFF")


def pragma(receiver: Receiver, setting: str) -> None:
    cast("Recorder", receiver.tape.log.recorder).execute(f"PRAGMA {setting}")


@pytest.mark.parametrize("cause", [locked, full, read_only])
def test_a_fault_that_leaves_nothing_behind_passes(
    receiver: Receiver, cause: Callable[[Receiver], Callable[[], object]]
):
    """Locked, full or read-only: what comes meanwhile is refused, and recorded again once the cause is gone."""
    pragma(receiver, "busy_timeout=0")
    asyncio.run(recorded(receiver.writer, [b"before"]))
    end = cause(receiver)
    body = b"x" * 100_000
    with capture_logs() as lines:
        errors = asyncio.run(recorded(receiver.writer, [body] * 3))
    assert [type(error) for error in errors] == [LogUnavailable] * 3
    assert {line["event"] for line in lines} == {"deliveries refused"}
    assert receiver.writer.failure is None
    end()
    assert asyncio.run(recorded(receiver.writer, [b"after"])) == [2]
    assert [event.delivery.body for event in receiver.events()] == [b"before", b"after"]


def troubles(receiver: Receiver, clock: Clock, later: timedelta = timedelta(seconds=2)) -> str | None:
    """What the writer says of itself, so much later."""
    clock.now += later
    with capture_logs():
        return asyncio.run(receiver.writer.trouble())


def test_whether_the_log_can_be_written_is_found_out_by_writing(receiver: Receiver, clock: Clock):
    """Without an event: trouble shows before the first delivery meets it, and is over when its cause is."""
    assert troubles(receiver, clock) is None
    end = full(receiver)
    asyncio.run(refused(receiver, b"x" * 100_000))
    assert "full" in str(troubles(receiver, clock, timedelta(0)))
    end()
    assert "full" in str(troubles(receiver, clock, timedelta(0)))
    assert troubles(receiver, clock) is None
    end = read_only(receiver)
    assert "readonly" in str(troubles(receiver, clock))
    end()
    assert troubles(receiver, clock) is None
    assert asyncio.run(recorded(receiver.writer, [b"after"])) == [1]


async def refused(receiver: Receiver, body: bytes) -> None:
    with capture_logs(), pytest.raises(LogUnavailable):
        await receiver.writer.recorded(delivery(body))


def test_a_trial_is_not_had_for_the_asking(receiver: Receiver, clock: Clock):
    """Those who ask at a time share one, and what was tried within the second is known."""

    async def ask() -> None:
        assert await asyncio.gather(*[receiver.writer.trouble() for _ in range(20)]) == [None] * 20

    clock.now += timedelta(seconds=2)
    asyncio.run(ask())
    asyncio.run(ask())
    assert receiver.tape.sizes == [0]


def test_a_writer_that_has_stopped_is_in_trouble_without_another_trial(receiver: Receiver, clock: Clock):
    """And its trouble is what stopped it, with what to do."""
    receiver.tape.fault = sqlite_error("SQLITE_IOERR_FSYNC")
    asyncio.run(refused(receiver, b"{}"))
    assert "must be started again" in str(troubles(receiver, clock))
    assert receiver.tape.sizes == [1]


def test_a_log_that_hangs_is_trouble(receiver: Receiver, clock: Clock, monkeypatch: pytest.MonkeyPatch):
    """Whoever asks is not kept waiting for a disk that does not answer."""
    monkeypatch.setattr(module, "TRIAL_WAIT_S", 0.01)
    receiver.tape.open.clear()
    assert "did not answer" in str(troubles(receiver, clock))
    receiver.tape.open.set()


def test_a_trial_ends_with_the_appender(receiver: Receiver, clock: Clock):
    """Whoever asks is told why, and not kept waiting."""
    receiver.tape.fault = sqlite_error("SQLITE_IOERR_FSYNC")
    assert "must be started again" in str(troubles(receiver, clock))
    assert receiver.writer.failure is not None


def test_trouble_and_its_end_are_told_in_the_log(receiver: Receiver):
    """What went wrong when it began, and that it is over, once each time."""
    end = full(receiver)
    with capture_logs() as lines:
        errors = asyncio.run(recorded(receiver.writer, [b"x" * 100_000]))
        end()
        asyncio.run(recorded(receiver.writer, [b"y"]))
        asyncio.run(recorded(receiver.writer, [b"z"]))
    assert [type(error) for error in errors] == [LogUnavailable]
    assert [line["event"] for line in lines] == ["deliveries refused", "deliveries are recorded again"]
    assert "full" in lines[1]["after"]


@pytest.mark.parametrize("size", [10, LARGE_BODY_BYTES + 1])
def test_what_the_ring_has_no_room_for_waits(appending: Appending, folder: Path, clock: Clock, size: int):
    """And is recorded in its turn, with its bytes, whatever lies in the ring then."""
    bodies = [b"%d" % (n % 10) * (size + n % 7) for n in range(40)]
    with (
        open_to_append(folder / "log.db") as log,
        appending(log.append_rows, log.checkpoint, clock, os.urandom, 3 * (size + 200)) as writer,
    ):
        assert asyncio.run(recorded(writer, bodies)) == list(range(1, 41))
        assert [event.delivery.body for event in log.after(0)] == bodies


def test_what_the_channel_does_not_take_waits(clock: Clock):
    """Groups that the appender has not read are sent when it reads again, each once and in order."""
    ours, its = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    taken: list[int] = []

    def append(rows: Sequence[NewRow]) -> list[int]:
        first = len(taken) + 1
        taken.extend(int(events.decode(bytes(row[3])).body) for row in rows)
        return list(range(first, len(taken) + 1))

    def run() -> None:
        with its:
            Appender(
                its, mapped(ring.descriptor), append, checkpoint=lambda: None, clock=clock, entropy=bytes, timer=float
            ).run()

    async def many() -> list[int]:
        waiting = []
        for n in range(1_000):
            waiting.append(writer.recorded(delivery(b"%d" % n)))
            await asyncio.sleep(0)
        assert writer._unsent
        thread.start()
        async with asyncio.timeout(20):
            return await asyncio.gather(*waiting)

    thread = threading.Thread(target=run)
    with closing(Ring(1024 * 1024)) as ring, ours:
        with Writer(ours, ring, counts=Counts(), clock=clock) as writer:
            assert asyncio.run(many()) == list(range(1, 1_001))
        thread.join(20)
    assert taken == list(range(1_000))


async def handed_over(writer: Writer, bodies: Sequence[bytes]) -> list[asyncio.Future[int]]:
    """Each body in a group of its own; nobody waits for what becomes of them."""
    waiting = []
    for body in bodies:
        waiting.append(writer.recorded(delivery(body)))
        await asyncio.sleep(0)
    return waiting


def test_what_the_channel_has_not_taken_when_the_loop_ends_is_sent_all_the_same(clock: Clock):
    """With all that was handed over before."""
    ours, its = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    taken: list[bytes] = []

    def append(rows: Sequence[NewRow]) -> list[int]:
        taken.extend(events.decode(bytes(row[3])).body for row in rows)
        return list(range(len(taken) - len(rows) + 1, len(taken) + 1))

    def run() -> None:
        with its:
            Appender(
                its, mapped(ring.descriptor), append, checkpoint=lambda: None, clock=clock, entropy=bytes, timer=float
            ).run()

    thread = threading.Thread(target=run)
    bodies = [b"%d" % n for n in range(100)]
    with closing(Ring(1024 * 1024)) as ring, ours:
        with Writer(ours, ring, counts=Counts(), clock=clock) as writer:
            asyncio.run(handed_over(writer, bodies))
            assert writer._unsent
            thread.start()
        thread.join(20)
    assert taken == bodies


@pytest.mark.parametrize("deliveries", [1, 1_000])
def test_an_appender_that_is_silent_keeps_nobody_from_stopping(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, deliveries: int
):
    """Whether it has been sent all that waits, or can't take more of it; what becomes of that is not known."""
    monkeypatch.setattr(module, "APPENDER_S", 0.01)
    ours, its = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    with closing(Ring(1024 * 1024)) as ring, ours, its, capture_logs() as lines:
        with Writer(ours, ring, counts=Counts(), clock=clock) as writer:
            asyncio.run(handed_over(writer, [b"{}"] * deliveries))
        assert writer.failure == module.SILENT
    assert [line["deliveries"] for line in lines] == [deliveries]


class Scarce(socket.socket):
    """A socket that the system has no memory for, once."""

    scarce = False

    def send(self, data: bytes, flags: int = 0) -> int:  # type: ignore[override]
        """Send, or fail."""
        if self.scarce:
            self.scarce = False
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        return super().send(data, flags)

    def sendall(self, data: bytes, flags: int = 0) -> None:  # type: ignore[override]
        """Send all, or fail."""
        self.send(data, flags)


@pytest.mark.parametrize("side", ["receiver", "appender"])
def test_what_gets_lost_on_the_channel_is_answered_by_nothing_else(clock: Clock, side: str):
    """An answer names nobody: what follows what is lost would be taken for it. So nothing follows."""
    ours, its = (Scarce(fileno=each.detach()) for each in socket.socketpair())
    (ours if side == "receiver" else its).scarce = True
    kept: list[bytes] = []
    full = sqlite_error("SQLITE_FULL")

    def append(rows: Sequence[NewRow]) -> list[int]:
        bodies = [events.decode(bytes(row[3])).body for row in rows]
        if b"first" in bodies:
            raise full
        kept.extend(bodies)
        return list(range(1, len(rows) + 1))

    def run() -> None:
        with its:
            Appender(
                its, mapped(ring.descriptor), append, checkpoint=lambda: None, clock=clock, entropy=bytes, timer=float
            ).run()

    async def two() -> list[int | BaseException]:
        waiting = await handed_over(writer, [b"first"])
        waiting += await handed_over(writer, [b"second"])
        thread.start()
        async with asyncio.timeout(20):
            return await asyncio.gather(*waiting, return_exceptions=True)

    thread = threading.Thread(target=run)
    with closing(Ring(1024 * 1024)) as ring, ours, capture_logs():
        with Writer(ours, ring, counts=Counts(), clock=clock) as writer:
            assert [type(outcome) for outcome in asyncio.run(two())] == [LogUnavailable] * 2
            assert writer.bereft
        thread.join(20)


def test_who_waits_behind_a_failure_that_does_not_pass_is_refused_with_it(clock: Clock):
    """At once, and not when the appender has closed a log whose disk may hang."""

    async def two() -> list[int | BaseException]:
        waiting = await handed_over(writer, [b"1", b"2"])
        its.sendall(channel.said(channel.Refused(1, "disk I/O error", passing=False)))
        async with asyncio.timeout(20):
            return await asyncio.gather(*waiting, return_exceptions=True)

    ours, its = socket.socketpair()
    with (
        closing(Ring(1024 * 1024)) as ring,
        ours,
        its,
        capture_logs(),
        Writer(ours, ring, counts=Counts(), clock=clock) as writer,
    ):
        errors = asyncio.run(two())
    assert ["disk I/O error" in str(error) for error in errors] == [True] * 2


@pytest.mark.parametrize("said", [b"", channel.said(Kept([1], 0.0))], ids=["nothing", "of the first"])
def test_an_appender_that_ends_without_a_word_leaves_nobody_waiting(clock: Clock, said: bytes):
    """All who wait are refused, those behind them too, though it had not read all, and whatever it said before."""

    async def bereft() -> list[int | BaseException]:
        first = asyncio.ensure_future(recorded(writer, [b"1"]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        others = asyncio.ensure_future(recorded(writer, [b"2", b"3" * LARGE_BODY_BYTES]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not writer.bereft
        its.send(said)
        its.close()
        return [*await first, *await others]

    ours, its = socket.socketpair()
    with (
        closing(Ring(1024 * 1024)) as ring,
        ours,
        capture_logs() as lines,
        Writer(ours, ring, counts=Counts(), clock=clock) as writer,
    ):
        # As the receiver runs: what the loop tells of a socket differs.
        first, *others = uvloop.run(bereft())
        others += uvloop.run(recorded(writer, [b"4"]))
        assert writer.bereft
    assert first == 1 if said else str(first) == module.ENDED
    assert [str(error) for error in others] == [module.ENDED] * 3
    assert [line["event"] for line in lines] == ["the appender says nothing more"]


def test_an_answer_that_fails_costs_nobody_else(receiver: Receiver):
    """The others of its group get theirs."""

    async def answered() -> list[object]:
        outcomes: list[object] = []
        done = asyncio.Event()

        def broken(_outcome: object) -> None:
            raise ZeroDivisionError

        def last(outcome: object) -> None:
            outcomes.append(outcome)
            done.set()

        for answer in (outcomes.append, broken, last):
            receiver.writer.record(delivery(), answer)
        async with asyncio.timeout(20):
            await done.wait()
        return outcomes

    with capture_logs() as lines:
        assert asyncio.run(answered()) == [1, 3]
    assert [line["event"] for line in lines] == ["a delivery could not be answered"]
