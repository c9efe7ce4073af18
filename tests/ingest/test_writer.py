from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from threading import Semaphore
from typing import TYPE_CHECKING, cast

import pytest
from structlog.testing import capture_logs

from ingest import writer as module
from ingest.limits import GROUP_BYTES
from ingest.writer import TAKEN_AT_ONCE, Writer
from schema.errors import LogError, LogUnavailable
from schema.event import Delivery, instant
from schema.log_sqlite import is_passing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from schema.event import WebhookReceived
    from schema.log_sqlite import Recorder
    from tests.ingest.conftest import Clock, Receiver

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


def no_checkpoint() -> None:
    """Nothing is left for later."""


class Log:
    """Appends nowhere, and writes down what it is asked for; a commit waits until the test lets it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.begun = Semaphore(0)
        self.go_on = Semaphore(0)
        self.fault: Exception | None = None

    def append(self, batch: Sequence[WebhookReceived]) -> list[int]:
        """Called by the writer, in its thread."""
        self.begun.release()
        assert self.go_on.acquire(timeout=20)
        self.asked.append(f"append {len(batch)}")
        return list(range(1, len(batch) + 1))

    def checkpoint(self) -> None:
        """Called by the writer, in its thread."""
        self.asked.append("checkpoint")
        if self.fault is not None:
            raise self.fault


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", ["append 1", "checkpoint", "append 2", "checkpoint"]),
        (b"x" * GROUP_BYTES, ["append 1", "append 2", "checkpoint"]),
    ],
)
def test_the_wal_is_copied_while_nobody_waits_for_an_answer(body: bytes, expected: list[str]):
    """Behind each commit, but for a large one that others have waited for: they come first."""
    log = Log()

    async def three() -> None:
        first = writer.recorded(delivery(body))
        await asyncio.to_thread(log.begun.acquire)
        behind = [writer.recorded(delivery()) for _ in range(2)]
        log.go_on.release(2)
        await asyncio.gather(first, *behind)

    with Writer(log.append, checkpoint=log.checkpoint, clock=lambda: NOW, entropy=bytes) as writer:
        asyncio.run(three())
    assert log.asked == expected


def test_a_large_group_that_nobody_waits_behind_is_copied_at_once():
    """There may be no other for hours."""
    log = Log()
    log.go_on.release()
    with Writer(log.append, checkpoint=log.checkpoint, clock=lambda: NOW, entropy=bytes) as writer:
        asyncio.run(recorded(writer, [b"x" * GROUP_BYTES]))
    assert log.asked == ["append 1", "checkpoint"]


def test_a_wal_that_can_not_be_copied_is_told_and_costs_nothing():
    """What was recorded is in it; the next commit is followed by another attempt."""
    log = Log()
    log.go_on.release(2)
    log.fault = LogUnavailable("the WAL can't be copied into the log: disk I/O error", passing=True)
    with (
        capture_logs() as lines,
        Writer(log.append, checkpoint=log.checkpoint, clock=lambda: NOW, entropy=bytes) as writer,
    ):
        assert asyncio.run(recorded(writer, [b"1"])) == [1]
        assert asyncio.run(recorded(writer, [b"2"])) == [1]
        assert writer.failure is None
    assert log.asked == ["append 1", "checkpoint"] * 2
    assert [(line["log_level"], line["reason"]) for line in lines] == [("warning", str(log.fault))] * 2


def test_all_that_wait_share_a_commit_and_a_wake_up(receiver: Receiver):
    """Deliveries that come while the disk is busy cost one commit more, and one call to the loop."""
    wake_ups = 0

    async def fifty() -> list[int]:
        loop = asyncio.get_running_loop()
        call = loop.call_soon_threadsafe

        def counted(callback: Callable[..., object], *args: object) -> asyncio.Handle:
            nonlocal wake_ups
            wake_ups += 1
            return call(callback, *args)

        loop.call_soon_threadsafe = counted  # type: ignore[assignment,method-assign]
        receiver.tape.open.clear()
        waiting = [receiver.writer.recorded(delivery(b"0"))]
        await receiver.until_waiting(1)
        for n in range(1, 50):
            waiting.append(receiver.writer.recorded(delivery(b"%d" % n)))
            await asyncio.sleep(0)
        receiver.tape.open.set()
        async with asyncio.timeout(20):
            return await asyncio.gather(*waiting)

    positions = asyncio.run(fifty())
    assert positions == list(range(1, 51))
    assert [event.delivery.body for event in receiver.events()] == [b"%d" % n for n in range(50)]
    assert receiver.tape.sizes == [1, 49]
    assert wake_ups == 2


@pytest.mark.parametrize(
    ("waiting", "groups"),
    [(TAKEN_AT_ONCE, [1, TAKEN_AT_ONCE, 2]), (TAKEN_AT_ONCE - 1, [1, TAKEN_AT_ONCE + 1])],
)
def test_few_that_wait_are_joined_by_those_of_the_turn(waiting: int, groups: list[int]):
    """A commit that ends while the loop is busy takes many at once, and lets few wait for the rest that the loop reads."""
    log, answering = Log(), Semaphore(0)

    async def record() -> None:
        loop = asyncio.get_running_loop()
        call = loop.call_soon_threadsafe

        def told(callback: Callable[..., object], *args: object) -> asyncio.Handle:
            handle = call(callback, *args)
            answering.release()
            return handle

        loop.call_soon_threadsafe = told  # type: ignore[assignment,method-assign]
        recorded = [writer.recorded(delivery())]
        await asyncio.sleep(0)
        recorded += [writer.recorded(delivery()) for _ in range(waiting)]
        # The loop's turn lasts until the first is committed, and goes on.
        log.go_on.release()
        assert answering.acquire(timeout=20)
        recorded += [writer.recorded(delivery()) for _ in range(2)]
        log.go_on.release(2)
        await asyncio.gather(*recorded)

    with Writer(log.append, checkpoint=no_checkpoint, clock=lambda: NOW, entropy=bytes) as writer:
        asyncio.run(record())
    assert log.asked == [f"append {size}" for size in groups]


def test_what_comes_in_one_turn_of_the_loop_shares_a_commit(receiver: Receiver):
    """Also where nothing was under way before."""
    assert asyncio.run(recorded(receiver.writer, [b"x"] * 30)) == list(range(1, 31))
    assert receiver.tape.sizes == [30]


@pytest.mark.parametrize(("name", "bound"), [("GROUP_DELIVERIES", 10), ("GROUP_BYTES", 100)])
def test_a_group_is_bounded(receiver: Receiver, monkeypatch: pytest.MonkeyPatch, name: str, bound: int):
    """A commit takes so many deliveries, or so many bytes, and leaves the rest to the next."""
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
    monkeypatch.setattr(module, "GROUP_BYTES", 5)
    assert asyncio.run(recorded(receiver.writer, [b"x" * 50])) == [1]


def test_keys_follow_the_order_of_positions(receiver: Receiver):
    """Ids carry the time of their commit, so the log's index grows at its end."""
    for _ in range(3):
        asyncio.run(recorded(receiver.writer, [b"1"]))
    with closing(sqlite3.connect(receiver.folder / "log.db")) as connection:
        ids = [row[0] for row in connection.execute("SELECT originator_id FROM stored_events ORDER BY rowid")]
    assert ids == sorted(ids)


def test_randomness_is_drawn_from_a_stock(receiver: Receiver, monkeypatch: pytest.MonkeyPatch):
    """Once for many groups, more where a group needs more, and no byte is used twice: ids of one millisecond differ."""
    monkeypatch.setattr(module, "DRAWN_BYTES", 250)
    drawn: list[int] = []

    def entropy(size: int) -> bytes:
        drawn.append(size)
        return os.urandom(size)

    with Writer(receiver.tape, checkpoint=no_checkpoint, clock=lambda: NOW, entropy=entropy) as writer:
        for size in (10, 10, 10, 100):
            asyncio.run(recorded(writer, [b"x"] * size))
    with closing(sqlite3.connect(receiver.folder / "log.db")) as connection:
        ids = [row[0] for row in connection.execute("SELECT originator_id FROM stored_events")]
    assert len({one[-16:] for one in ids}) == 130
    assert receiver.tape.sizes == [10, 10, 10, 100]
    assert drawn == [250, 250, 1_000]


def test_stopping_commits_and_answers_what_waits(receiver: Receiver):
    """What was taken in before the stop is recorded; what comes after it is refused."""

    async def stop_with_ten_waiting() -> list[int]:
        waiting = await ten_waiting(receiver)
        stopping = asyncio.get_running_loop().run_in_executor(None, receiver.writer.__exit__, None, None, None)
        async with asyncio.timeout(20):
            while not receiver.writer._closed:  # noqa: ASYNC110 - in another thread
                await asyncio.sleep(0)
            with pytest.raises(LogUnavailable, match="stopping"):
                receiver.writer.recorded(delivery())
            receiver.tape.open.set()
            await stopping
            return await asyncio.gather(*waiting)

    assert asyncio.run(stop_with_ten_waiting()) == list(range(1, 11))


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


def test_an_append_that_does_not_account_for_everyone_is_a_failure():
    """Nobody is told a position that the log did not give."""
    with Writer(lambda _: [], checkpoint=no_checkpoint, clock=lambda: NOW, entropy=bytes) as writer:
        errors = asyncio.run(recorded(writer, [b"x"]))
    assert "1 deliveries were given 0 positions" in str(errors[0])
    assert writer.failure is not None


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


def test_a_writer_that_ends_keeps_nobody_waiting(receiver: Receiver, clock: Clock):
    """A trial at the very end is finished, and one after it is not begun."""

    async def ask_and_end() -> str | None:
        clock.now += timedelta(seconds=2)
        receiver.tape.open.clear()
        asked = asyncio.ensure_future(receiver.writer.trouble())
        await asyncio.sleep(0)
        ending = asyncio.get_running_loop().run_in_executor(None, receiver.writer.__exit__, None, None, None)
        receiver.tape.open.set()
        await ending
        return await asked

    assert asyncio.run(ask_and_end()) is None
    assert troubles(receiver, clock) is None


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
