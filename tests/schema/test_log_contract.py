"""What any log keeps to, wherever it is kept: the same tests for a file and for a server."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from eventsourcing.persistence import StoredEvent

from schema.errors import LogError, LogUnavailable
from schema.event import CORRECTION, TOPIC, CorrectionRecorded, Delivery, WebhookReceived, decode, uuid7
from schema.log import open_to_append, open_to_read

if TYPE_CHECKING:
    from schema.log import Row

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

DEADLINE_S = 60


def event(n: int, body: bytes = b"{}", kind=WebhookReceived):
    """The n-th event; each n is another originator."""
    delivery = Delivery("2026-03-02T09:00:00.000000Z", "main", "127.0.0.1", {}, body)
    return kind(uuid7(NOW, lambda size: n.to_bytes(size, "big")), 1, delivery)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, tmp_path):
    """Where an empty log is, of each kind."""
    return tmp_path / "log.db" if request.param == "sqlite" else request.getfixturevalue("server_log")


@pytest.fixture
def log(place):
    with open_to_append(place) as opened:
        yield opened
    with open_to_read(place) as left:
        positions = [row[0] for row in left.stored_after(0, max_events=1_000_000, max_bytes=1 << 40)]
        assert positions == list(range(1, left.head() + 1))


def test_positions_count_from_one_in_the_order_of_appending(log):
    """A batch gets consecutive positions, the next goes on from there."""
    assert log.head() == 0
    assert log.after(0) == []
    assert log.append([event(1), event(2)]) == [1, 2]
    assert log.append([event(3)]) == [3]
    assert log.head() == 3


def test_what_is_read_is_what_was_appended(log, place):
    """Bodies come back byte for byte, to any reader, and from any position."""
    bodies = [b"", b"\xff\x00", b'{"_type_": "uuid_hex", "_data_": "x"}', bytes(range(256)) * 50]
    log.append([event(n, body) for n, body in enumerate(bodies)])
    with open_to_read(place) as reader:
        assert [found.delivery.body for found in reader.after(0)] == bodies
        assert [found.position for found in reader.after(2)] == [3, 4]
        found = reader.at(2)
        assert found is not None
        assert (found.position, found.delivery.body) == (2, b"\xff\x00")
        assert reader.at(99) is None


def test_a_page_is_bounded_by_events_and_by_bytes(log):
    """A page ends before it grows too large, but always has one event, however large."""
    log.append([event(n, b"x" * 1000) for n in range(5)])
    assert len(log.after(0, max_events=2)) == 2
    assert len(log.after(0, max_bytes=2500)) == 2
    assert [found.position for found in log.after(3, max_bytes=1)] == [4]
    for read in (log.stored_after, log.rows_after):
        assert [row[0] for row in read(1, max_bytes=1)] == [2]


def test_a_batch_of_large_bills_is_kept(log):
    """Ten megabytes an event: what one statement, pipeline or page could choke on."""
    bodies = [bytes([n]) * 10_000_000 for n in range(3)]
    assert log.append([event(n, body) for n, body in enumerate(bodies)]) == [1, 2, 3]
    assert [len(log.after(at)) for at in range(4)] == [1, 1, 1, 0]
    assert [log.at(n + 1).delivery.body for n in range(3)] == bodies


def test_rows_come_as_they_are_stored(log):
    """A proof reads topic and state as bytes."""
    log.append([event(1, b"\xff"), event(2)])
    rows = log.stored_after(0)
    assert [(at, topic) for at, topic, _ in rows] == [(1, TOPIC.encode()), (2, TOPIC.encode())]
    assert decode(rows[0][2]).body == b"\xff"


def test_an_id_can_not_be_used_twice_and_spoils_its_batch(log):
    """A batch is kept whole or not at all, and one refused takes no position."""
    log.append([event(1)])
    with pytest.raises(LogUnavailable, match="2 deliveries can't be appended"):
        log.append([event(2), event(1)])
    assert log.head() == 1
    assert log.append([event(2)]) == [2]


def test_corrections_are_found_among_deliveries(log):
    """In order, up to a position."""
    kinds = [WebhookReceived, CorrectionRecorded, WebhookReceived, CorrectionRecorded]
    log.append([event(n, kind=kind) for n, kind in enumerate(kinds)])
    assert [(found.position, found.topic) for found in log.corrections(4)] == [(2, CORRECTION), (4, CORRECTION)]
    assert [found.position for found in log.corrections(3)] == [2]
    assert log.corrections(0) == []


def test_rows_can_be_taken_over_as_they_are(log):
    """Ids, topics and states of another log, right after a position that is the end, or not at all."""
    log.append([event(1), event(2, kind=CorrectionRecorded)])
    rows = [row for _, row in log.rows_after(0)]
    assert rows[1][:3] == (event(2).originator_id, 1, CORRECTION)
    moved = [(event(n + 5).originator_id, *row[1:]) for n, row in enumerate(rows)]
    log.append_rows(moved, since=2)
    assert [row for _, row in log.rows_after(2)] == moved
    with pytest.raises(LogUnavailable, match="ends at position 4, not at 2"):
        log.append_rows([(event(9).originator_id, *rows[0][1:])], since=2)
    assert log.head() == 4


def test_an_empty_batch_is_a_commit_without_an_event(log):
    """It finds out whether the log can be written, and leaves no trace among the events."""
    log.append([event(1)])
    assert log.append([]) == []
    assert log.head() == 1


def test_a_wait_ends_when_another_appends(log, place):
    """Also when that was before the wait, and after the last look: nothing is missed."""
    stop = threading.Event()
    with open_to_read(place) as reader:
        reader.wait(stop, 0)
        assert reader.after(0) == []
        log.append([event(1)])
        before = time.monotonic()
        reader.wait(stop, DEADLINE_S)
        assert len(reader.after(0)) == 1
        reader.wait(stop, 0.2)
        later = threading.Timer(0.1, lambda: log.append([event(2)]))
        later.start()
        while not reader.after(1):
            reader.wait(stop, DEADLINE_S)
        assert time.monotonic() - before < DEADLINE_S
        later.join()


def test_a_wait_ends_when_told_to_stop(log):
    """Soon, whatever its time."""
    stop = threading.Event()
    log.wait(stop, 0.1)
    later = threading.Timer(0.1, stop.set)
    before = time.monotonic()
    later.start()
    while not stop.is_set():
        log.wait(stop, DEADLINE_S)
    assert time.monotonic() - before < DEADLINE_S
    later.join()


def test_one_has_a_role_at_a_time(log, place):
    """On a server: until it is closed. Of a file the folder's locks tell, so that here nobody is in the way."""
    with open_to_append(place, checkpoints=False) as other:
        assert log.hold_role("sealer")
        assert log.hold_role("sealer")
        assert other.hold_role("sealer") == isinstance(place, Path)
        assert other.hold_role("another")
        log.close()
        deadline = time.monotonic() + DEADLINE_S
        while not other.hold_role("sealer"):
            assert time.monotonic() < deadline


def test_a_topic_is_never_resolved(log):
    """A topic that names code is an error, not an import; read as it is stored it is only bytes."""
    stored = StoredEvent(UUID(int=1), 1, "os:system", b"x")
    log.recorder.insert_events([stored])
    with pytest.raises(LogError, match="os:system"):
        log.after(0)
    with pytest.raises(LogError, match="os:system"):
        log.mapper.to_domain_event(stored)
    assert log.stored_after(0) == [(1, b"os:system", b"x")]


def test_the_librarys_own_reading_gives_the_same_event(log):
    """The event store and repository of the library work on our mapper."""
    log.append([event(1, b"[1]")])
    (found,) = log.events.get(event(1).originator_id)
    assert found == event(1, b"[1]")


def test_only_our_event_is_kept(log):
    """The registry is closed in both directions."""
    with pytest.raises(LogError, match=r"webhook\.received and correction\.recorded only"):
        log.append([object()])


@pytest.mark.usefixtures("log")
def test_a_follower_passes_over_nothing_that_others_append(place):
    """Several writers at once, some of whose batches are refused: one order, without gaps, in which each event comes once."""
    writers, batches, size = 4, 20, 5
    refused = []

    def write(writer: int) -> None:
        with open_to_append(place, checkpoints=False) as own:
            for batch in range(batches):
                first = 1000 * writer + size * batch + 1
                own.append([event(first + n) for n in range(size)])
                if batch % 4 == 0:
                    try:
                        own.append([event(900_000 + first), event(first)])
                    except LogUnavailable:
                        refused.append(first)

    seen: list[tuple[int, Row]] = []
    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(writers)]
    for thread in threads:
        thread.start()
    with open_to_read(place) as reader:
        until = time.monotonic() + DEADLINE_S
        while len(seen) < writers * batches * size and time.monotonic() < until:
            page = reader.rows_after(seen[-1][0] if seen else 0, max_events=7)
            seen.extend(page)
    for thread in threads:
        thread.join()
    assert len(refused) == writers * batches / 4
    assert [at for at, _ in seen] == list(range(1, writers * batches * size + 1))
    assert len({row[0] for _, row in seen}) == writers * batches * size
