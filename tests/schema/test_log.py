from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import pytest

from schema import log as logs
from schema import log_sqlite
from schema.errors import LogError, LogNotThere, LogUnavailable
from schema.event import TOPIC, Delivery, WebhookReceived, uuid7
from schema.log import open_to_append, open_to_read

if TYPE_CHECKING:
    from schema.log_sqlite import Recorder

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def event(n: int, body: bytes = b"{}") -> WebhookReceived:
    """The n-th event; each n is another originator."""
    delivery = Delivery("2026-03-02T09:00:00.000000Z", "main", "127.0.0.1", {}, body)
    return WebhookReceived(uuid7(NOW, lambda size: n.to_bytes(size, "big")), 1, delivery)


def pragma(log, statement) -> Any:
    """What a pragma gives on the log's own connection."""
    return log.recorder.execute(f"PRAGMA {statement}")


def committed(log) -> Any:
    """A number that differs whenever another connection has committed."""
    return pragma(log, "data_version")


@pytest.fixture
def log(tmp_path):
    with open_to_append(tmp_path / "log.db") as opened:
        yield opened
        positions = [found.position for found in opened.after(0)]
        assert positions == list(range(1, opened.head() + 1))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.db"


def test_a_row_that_nobody_else_can_read_is_read(path):
    """Columns of a type that they can't have are empty; the rows around them are as they are."""
    with open_to_append(path) as log:
        log.append([event(n) for n in range(5)])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("DROP TRIGGER stored_events_no_update")
        other.execute("UPDATE stored_events SET state = CAST(x'ff' AS TEXT) WHERE rowid = 2")
        other.execute("UPDATE stored_events SET topic = CAST(topic AS BLOB) WHERE rowid = 3")
        other.execute("UPDATE stored_events SET topic = CAST(x'ff' AS TEXT), state = 3.5 WHERE rowid = 4")
    with open_to_read(path) as log:
        rows = log.stored_after(0)
    assert [position for position, _, _ in rows] == [1, 2, 3, 4, 5]
    assert [topic.decode(errors="replace") for _, topic, _ in rows] == [TOPIC, TOPIC, "", "\ufffd", TOPIC]
    assert [bool(state) for _, _, state in rows] == [True, False, True, False, True]


def test_a_log_that_can_not_be_read_says_from_where(path):
    """A database error is the log's error, whichever way it is read."""
    with open_to_append(path) as log:
        with closing(sqlite3.connect(path)) as other:
            other.execute("DROP TABLE stored_events")
        for read in (log.after, log.stored_after):
            with pytest.raises(LogError, match="after position 3"):
                read(3)


def test_a_batch_of_any_size_is_one_commit(log, path, monkeypatch):
    """One statement holds as many events as it may; several of them are still kept whole or not at all."""
    monkeypatch.setattr(log_sqlite, "STATEMENT_EVENTS", 3)
    with open_to_read(path) as reader:
        assert log.append([event(n, b"%d" % n) for n in range(8)]) == list(range(1, 9))
        assert [(found.position, found.delivery.body) for found in reader.after(0)] == [
            (n + 1, b"%d" % n) for n in range(8)
        ]
        before = committed(reader)
        with pytest.raises(LogUnavailable, match="5 deliveries can't be appended"):
            log.append([*map(event, range(8, 12)), event(0)])
        assert (committed(reader), reader.head()) == (before, 8)
    assert log.append([event(8)]) == [9]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE stored_events SET state = x'00'",
        "DELETE FROM stored_events",
        "DELETE FROM stored_events WHERE rowid = 1",
        "INSERT OR REPLACE INTO stored_events (rowid, originator_id, state) VALUES (1, 'x', x'00')",
        "INSERT OR REPLACE INTO stored_events SELECT originator_id, originator_version, topic, x'00' FROM stored_events",
    ],
)
def test_the_log_refuses_change_and_removal(log, path, statement):
    """Not even another program with the file open can change an event by an ordinary statement."""
    log.append([event(1)])
    other = sqlite3.connect(path)
    with pytest.raises(sqlite3.DatabaseError, match="append-only"):
        other.execute(statement)
    other.close()
    assert log.at(1).delivery.body == b"{}"


def test_commits_are_fsynced(log):
    """The library's default is not relied upon: FULL in write-ahead mode."""
    with log.recorder.datastore.get_connection(commit=True) as connection:
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous")
        assert cursor.fetchone()[0] == 2
        cursor.execute("PRAGMA journal_mode")
        assert cursor.fetchone()[0] == "wal"


def test_a_reader_can_not_write(log, path):
    """Everyone but the one who appends opens the file read-only."""
    log.append([event(1)])
    with open_to_read(path) as reader, pytest.raises(LogUnavailable, match="readonly"):
        reader.append([event(2)])


def test_a_reader_needs_no_writer_beside_it(tmp_path):
    """A log whose receiver was stopped, or killed, reads as it was left."""
    with open_to_append(tmp_path / "log.db") as writer:
        writer.append([event(1)])
    with open_to_read(tmp_path / "log.db") as reader:
        assert reader.head() == 1


def test_closing_leaves_all_of_it_in_one_file(tmp_path):
    """The one who checkpoints does so at the end: a stopped log is one file; who appends beside it leaves that alone."""
    with open_to_append(tmp_path / "log.db") as owner, open_to_read(tmp_path / "log.db") as reader:
        owner.append([event(1)])
        before = (tmp_path / "log.db").stat().st_size
        with open_to_append(tmp_path / "log.db", checkpoints=False) as beside:
            beside.append([event(2, bytes(8_000_000))])
        assert (tmp_path / "log.db").stat().st_size == before
        assert reader.head() == 2
        owner.close()
        assert (tmp_path / "log.db-wal").stat().st_size == 0
        assert (tmp_path / "log.db").stat().st_size > 8_000_000


def test_the_wal_is_copied_when_it_is_asked_for_and_time(tmp_path):
    """Appending leaves it alone; what is little stays in the WAL, and who appends beside does not copy at all."""
    with open_to_append(tmp_path / "log.db") as log:
        before = (tmp_path / "log.db").stat().st_size
        log.append([event(1, bytes(log_sqlite.WAL_BYTES // 2))])
        log.checkpoint()
        with open_to_append(tmp_path / "log.db", checkpoints=False) as beside:
            beside.append([event(2, bytes(2 * log_sqlite.WAL_BYTES))])
            beside.checkpoint()
        log.append([event(3, bytes(log_sqlite.WAL_BYTES))])
        assert (tmp_path / "log.db").stat().st_size == before
        log.checkpoint()
        assert (tmp_path / "log.db").stat().st_size > 3 * log_sqlite.WAL_BYTES


def test_who_never_asks_has_a_wal_that_is_bounded(tmp_path, monkeypatch):
    """A copy of a log, which waits for nobody, leaves the copying to SQLite."""
    monkeypatch.setattr(log_sqlite, "WAL_BYTES_AT_MOST", 2_000_000)
    with open_to_append(tmp_path / "log.db") as log:
        for n in range(20):
            log.append([event(n, bytes(500_000))])
        assert (tmp_path / "log.db-wal").stat().st_size < 4_000_000


def test_a_log_keeps_the_pages_that_it_was_made_with(tmp_path):
    """Larger ones are for those that are made now; none is ever made anew for them."""

    def page_bytes(path):
        with closing(sqlite3.connect(path)) as connection:
            return int(connection.execute("PRAGMA page_size").fetchone()[0])

    with closing(sqlite3.connect(tmp_path / "former.db")) as connection:
        connection.execute("PRAGMA page_size = 4096")
        connection.execute("PRAGMA journal_mode = WAL")
    for name, expected in (("former.db", 4_096), ("log.db", log_sqlite.PAGE_BYTES)):
        with open_to_append(tmp_path / name) as log:
            assert log.append([event(1), event(2, bytes(3_000_000))]) == [1, 2]
            log.checkpoint()
            assert [each.delivery.body for each in log.after(1)] == [bytes(3_000_000)]
        assert page_bytes(tmp_path / name) == expected


@pytest.mark.parametrize(
    "sizes", [[1, 2, 90_000, 3], [90_000, 80_000], [70_000, 1], [5] * 1_500, [5] * 1_000 + [70_000]]
)
def test_statements_of_one_commit_keep_the_order(tmp_path, sizes):
    """Large events have statements of their own, and many have several; all of them share the commit."""
    statements: list[str] = []
    with open_to_append(tmp_path / "log.db") as log:
        cast("Recorder", log.recorder)._connection.set_trace_callback(statements.append)
        assert log.append([event(n, bytes(size)) for n, size in enumerate(sizes)]) == list(range(1, len(sizes) + 1))
        assert [each for each in statements if not each.startswith(("INSERT", "--"))] == ["BEGIN IMMEDIATE", "COMMIT"]
        assert [len(each.delivery.body) for each in log.after(0)] == sizes


def test_a_commit_of_several_statements_is_whole_or_nothing(log):
    """Where one of them fails nothing of the others is stored, and the next append begins anew."""
    again = event(1)
    with pytest.raises(LogUnavailable, match="never replaced"):
        log.append([event(2, bytes(90_000)), again, event(3, bytes(90_000)), again])
    assert log.append([event(4)]) == [1]
    assert log.head() == 1


def test_nothing_is_appended_inside_a_transaction_that_was_left_open(log):
    """It would be told as recorded, and not be on disk; and the writer must not go on as if this passed."""
    connection = cast("Recorder", log.recorder)._connection
    connection.execute("BEGIN")
    with pytest.raises(LogUnavailable, match="open the log anew") as raised:
        log.append([event(1)])
    assert not raised.value.passing
    connection.execute("ROLLBACK")


def test_a_log_that_is_being_made_is_not_there_yet(tmp_path):
    """The moment between the file and its table is no damage."""
    (tmp_path / "log.db").touch()
    with pytest.raises(LogNotThere):
        open_to_read(tmp_path / "log.db")


def test_an_empty_batch_is_a_commit_without_an_event(tmp_path):
    """It finds out whether the log can be written, and leaves no trace among the events."""
    with open_to_append(tmp_path / "log.db") as log, open_to_read(tmp_path / "log.db") as reader:
        log.append([event(1)])
        before = committed(reader)
        assert log.append([]) == []
        assert committed(reader) != before
        assert reader.head() == 1
        with closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None)) as other:
            pragma(log, "busy_timeout = 0")
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(LogUnavailable, match="locked"):
                log.append([])


def test_a_missing_log_is_not_made_by_a_reader(tmp_path):
    """The message says who makes one."""
    with pytest.raises(LogError, match="simtrail serve"):
        open_to_read(tmp_path / "log.db")
    assert not (tmp_path / "log.db").exists()


def test_a_log_that_can_not_be_opened_says_why(tmp_path):
    """A folder that is not there, or a file that is no database."""
    with pytest.raises(LogUnavailable, match="can't be opened for appending"):
        open_to_append(tmp_path / "none" / "log.db")
    (tmp_path / "log.db").write_bytes(b"no database" * 500)
    with pytest.raises(LogUnavailable, match="not a database"):
        open_to_append(tmp_path / "log.db")


def test_the_librarys_environment_is_not_heard(tmp_path, monkeypatch):
    """Variables that steer the library can't point the log elsewhere, compress it or resolve its topics."""
    monkeypatch.setenv("PERSISTENCE_MODULE", "eventsourcing.popo")
    monkeypatch.setenv("SQLITE_DBNAME", str(tmp_path / "elsewhere.db"))
    monkeypatch.setenv("COMPRESSOR_TOPIC", "zlib")
    monkeypatch.setenv("MAPPER_TOPIC", "eventsourcing.persistence:Mapper")
    monkeypatch.setenv("APPLICATION_RECORDER_TOPIC", "os:system")
    monkeypatch.setenv("IS_SNAPSHOTTING_ENABLED", "y")
    with open_to_append(tmp_path / "log.db") as opened:
        opened.append([event(1)])
        assert type(opened.mapper) is logs._EnvelopeMapper
        assert opened.snapshots is None
    assert not (tmp_path / "elsewhere.db").exists()


def test_only_causes_known_to_be_harmless_pass():
    """The list is short, and of all I/O errors only a failed write is in it."""
    passing = set()
    for name in (name for name in dir(sqlite3) if name.startswith("SQLITE_")):
        error = sqlite3.OperationalError(name)
        error.sqlite_errorcode = getattr(sqlite3, name)
        library = RuntimeError("the library's own")
        library.__cause__ = error
        if log_sqlite.is_passing(library):
            passing.add(name)
    assert {getattr(sqlite3, name) for name in passing} == log_sqlite.PASSING
    assert {"SQLITE_BUSY", "SQLITE_FULL", "SQLITE_READONLY", "SQLITE_CANTOPEN"} < passing
    assert [name for name in passing if "IOERR" in name or "CORRUPT" in name] == ["SQLITE_IOERR_WRITE"]
