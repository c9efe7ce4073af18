"""The log in a file: the `eventsourcing` library's recorder on SQLite, made append-only.

Facts that bind it:

- ``synchronous=FULL`` is set here, not assumed: a commit returns after fsync.
- One connection writes and checkpoints; all others open the file read-only
  (SQLite before 3.51.3 can lose a WAL reset between checkpointing connections).
- Positions are rowids, which a trigger lets nobody choose: the next after the last, without gaps.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager, suppress
from functools import cache, cached_property
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote
from uuid import UUID

from eventsourcing.persistence import InterfaceError, PersistenceError
from eventsourcing.sqlite import (
    SQLiteApplicationRecorder,
    SQLiteConnection,
    SQLiteConnectionPool,
    SQLiteFactory,
)

from schema.errors import LogError
from schema.event import CORRECTION

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from eventsourcing.utils import Environment

    from schema.log import NewRow, Row, Stored

STATEMENT_EVENTS = 1_000
"""Events that one statement stores at most: four variables each, of the 32,766 that SQLite takes."""

ALONE_BYTES = 64 * 1024
"""An event of so many bytes has a statement of its own: for the sake of the trigger, SQLite puts the rows of one
that has several into a temporary table first, which costs more than another statement from here on."""

STATEMENTS = 256
"""Prepared statements that a connection keeps. The library keeps one; each size of a batch has its own."""

PAGE_BYTES = 16 * 1024
"""A page of a log that is made now; one that is there keeps its own. Of SQLite's four kilobytes three events
of one kilobyte leave a sixth unused, and an event of ten megabytes takes twice as long to write and to copy."""

WAL_BYTES = 4 * 1024 * 1024
"""So much may have been appended before the WAL is to be copied into the file: some milliseconds of work."""

WAL_BYTES_AT_MOST = 64 * 1024 * 1024
"""With so much in the WAL, SQLite copies it as part of a commit, whether anyone asks for it or not."""

COMMIT_PAGES = 3
"""Pages that a commit writes besides what its events fill: the last of the table, of its index, and the first."""

LOCK_TIMEOUT_S = 5
"""How long a statement waits for another writer before it is an error."""

LOOK_S = 0.05
"""Between two looks at whether another connection has committed; a look costs microseconds."""

IN_THE_WAY = """
    NEW.rowid <> -1 OR EXISTS (
        SELECT 1 FROM stored_events
        WHERE originator_id = NEW.originator_id AND originator_version = NEW.originator_version
    )
"""
"""An event that stands where another is to go: INSERT OR REPLACE would remove it without
a DELETE. -1 is what SQLite shows before it assigns a position itself."""

APPEND_ONLY = tuple(
    f"""
    CREATE TRIGGER IF NOT EXISTS stored_events_no_{verb.lower()} BEFORE {verb} ON stored_events{when}
    BEGIN SELECT RAISE(ABORT, 'the log is append-only: an event is never {past}'); END
    """
    for verb, when, past in (
        ("UPDATE", "", "changed"),
        ("DELETE", "", "removed"),
        ("INSERT", f" WHEN {IN_THE_WAY}", "replaced"),
    )
)

PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        # Only this code: its extended ones tell of a file that was moved, or can't be recovered.
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_IOERR_WRITE,
    },
)
"""Result codes of SQLite after which another append may follow; the only ones.

They say that SQLite had not come to writing, or that the file system did not take a write: the
log is locked by another process, is read-only, has no file descriptor to open, the disk
is full, or a write failed. Nothing that the page cache once accepted can be missing then, so the
next commit's fsync vouches for all that came before it; it also reports what a failed write
may have told of an earlier one (write(2)). After a failed fsync the kernel may have dropped the pages and
call the next fsync a success, so that a later commit proves nothing about this file.
"""

_EVENTS = "SELECT rowid, topic, state FROM stored_events WHERE rowid > ? ORDER BY rowid LIMIT ?"

_STORED = """
    SELECT rowid,
        CASE typeof(topic) WHEN 'text' THEN CAST(topic AS BLOB) ELSE x'' END,
        CASE typeof(state) WHEN 'blob' THEN state ELSE x'' END
    FROM stored_events WHERE rowid > ? ORDER BY rowid LIMIT ?
"""

_ROWS = """
    SELECT rowid, topic, state, originator_id, originator_version
    FROM stored_events WHERE rowid > ? ORDER BY rowid LIMIT ?
"""

_CORRECTIONS = "SELECT rowid, topic, state FROM stored_events WHERE topic = ? AND rowid <= ? ORDER BY rowid"

_Row = TypeVar("_Row", bound="tuple[object, ...]")


class _Pool(SQLiteConnectionPool):
    """Connections whose durability is ours to set, and which keep their prepared statements."""

    def _create_connection(self) -> SQLiteConnection:
        try:
            connection = sqlite3.connect(
                self.db_name,
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=STATEMENTS,
                timeout=LOCK_TIMEOUT_S,
            )
        except sqlite3.Error as error:
            raise InterfaceError(error) from error
        connection.row_factory = sqlite3.Row
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        if mode != "wal":
            connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        return SQLiteConnection(connection, self.max_age)


class Recorder(SQLiteApplicationRecorder):
    """The library's tables and statements, with triggers, and pages bounded by bytes."""

    faults = (PersistenceError, sqlite3.Error, OSError)
    """What is raised where the file can't be read or written."""

    _checkpoints = False
    _version: int | None = None
    _wal_bytes = 0
    """About so much was appended since the WAL was last copied."""

    @cached_property
    def _connection(self) -> sqlite3.Connection:
        """The pool's only one, for appending: a turn of the pool costs as much as storing two events."""
        with self.datastore.get_connection(commit=False) as connection, connection.cursor() as cursor:
            return cursor.connection

    def construct_create_table_statements(self) -> list[str]:
        """Called by the library."""
        return [*super().construct_create_table_statements(), *APPEND_ONLY]

    def begin_appending(self, *, checkpoints: bool) -> None:
        """Be the one that checkpoints, or one that leaves that alone."""
        self._checkpoints = checkpoints
        if checkpoints:
            self.execute(f"PRAGMA wal_autocheckpoint = {WAL_BYTES_AT_MOST // PAGE_BYTES}")
            # What a former process left may be whole in memory only, if its fsync failed:
            # nothing is acknowledged on top of that before it is in the file itself.
            self.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            # SQLite opens a file that may only be read as if nothing were wrong, for good.
            self.commit_nothing()
        else:
            self.execute("PRAGMA wal_autocheckpoint = 0")

    def finish(self) -> None:
        """Leave all of it in the one file, if this is the one that checkpoints."""
        if self._checkpoints:
            self._checkpoints = False
            # Readers that are in the way leave some of it beside: that is no loss.
            with suppress(PersistenceError, sqlite3.Error):
                self.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def insert(self, rows: Sequence[NewRow], since: int | None = None) -> list[int]:
        """Store rows in one durable commit, as all there is after ``since`` if that is said; the position of each."""
        if self._connection.in_transaction:
            # Nothing would be committed by what follows.
            msg = "an append that failed before could not be undone: open the log anew"
            raise PersistenceError(msg)
        sizes = [len(row[3]) for row in rows]
        self._wal_bytes += sum(sizes) + COMMIT_PAGES * PAGE_BYTES
        if since is None and len(sizes) <= STATEMENT_EVENTS and (len(sizes) == 1 or max(sizes) < ALONE_BYTES):
            # A statement alone is a transaction. Each call of SQLite lets go of the interpreter, and
            # may wait long for it while the event loop is busy: so all of a group is one call.
            return _insert(self._connection, rows)
        with _transaction(self._connection) as connection:
            if since is not None:
                (head,) = connection.execute("SELECT coalesce(max(rowid), 0) FROM stored_events").fetchone()
                if head != since:
                    msg = f"the log ends at position {head}, not at {since}"
                    raise PersistenceError(msg)
            return [position for some in _statements(rows) for position in _insert(connection, some)]

    def checkpoint(self) -> None:
        """Copy the WAL into the file, if this is the one that does so, and much has been appended since."""
        if self._checkpoints and self._wal_bytes >= WAL_BYTES:
            self._wal_bytes = 0
            self.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def commit_nothing(self) -> None:
        """Write and fsync a page with what it holds already."""
        self.execute(f"PRAGMA user_version = {self.execute('PRAGMA user_version')}")

    def head(self) -> int:
        """The last position; 0 for none."""
        return self.max_notification_id() or 0

    def select_page(self, after: int, max_events: int, max_bytes: int) -> list[tuple[int, str, bytes]]:
        """Position, topic and state of what follows a position."""
        return self._page(_EVENTS, after, max_events, max_bytes)

    def select_stored(self, after: int, max_events: int, max_bytes: int) -> list[Stored]:
        """The same, the topic in UTF-8, whatever stands there."""
        return self._page(_STORED, after, max_events, max_bytes)

    def select_rows(self, after: int, max_events: int, max_bytes: int) -> list[tuple[int, Row]]:
        """Positions and whole rows."""
        page: list[tuple[int, str, bytes, str, int]] = self._page(_ROWS, after, max_events, max_bytes)
        return [(at, (_uuid(at, name), version, topic, state)) for at, topic, state, name, version in page]

    def select_corrections(self, last: int) -> list[tuple[int, str, bytes]]:
        """As `select_page`, of corrections alone, up to a position."""
        with self.datastore.transaction(commit=False) as wrapped:
            cursor = wrapped.sqlite_cursor
            cursor.row_factory = None
            return cursor.execute(_CORRECTIONS, (CORRECTION, last)).fetchall()

    def wait(self, stop: threading.Event, timeout_s: float) -> None:
        """Return when another connection has committed since this last returned, on ``stop``, or after the time."""
        left_s = timeout_s
        while (version := self.execute("PRAGMA data_version")) == self._version and left_s > 0:
            if stop.wait(min(LOOK_S, left_s)):
                return
            left_s -= LOOK_S
        self._version = version

    def hold_role(self, role: str) -> bool:  # noqa: ARG002 - as on a server
        """True: who is at work beside a file is told by the locks of its folder."""
        return True

    def is_passing(self, error: BaseException) -> bool:
        """Whether another append may follow one that raised this; False unless that is certain."""
        return is_passing(error)

    def is_away(self, error: BaseException) -> bool:  # noqa: ARG002 - as on a server
        """Whether what failed may come back by itself: never, of a file that can't be read."""
        return False

    def execute(self, pragma: str) -> int:
        """The first value that a pragma gives, outside a transaction; 0 if it gives none."""
        with self.datastore.get_connection(commit=False) as connection:
            cursor = connection.cursor()
            cursor.execute(pragma)
            row = cursor.fetchone()
            return 0 if row is None else int(row[0])

    def _page(self, statement: str, after: int, max_events: int, max_bytes: int) -> list[_Row]:
        """Rows of a statement that has the state as its third column, as many as fit; one at least."""
        page: list[_Row] = []
        size = 0
        with self.datastore.transaction(commit=False) as wrapped:
            cursor = wrapped.sqlite_cursor
            # Plain tuples: the library's sqlite3.Row page reads a third as many a second.
            cursor.row_factory = None
            cursor.execute(statement, (after, max_events))
            for row in cursor:
                size += len(row[2])
                if page and size > max_bytes:
                    break
                page.append(row)
        return page


class Factory(SQLiteFactory):
    """The library's factory, with our recorder and our connection."""

    application_recorder_class = Recorder

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        pool = self.datastore.pool
        # One connection each: data_version counts what *other* connections commit,
        # and a second writing connection would be a second checkpointer.
        self.datastore.pool = _Pool(db_name=pool.db_name, pool_size=1, max_overflow=0)
        pool.close()


def settings(path: Path, *, create: bool) -> dict[str, str]:
    """What the library is told to open a file: for appending, and made if need be, or only for reading."""
    return {"SQLITE_DBNAME": _uri(path) + ("" if create else "?mode=ro"), "CREATE_TABLE": "yes" if create else "no"}


def is_made(path: Path) -> bool:
    """Whether the file has its table: the moment after it is made, it has not."""
    if not path.exists():
        return False
    with closing(sqlite3.connect(_uri(path) + "?mode=ro", uri=True, timeout=LOCK_TIMEOUT_S)) as connection:
        return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'stored_events'").fetchone() is not None


def is_passing(error: BaseException | None) -> bool:
    """Whether another append may follow one that raised this; False unless that is certain."""
    while error is not None:
        if isinstance(error, sqlite3.Error):
            return getattr(error, "sqlite_errorcode", None) in PASSING
        error = error.__cause__
    return False


@cache
def _insert_statement(rows: int) -> str:
    return f"INSERT INTO stored_events VALUES {', '.join(['(?, ?, ?, ?)'] * rows)}"


def _insert(connection: sqlite3.Connection, rows: Sequence[NewRow]) -> list[int]:
    """The positions of rows, once stored: SQLite counts them upwards, and no other writer comes in between."""
    values = [value for name, version, topic, state in rows for value in (name.hex, version, topic, state)]
    last = connection.execute(_insert_statement(len(rows)), values).lastrowid or 0
    return list(range(last - len(rows) + 1, last + 1))


def _statements(rows: Sequence[NewRow]) -> Iterator[Sequence[NewRow]]:
    """Rows in order, as many at a time as one statement stores."""
    start = 0
    for end, row in enumerate(rows):
        if len(row[3]) >= ALONE_BYTES or end - start == STATEMENT_EVENTS:
            if start < end:
                yield rows[start:end]
            start = end
        if len(row[3]) >= ALONE_BYTES:
            yield rows[end : end + 1]
            start = end + 1
    if start < len(rows):
        yield rows[start:]


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """One durable commit at the end of a ``with`` block, if nothing is raised."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        # Some errors have ended it already, and what failed may fail again: the next BEGIN tells.
        with suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        raise


def _uuid(position: int, name: str) -> UUID:
    try:
        return UUID(name)
    except (ValueError, TypeError, AttributeError) as error:
        msg = f"the event at position {position} has no UUID but {name!r}: no simtrail has written it"
        raise LogError(msg) from error


def _uri(path: Path) -> str:
    return f"file:{quote(str(path.absolute()))}"
