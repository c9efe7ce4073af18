from __future__ import annotations

import shutil
import sqlite3
import threading
from contextlib import closing
from typing import Any

import pytest
from sqlite_utils import Database

from projections import bulk, difference, gate, read_model, rebuild, replacement
from projections.follower import follow
from projections.record import INSTALLED
from schema.configuration import Configuration
from schema.errors import ReadModelError
from schema.log import open_to_read

LEARNED = Configuration(queues={"simhold": "lock"})
"""A configuration that knows one queue code more; codes are folded as `load` folds them."""

CARD = {"iccid": "8970100000000000013", "msisdn": "79000000001"}


def lock(qid: str, **card: object) -> dict[str, object]:
    status = {"count": 1, "process": 1, "percentage": 100}
    return {"qid": qid, "queue": "sim_hold", "status": status, "items": [{**CARD, **card}]}


@pytest.fixture
def built(world, tmp_path):
    """Builds the world's log anew, in a file of its own."""

    def build(configuration=None, **until: Any):
        path = tmp_path / "built.db"
        rebuild.discard(path)
        with open_to_read(world.log) as log:
            rebuild.build(log, path, configuration or world.configuration, **until)
        return path

    return build


def changes(before, after):
    with difference.compared(before, after) as connection:
        return list(difference.changes(connection))


def test_a_rebuild_of_the_same_reading_differs_in_nothing(world, samples, built, tables_of):
    """The log folded anew gives the tables that following it gave, and the difference says so."""
    for body in samples:
        world.send(body)
    world.project()
    assert tables_of(built()) == tables_of(world.audit)
    assert changes(world.audit, built()) == []


def test_a_rebuild_has_every_table_index_and_view(world, samples, built):
    """What is made in bulk ends as what is made by following."""
    world.send(samples[0])
    world.project()
    with closing(sqlite3.connect(world.audit)) as live, closing(sqlite3.connect(built())) as new:
        assert {(row[0], row[1]) for row in live.execute("SELECT type, name FROM sqlite_master")} == {
            (row[0], row[1]) for row in new.execute("SELECT type, name FROM sqlite_master")
        }


def test_the_difference_names_exactly_what_a_new_reading_changes(world, built):
    """A queue code learned later blocks the card that it locked, and nothing else is told to change."""
    world.send(lock("q-1"))
    world.send({"type": "package_empty", "items": [{"iccid": "8970100000000000021"}]})
    world.project()
    found = changes(world.audit, built(LEARNED))
    assert {(change.table, change.kind, change.key) for change in found} == {
        ("jobs", "changed", ("main:q-1",)),
        ("sims", "changed", ("main:8970100000000000013",)),
        ("sim_events", "changed", (1, 0)),
    }
    (sim,) = [change for change in found if change.table == "sims"]
    assert sim.position == 1
    assert sim.columns["status"] == ("unknown", "blocked")
    assert sim.columns["status_basis"] == (None, "implied")


def test_rows_that_come_or_go_are_told(world, tmp_path):
    """Added and removed rows are told with their columns, each once."""
    world.send(lock("q-1"))
    world.project()
    other = read_model.open_to_write(tmp_path / "empty.db", world.configuration)
    other.close()
    added = changes(tmp_path / "empty.db", world.audit)
    removed = changes(world.audit, tmp_path / "empty.db")
    assert {change.kind for change in added} == {"added"}
    assert {change.kind for change in removed} == {"removed"}
    assert [(change.table, change.key) for change in added] == [(change.table, change.key) for change in removed]
    assert [change.columns["status"] for change in added if change.table == "sims"] == [(None, "unknown")]


def test_the_read_model_of_a_position_is_that_of_following_so_far(world, samples, built, tables_of):
    """Time travel: as of any position, the tables are those after following that many events."""
    for body in samples:
        world.send(body)
    for last in (1, 4, 10, 14):
        with open_to_read(world.log) as log:
            so_far = log.after(0, max_events=last)
        followed = world.folder / f"{last}.db"
        model = read_model.open_to_write(followed, world.configuration)
        world.apply(model, so_far)
        model.close()
        assert tables_of(built(last=last)) == tables_of(followed)


def test_the_read_model_of_a_moment_holds_what_was_received_by_then(world, samples, built):
    """A moment counts what was received up to it, inclusive."""
    for body in samples:
        world.send(body)
    path = built(moment="2026-03-02T09:00:05.000000Z")
    assert read_model.tracked(path) == 5


def test_a_swap_is_seen_by_who_has_the_file_open(world, built, tables_of):
    """Readers need not open the file again, and the follower goes on from where the new tables stand."""
    world.send(lock("q-1"))
    world.project()
    world.configuration = LEARNED
    with closing(sqlite3.connect(world.audit)) as reader:
        assert reader.execute("SELECT status FROM sims").fetchone() == ("unknown",)
        rebuild.swap(built(), world.audit)
        assert reader.execute("SELECT status FROM sims").fetchone() == ("blocked",)
        assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    world.send(lock("q-2", status="active"))
    assert world.row("SELECT status FROM sims")["status"] == "active"
    assert tables_of(world.audit) == tables_of(built())


def test_a_projector_survives_a_swap_under_its_feet(world, built, tables_of, eventually):
    """A running follower with the former configuration takes up the new one when the tables are those of the new."""
    world.send(lock("q-1"))
    stop = threading.Event()
    notices: list[str] = []
    known = [world.configuration]
    follower = threading.Thread(
        target=follow,
        args=(world.log, world.audit, lambda: known[0]),
        kwargs={"stop": stop, "on_notice": notices.append},
    )
    follower.start()
    try:
        eventually(lambda: read_model.tracked(world.audit) == 1)
        world.configuration = LEARNED
        path = built()
        world.send(lock("q-2"))
        eventually(lambda: read_model.tracked(world.audit) == 2)
        rebuild.swap(path, world.audit)
        known[0] = LEARNED
        world.send(lock("q-3"))
        eventually(lambda: read_model.tracked(world.audit) == 3)
    finally:
        stop.set()
        follower.join(20)
    assert not follower.is_alive()
    assert tables_of(world.audit) == tables_of(built())


def test_a_follower_waits_for_a_rebuild_and_says_so(world, built, eventually):
    """With another configuration than its tables' the projector does not end: it asks for a rebuild, and waits."""
    world.send(lock("q-1"))
    world.project()
    world.configuration = LEARNED
    stop = threading.Event()
    notices: list[str] = []
    follower = threading.Thread(
        target=follow,
        args=(world.log, world.audit, lambda: world.configuration),
        kwargs={"stop": stop, "on_notice": notices.append},
    )
    follower.start()
    try:
        eventually(lambda: bool(notices))
        world.send(lock("q-2"))
        rebuild.swap(built(last=1), world.audit)
        eventually(lambda: read_model.tracked(world.audit) == 2)
    finally:
        stop.set()
        follower.join(20)
    assert len(notices) == 1
    assert "simtrail rebuild" in notices[0]


def test_what_was_rebuilt_is_checked(world, built):
    """A dangling reference or a lost row is found before a read model is trusted."""
    world.send(lock("q-1"))
    path = built()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM sims")
    with pytest.raises(ReadModelError, match="not whole"):
        rebuild.check(path)


def test_an_interrupted_rebuild_leaves_no_file(world, tmp_path):
    """Whatever ends it, what was half made is gone."""
    world.send(lock("q-1"))

    def interrupt(*_: int) -> None:
        raise KeyboardInterrupt

    with open_to_read(world.log) as log, pytest.raises(KeyboardInterrupt):
        rebuild.build(log, tmp_path / "built.db", world.configuration, on_progress=interrupt)
    assert list(tmp_path.glob("built.db*")) == []


def test_room_is_asked_for_first(world, monkeypatch):
    """A disk that could not hold the new tables beside the old is told, with both figures."""
    world.send(lock("q-1"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("usage", (), {"free": 10}))
    with pytest.raises(ReadModelError, match="10 are free"):
        rebuild.need_space(world.folder, world.log)


def test_rebuilds_survive_rebuilds(world, built):
    """The record of earlier rebuilds is taken over, not folded."""
    world.send(lock("q-1"))
    world.project()
    row = (1, "", "", "first", "0", 1, None, "", None, 1, 0, 0, 0, "{}", "{}")
    with closing(sqlite3.connect(world.audit)) as connection:
        Database(connection).execute(f"INSERT INTO rebuilds VALUES ({', '.join('?' * len(row))})", row)
        connection.commit()
    path = built()
    rebuild.keep_rebuilds(world.audit, path)
    rebuild.swap(path, world.audit)
    assert world.row("SELECT reason FROM rebuilds")["reason"] == "first"


def test_changes_of_personal_data_are_recorded_apart(world):
    """What everybody may read of a rebuild holds no row of a table that few may see; together they are all of it, in order."""
    world.send({"type": "package_empty", "items": [{**CARD, "plan_code": "M2M-5"}]})
    world.project()
    aliases = Configuration().sim_aliases
    learned = Configuration(sim_aliases={**aliases, "tariff": (*aliases["tariff"], "plan_code")})
    with open_to_read(world.log) as log:
        replacement.replace(log, world.audit, learned, last=1, reason="learned", by=INSTALLED)
    world.configuration = learned
    told = "SELECT n, table_name, kind, columns FROM"
    shown, personal = (world.rows(f"{told} {table}") for table in ("rebuild_changes", "rebuild_personal_changes"))

    assert {row["table_name"] for row in shown} == {"sims", "sim_events"}
    assert [(row["table_name"], row["kind"]) for row in personal] == [("sim_attributes", "removed")]
    assert "M2M-5" in personal[0]["columns"]
    assert sorted(row["n"] for row in [*shown, *personal]) == [1, 2, 3]


def test_a_process_of_its_own_loads_the_same_tables(world, samples, built, tables_of, monkeypatch):
    """A long log is loaded by a second process, a short one without: nobody can tell by the tables."""
    for body in samples:
        world.send(body)
    alone = tables_of(built())
    monkeypatch.setattr(bulk, "PROCESS_EVENTS", 0)
    assert tables_of(built()) == alone


def test_rows_that_do_not_fit_in_memory_wait_in_a_file(world, samples, built, tables_of, monkeypatch):
    """However few rows are held, the tables are the same, and nothing is left of the scratch file."""
    for body in samples * 2:
        world.send(body)
    world.send({"type": "package_empty", "items": [{"msisdn": "79000000009"}]})
    world.send({"type": "package_empty", "items": [{"msisdn": "79000000009", "iccid": "8970100000000000021"}]})
    expected = tables_of(built())
    monkeypatch.setattr(bulk, "HELD_ROWS", 0)
    monkeypatch.setattr(rebuild, "BATCH_EVENTS", 1)
    assert tables_of(built()) == expected
    assert list(world.folder.glob("*scratch*")) == []


def test_a_loader_that_dies_is_told(world, built, monkeypatch):
    """The process that writes is killed under the rebuild: it says so, and leaves no file."""
    world.send(lock("q-1"))
    monkeypatch.setattr(bulk, "PROCESS_EVENTS", 0)
    send = bulk._Process.send

    def die(loader, messages):
        loader._process.kill()
        loader._process.wait()
        send(loader, messages)

    monkeypatch.setattr(bulk._Process, "send", die)
    with pytest.raises(ReadModelError, match="ended by itself"):
        built()
    assert list(world.folder.glob("built.db*")) == []


def test_a_card_renamed_twice_in_one_page_takes_its_history_along(world, tables_of):
    """A card known by its id gets a number, then an ICCID, in one page: the rows written before follow to the end."""
    world.send({"type": "package_empty", "items": [{"id": 1}]})
    world.send({"type": "package_empty", "items": [{"id": 1, "msisdn": "79000000001"}]})
    world.send({"type": "package_empty", "items": [{"id": 1, "iccid": "8970100000000000013"}]})
    expected = {"main:8970100000000000013"}
    for batches in ([1], [2], [1, 1, 1], []):
        followed = world.fold_into(world.folder / f"{batches}.db", batches)
        assert {row[2] for row in tables_of(followed)["sim_events"]} == expected


def test_a_swap_is_not_overtaken(world, built):
    """Who is to write the read model waits at the gate while a swap has its turn."""
    world.send(lock("q-1"))
    world.project()
    passing = threading.Thread(target=gate.passed, args=(world.audit,))
    with gate.closed(world.audit):
        passing.start()
        passing.join(0.05)
        assert passing.is_alive()
        assert read_model.tracked(world.audit) == 1
    passing.join(20)
    assert not passing.is_alive()
    assert rebuild.swap(built(), world.audit) > 0
