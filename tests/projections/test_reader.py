from __future__ import annotations

import pytest

from projections import reader
from projections.reader import Reader
from projections.reading import read
from schema.configuration import Configuration
from schema.decode import Decoder
from schema.errors import LogAway, LogError
from schema.log import open_to_read
from schema.log_place import Server

LEARNED = Configuration(queues={"simhold": "lock"}, working_days={"2026-01-09": True})


@pytest.fixture
def told(world, samples):
    """A world in which every kind of event was sent."""
    for body in (*samples, b"", b"[]", b'{"type": "other", "files": [{"body": "QQ=="}]}', b"\xff"):
        world.send(body)
    world.correct("void", "1")
    return world


def pages(log, *, events, last=None, configuration=LEARNED):
    found = []
    with Reader(log, configuration, events=events) as reading:
        position = 0
        while page := reading.after(position, last):
            found.append(page)
            position = page[-1].position
    return found


@pytest.mark.parametrize(("events", "last"), [(3, None), (1_000, None), (4, 9)])
def test_a_process_that_reads_ahead_reads_the_same(told, monkeypatch, events, last):
    """Whoever reads, the pages are the same: every kind of reading comes whole through the pipe."""
    with open_to_read(told.log) as log:
        here = pages(log, events=events, last=last)
        monkeypatch.setattr(reader, "AHEAD_EVENTS", 1)
        assert pages(log, events=events, last=last) == here
        assert [event for page in here for event in page] == read(log.after(0), Decoder(LEARNED))[:last]


def test_cards_that_come_again_are_sent_once(world, monkeypatch):
    """A card that several callbacks of a page list alike is one object on both sides of the pipe."""
    for done in range(3):
        world.send(
            b'{"qid":"1","queue":"sim_lock","status":{"count":2,"process":%d},"items":[{"id":1},{"id":2}]}' % done
        )
    monkeypatch.setattr(reader, "AHEAD_EVENTS", 1)
    with open_to_read(world.log) as log:
        (page,) = pages(log, events=10)
    cards = [card for event in page for card in event.said.sims]
    assert [card.platform_id for card in cards] == ["1", "2"] * 3
    assert len({id(card) for card in cards}) == 2


def test_reading_goes_on_from_wherever_it_is_asked_to(told, monkeypatch):
    """A read model that was put back under the follower's feet is followed from where it stands."""
    monkeypatch.setattr(reader, "AHEAD_EVENTS", 5)
    with open_to_read(told.log) as log, Reader(log, LEARNED, events=3) as reading:
        assert [event.position for event in reading.after(0)] == [1, 2, 3]
        assert [event.position for event in reading.after(9)] == [10, 11, 12]
        assert [event.position for event in reading.after(1)] == [2, 3, 4]
        assert reading.after(log.head()) == []
        told.send(b"{}")
        assert [event.position for event in reading.after(log.head() - 1)] == [log.head()]


def test_a_log_that_the_process_cannot_read_is_told(told, monkeypatch):
    """What goes wrong in the other process is an error of this one, in the same words."""
    monkeypatch.setattr(reader, "AHEAD_EVENTS", 1)
    with open_to_read(told.log) as log:
        log.place = told.folder / "gone.db"
        with pytest.raises(LogError, match="there is no log at"):
            pages(log, events=3)


def test_a_process_that_dies_is_told(told, monkeypatch):
    """The process that reads is killed: that is no end of the log."""
    monkeypatch.setattr(reader, "AHEAD_EVENTS", 1)
    with open_to_read(told.log) as log, Reader(log, LEARNED, events=1) as reading:
        (first,) = reading.after(0)
        assert reading._ahead is not None
        reading._ahead.end()
        # As the pipe of a process that ended looks, whatever it had sent before.
        reading._ahead._pages = iter(())
        with pytest.raises(LogError, match="ended by itself"):
            reading.after(first.position)


def test_a_server_that_is_away_is_told_from_a_log_that_is_wrong(told, monkeypatch):
    """Whoever follows waits for it, in the one process as in the other."""
    monkeypatch.setattr(reader, "AHEAD_EVENTS", 1)
    with open_to_read(told.log) as log:
        log.place = Server("postgresql://simtrail@127.0.0.1:1/log")
        with pytest.raises(LogAway, match="can't be reached"):
            pages(log, events=3)
