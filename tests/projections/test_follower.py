from __future__ import annotations

import itertools
import sqlite3
import threading
from contextlib import closing, contextmanager
from datetime import UTC, datetime

import pytest

from projections import follower as follower_module
from projections import read_model
from projections.follower import apply, follow
from projections.reading import read
from projections.record import By
from schema.configuration import Configuration, digest
from schema.decode import Decoder
from schema.errors import ConfigurationError, LogError, ReadModelError
from schema.log import open_to_read
from schema.tables import MODEL_VERSION

BY = By("9.9", lambda: datetime(2026, 5, 1, tzinfo=UTC))

BODY = {"type": "package_empty", "items": [{"iccid": "8970100000000000013"}]}


def test_following_ends_where_the_log_ends(world):
    """Once means: until there is nothing more to read."""
    for _ in range(3):
        world.send(BODY)
    reached = follow(world.log, world.audit, lambda: world.configuration, stop=threading.Event(), once=True)
    assert reached == 3 == read_model.tracked(world.audit)


def test_a_follower_wakes_for_what_comes_later(world):
    """An event appended while the follower waits is projected without being asked for."""
    stop, seen = threading.Event(), threading.Event()

    def progress(position: int, head: int) -> None:
        assert position <= head
        if position == 2:
            seen.set()

    world.send(BODY)
    follower = threading.Thread(
        target=follow,
        args=(world.log, world.audit, lambda: world.configuration),
        kwargs={"stop": stop, "on_progress": progress},
    )
    follower.start()
    try:
        world.send({"type": "msu_lock", "items": []})
        assert seen.wait(10)
    finally:
        stop.set()
        follower.join(10)
    assert not follower.is_alive()


def test_a_follower_waits_for_a_log_that_is_not_there_yet(tmp_path):
    """Started before the receiver, it waits, and can be stopped while it does."""
    stop = threading.Event()
    stop.set()
    assert follow(tmp_path / "log.db", tmp_path / "audit.db", Configuration, stop=stop) == 0


def test_once_needs_a_log(tmp_path):
    """Without a log there is nothing to project once."""
    with pytest.raises(LogError, match="there is no log"):
        follow(tmp_path / "log.db", tmp_path / "audit.db", Configuration, stop=threading.Event(), once=True)


def test_two_followers_never_apply_an_event_twice(world, tables_of):
    """Each checks, in its own transaction, the position that its page goes on from."""
    for n in range(4):
        world.send({"type": "msu_lock", "items": [{"msisdn": f"7900000000{n}"}]})
    expected = tables_of(world.fold_into(world.folder / "alone.db", []))
    one = read_model.open_to_write(world.audit, world.configuration)
    two = read_model.open_to_write(world.audit, world.configuration)
    with open_to_read(world.log) as log:
        page = log.after(0)
        assert apply(one, read(page[:2], Decoder(world.configuration)), since=0) == 2
        assert apply(two, read(page[:3], Decoder(world.configuration)), since=0) == 3
        assert apply(one, read(page[1:], Decoder(world.configuration)), since=1) == 4
    one.close()
    two.close()
    assert tables_of(world.audit) == expected


def test_a_page_that_would_leave_a_gap_is_not_applied(world):
    """A read model put back under the follower's feet, by a swap, tells it where to go on from."""
    for _ in range(3):
        world.send(BODY)
    model = read_model.open_to_write(world.audit, world.configuration)
    with open_to_read(world.log) as log:
        assert apply(model, read(log.after(1), Decoder(world.configuration)), since=1) == 0
    model.close()
    assert read_model.tracked(world.audit) == 0


def test_a_read_model_past_the_logs_head_is_refused(world):
    """A log that was put back to an older copy is noticed, not followed."""
    world.send(BODY)
    world.project()
    connection = sqlite3.connect(world.audit)
    connection.execute("UPDATE tracking SET position = 7")
    connection.commit()
    with pytest.raises(ReadModelError, match="past the log's head 1"):
        world.project()
    connection.execute("UPDATE tracking SET position = 1")
    connection.commit()
    connection.close()


def mark(audit, column, value):
    """Let a read model say that it was made otherwise."""
    with closing(sqlite3.connect(audit)) as connection, connection:
        connection.execute(f"UPDATE tracking SET {column} = ?", (value,))


@pytest.mark.parametrize(("column", "value"), [("model_version", 999), ("configuration", "999")])
def test_a_read_model_of_another_making_is_refused(world, column, value):
    """A newer version, or another configuration, is part of the answer: going on would mix two."""
    world.send(BODY)
    world.project()
    mark(world.audit, column, value)
    with pytest.raises(ReadModelError, match="from the log"):
        world.project()


def test_a_read_model_of_an_earlier_version_is_made_anew(world, tables_of):
    """Nobody need be asked: the same reading, in tables of another form; the record says that it was done."""
    world.send(BODY)
    world.project()
    expected = tables_of(world.audit)
    mark(world.audit, "model_version", 0)
    with closing(sqlite3.connect(world.audit)) as connection, connection:
        connection.execute("ALTER TABLE sims ADD COLUMN gone TEXT")
        connection.execute("ALTER TABLE rebuilds ADD COLUMN gone INTEGER")
        # As version 3 had it: what a rebuild changed in personal data was for everybody.
        connection.execute("DROP TABLE rebuild_personal_changes")
        connection.execute("DROP VIEW quarantine_contents")
        connection.execute("DROP TABLE delivery_contents")
        connection.execute("INSERT INTO rebuild_changes VALUES (1, 'users', 'changed', '[]', 1, 'a name')")
    world.send({"type": "msu_lock", "items": []})
    follow(world.log, world.audit, lambda: world.configuration, stop=threading.Event(), once=True, by=BY)
    assert tables_of(world.audit)["sims"] == expected["sims"]
    assert tables_of(world.audit)["delivery_contents"][0] == expected["delivery_contents"][0]
    assert "a name" not in str(world.rows("SELECT * FROM rebuild_changes"))
    assert tables_of(world.audit)["tracking"][0][1] == 2
    assert world.rows("SELECT reason, position, code_version, started_at FROM rebuilds") == [
        {
            "reason": "simtrail 9.9 has tables of another form",
            "position": 1,
            "code_version": "9.9",
            "started_at": "2026-05-01T00:00:00.000000Z",
        },
    ]


def test_an_earlier_version_with_another_configuration_waits_for_a_person(world):
    """What the tables would say then is for a person to look at first."""
    world.send(BODY)
    world.project()
    mark(world.audit, "model_version", 0)
    mark(world.audit, "configuration", "999")
    with pytest.raises(ReadModelError, match="simtrail rebuild"):
        world.project()


def test_a_projector_that_makes_its_tables_anew_can_be_stopped(world, tables_of):
    """The read model is then as it was, and the next start begins again."""
    world.send(BODY)
    world.project()
    mark(world.audit, "model_version", 0)
    before = tables_of(world.audit)
    stop = threading.Event()
    follow(world.log, world.audit, lambda: world.configuration, stop=stop, on_notice=lambda _: stop.set())
    assert tables_of(world.audit) == before
    assert list(world.folder.glob("audit.db.next*")) == []
    world.project()
    assert tables_of(world.audit)["tracking"][0][3] == MODEL_VERSION


def test_what_a_killed_projector_left_is_thrown_away(world):
    """A half made read model beside the live one goes with the next start."""
    world.send(BODY)
    left = world.folder / "audit.db.next"
    left.write_bytes(b"half made")
    world.project()
    assert not left.exists()


def test_a_file_that_is_no_database_is_refused(world):
    """The message names the file."""
    world.audit.write_bytes(b"not a database, but long enough to be taken for one" * 20)
    with pytest.raises(ReadModelError, match=r"audit\.db"):
        world.project()
    world.audit.unlink()


def test_nothing_is_tracked_where_nothing_is(tmp_path):
    """A missing read model stands for no position."""
    assert read_model.tracked(tmp_path / "audit.db") is None


def test_the_tables_of_another_log_are_not_added_to(world, tmp_path):
    """A slip with --log would mix two histories, as far as the other log is long enough."""
    world.send({"n": 1})
    world.project()
    (tmp_path / "other").mkdir()
    other = type(world)(tmp_path / "other")
    other.send({"n": 2})
    other.send({"n": 3})
    before = world.rows("SELECT * FROM deliveries")
    with pytest.raises(ReadModelError, match="is not of this log"):
        follow(other.log, world.audit, lambda: world.configuration, stop=threading.Event(), once=True)
    assert world.rows("SELECT * FROM deliveries") == before
    other.close()


class Changing:
    """A configuration that changes while it is followed with; None is one that can't be used."""

    def __init__(self, now: Configuration | None) -> None:
        self.now = now

    def __call__(self) -> Configuration:
        """What it is now."""
        if self.now is None:
            msg = "it can't be used"
            raise ConfigurationError(msg)
        return self.now


@contextmanager
def following(world, configure):
    """A follower at work, and what it tells."""
    stop = threading.Event()
    told: list[str] = []
    follower = threading.Thread(
        target=follow, args=(world.log, world.audit, configure), kwargs={"stop": stop, "on_notice": told.append}
    )
    follower.start()
    try:
        yield told
    finally:
        stop.set()
        follower.join(10)
    assert not follower.is_alive()


@pytest.mark.parametrize("other", [Configuration(queues={"simhold": "lock"}), None])
def test_a_configuration_that_changes_under_a_follower_is_told_and_waited_for(world, eventually, monkeypatch, other):
    """Nothing more is read by the former one; with that again, or after a rebuild, following goes on by itself."""
    monkeypatch.setattr(follower_module, "OUTDATED_S", 0.02)
    world.send(BODY)
    configure = Changing(world.configuration)
    with following(world, configure) as told:
        assert eventually(lambda: read_model.tracked(world.audit) == 1)
        configure.now = other
        assert eventually(lambda: told)
        world.send({"type": "msu_lock", "items": []})
        assert ("rebuild" if other else "can't be used") in told[0]
        assert read_model.tracked(world.audit) == 1
        configure.now = world.configuration
        assert eventually(lambda: read_model.tracked(world.audit) == 2)
    assert len(told) == 1


def test_tables_of_a_configuration_not_seen_yet_are_gone_on_with(world):
    """A rebuild that was quicker than the follower's next look is no reason to ask for another."""
    world.send(BODY)
    world.project()
    world.send({"type": "msu_lock", "items": []})
    before, after = world.configuration, Configuration(queues={"simhold": "lock"})
    looks = itertools.count(1)

    def configure() -> Configuration:
        look = next(looks)
        if look == 2:  # Looked at once more before a page: and right after that, tables of the other one are there.
            mark(world.audit, "configuration", digest(after))
        return before if look <= 2 else after

    assert follow(world.log, world.audit, configure, stop=threading.Event(), once=True) == 2
    assert next(looks) > 3
