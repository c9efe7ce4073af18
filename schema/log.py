"""The log: the `eventsourcing` library's recorder, made append-only.

Every override of the library is in this module. Facts that bind it:

- A stored topic is looked up in the closed registry of `schema.event`, never resolved as an import.
- The state is our envelope (`schema.event`), never the library's JSON, which
  acts on ``_type_``/``_data_`` inside a payload.
- ``synchronous=FULL`` is set here, not assumed: a commit returns after fsync.
- One connection writes and checkpoints; all others open the file read-only
  (SQLite before 3.51.3 can lose a WAL reset between checkpointing connections).
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from functools import cache
from typing import TYPE_CHECKING, TypeAlias, TypeVar, cast
from urllib.parse import quote
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.persistence import (
    InfrastructureFactory,
    InterfaceError,
    Mapper,
    PersistenceError,
    StoredEvent,
    Transcoder,
)
from eventsourcing.sqlite import (
    SQLiteApplicationRecorder,
    SQLiteConnection,
    SQLiteConnectionPool,
    SQLiteFactory,
)
from eventsourcing.utils import Environment

from schema import event as events
from schema.errors import LogError, LogNotThere, LogUnavailable
from schema.event import CLASSES, CORRECTION, TOPICS, Delivery, DomainEvent, Event

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from eventsourcing.domain import DomainEventProtocol
    from eventsourcing.utils import EnvType

PAGE_EVENTS = 2_000
"""Events a page at most: enough to make the page's own cost vanish."""

PAGE_BYTES = 16 * 1024 * 1024
"""Bytes of state a page at most: fifty ten-megabyte bills must not fill memory.
One event larger than this is a page of its own."""

STATEMENT_EVENTS = 1_000
"""Events that one statement stores at most: four variables each, of the 32,766 that SQLite takes."""

STATEMENTS = 256
"""Prepared statements that a connection keeps. The library keeps one; each size of a batch has its own."""

LOCK_TIMEOUT_S = 5
"""How long a statement waits for another writer before it is an error."""

Stored: TypeAlias = "tuple[int, bytes, bytes]"
"""An event as it is stored: position, topic in UTF-8, state. A column of another type than these reads as empty."""

_Topic = TypeVar("_Topic", str, bytes)

IN_THE_WAY = """
    NEW.rowid <> -1 OR EXISTS (
        SELECT 1 FROM stored_events
        WHERE originator_id = NEW.originator_id AND originator_version = NEW.originator_version
    )
"""
"""An event that stands where another is to go: INSERT OR REPLACE would remove it without
a DELETE. -1 is what SQLite shows before it assigns a position itself."""

_Row: TypeAlias = "tuple[str, int, str, bytes]"
"""An event as its table has it: id, version, topic and state."""

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


class _NoTranscoder(Transcoder):
    """Stands where the library asks for one; the mapper below needs none."""

    def encode(self, obj: object) -> bytes:
        raise NotImplementedError

    def decode(self, data: bytes) -> object:
        raise NotImplementedError


class _EnvelopeMapper(Mapper[UUID]):
    """Maps by a closed registry of topics; no string from the log names code."""

    def to_stored_event(self, domain_event: DomainEventProtocol[UUID]) -> StoredEvent:
        _, version, topic, state = _row(cast("DomainEvent", domain_event))
        return StoredEvent(domain_event.originator_id, version, topic, state)

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEvent:
        if not isinstance(stored_event.originator_id, UUID):
            msg = f"an originator of the log is a UUID, not {stored_event.originator_id!r}"
            raise LogError(msg)
        delivery = _delivery(stored_event.topic, stored_event.state)
        kind = CLASSES[stored_event.topic]
        return kind(stored_event.originator_id, stored_event.originator_version, delivery)


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
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        return SQLiteConnection(connection, self.max_age)


class _Recorder(SQLiteApplicationRecorder):
    """The library's tables and statements, with triggers, and pages bounded by bytes."""

    select_page_statement = "SELECT rowid, topic, state FROM stored_events WHERE rowid > ? ORDER BY rowid LIMIT ?"

    select_stored_statement = """
        SELECT rowid,
            CASE typeof(topic) WHEN 'text' THEN CAST(topic AS BLOB) ELSE x'' END,
            CASE typeof(state) WHEN 'blob' THEN state ELSE x'' END
        FROM stored_events WHERE rowid > ? ORDER BY rowid LIMIT ?
    """

    def construct_create_table_statements(self) -> list[str]:
        return [*super().construct_create_table_statements(), *APPEND_ONLY]

    def select_page(self, after: int, max_events: int, max_bytes: int) -> list[tuple[int, str, bytes]]:
        return self._page(self.select_page_statement, after, max_events, max_bytes)

    def select_stored(self, after: int, max_events: int, max_bytes: int) -> list[Stored]:
        return self._page(self.select_stored_statement, after, max_events, max_bytes)

    def _page(self, statement: str, after: int, max_events: int, max_bytes: int) -> list[tuple[int, _Topic, bytes]]:
        page: list[tuple[int, _Topic, bytes]] = []
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

    def insert(self, rows: Sequence[_Row]) -> list[int]:
        """Store rows in one durable commit; the position of each."""
        if len(rows) > STATEMENT_EVENTS:
            with self.datastore.transaction(commit=True) as wrapped:
                return [
                    position
                    for start in range(0, len(rows), STATEMENT_EVENTS)
                    for position in _insert(wrapped.sqlite_cursor, rows[start : start + STATEMENT_EVENTS])
                ]
        with self.datastore.get_connection(commit=True) as connection, connection.cursor() as cursor:
            # A statement alone is a transaction. Each call of SQLite lets go of the interpreter, and
            # may wait long for it while the event loop is busy: so all of a group is one call.
            return _insert(cursor, rows)

    def commit_nothing(self) -> None:
        """Write and fsync a page with what it holds already."""
        self.execute(f"PRAGMA user_version = {self.execute('PRAGMA user_version')}")

    def execute(self, pragma: str) -> int:
        """The first value that a pragma gives, outside a transaction; 0 if it gives none."""
        with self.datastore.get_connection(commit=False) as connection:
            cursor = connection.cursor()
            cursor.execute(pragma)
            row = cursor.fetchone()
            return 0 if row is None else int(row[0])


class _Factory(SQLiteFactory):
    application_recorder_class = _Recorder

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        pool = self.datastore.pool
        # One connection each: data_version counts what *other* connections commit,
        # and a second writing connection would be a second checkpointer.
        self.datastore.pool = _Pool(db_name=pool.db_name, pool_size=1, max_overflow=0)
        pool.close()


class Log(Application[UUID]):
    """The log of one installation, as one process sees it.

    `open_to_append` and `open_to_read` make one; close it, or use it as a context
    manager. Not for several threads at once.
    """

    name = "simtrail"

    def __init__(self, uri: str, *, create: bool, checkpoints: bool) -> None:
        self._checkpoints = checkpoints
        super().__init__({"SQLITE_DBNAME": uri, "CREATE_TABLE": "yes" if create else "no"})
        if checkpoints:
            # What a former process left may be whole in memory only, if its fsync failed:
            # nothing is acknowledged on top of that before it is in the file itself.
            self._log_recorder.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            # SQLite opens a file that may only be read as if nothing were wrong, for good.
            self._log_recorder.commit_nothing()
        elif create:
            self._log_recorder.execute("PRAGMA wal_autocheckpoint = 0")

    def close(self) -> None:
        """Close the log; the one who checkpoints leaves all of it in the one file."""
        if self._checkpoints and not self.closing.is_set():
            # Readers that are in the way leave some of it beside: that is no loss.
            with suppress(PersistenceError, sqlite3.Error):
                self._log_recorder.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        super().close()

    def construct_env(self, name: str, env: EnvType | None = None) -> Environment:
        """Called by the library: what we gave it, and nothing from the process's environment."""
        return Environment(name, dict(env or {}))

    def construct_factory(self, env: Environment) -> InfrastructureFactory:
        """Called by the library: our recorder, whatever the environment asks for."""
        return cast("InfrastructureFactory", _Factory(env))

    def construct_mapper(self) -> Mapper[UUID]:
        """Called by the library: our mapper, so no topic is ever resolved."""
        return _EnvelopeMapper(_NoTranscoder())

    @property
    def _log_recorder(self) -> _Recorder:
        if not isinstance(self.recorder, _Recorder):
            raise TypeError(type(self.recorder))
        return self.recorder

    def append(self, batch: Sequence[DomainEvent]) -> list[int]:
        """Store the batch in one durable commit; the position of each, in order.

        All of it is on disk when this returns. Raises `LogUnavailable`, with the
        cause's own words, where that can't be said; then none of it counts. An empty batch
        commits a page that changes nothing: so one finds out whether the log can be written.
        """
        try:
            if not batch:
                self._log_recorder.commit_nothing()
                return []
            return self._log_recorder.insert([_row(event) for event in batch])
        except (PersistenceError, sqlite3.Error, OSError) as error:
            msg = (
                f"{len(batch)} deliveries can't be appended: {error}" if batch else f"the log can't be written: {error}"
            )
            raise LogUnavailable(msg) from error

    def after(self, position: int, *, max_events: int = PAGE_EVENTS, max_bytes: int = PAGE_BYTES) -> list[Event]:
        """The events that follow a position, in order, as many as fit a page."""
        try:
            page = self._log_recorder.select_page(position, max_events, max_bytes)
        except (PersistenceError, sqlite3.Error) as error:
            msg = f"the log can't be read after position {position}: {error}"
            raise LogError(msg) from error
        return [Event(at, _delivery(topic, state), topic) for at, topic, state in page]

    def stored_after(
        self, position: int, *, max_events: int = PAGE_EVENTS, max_bytes: int = PAGE_BYTES
    ) -> list[Stored]:
        """The events that follow a position as they are stored, in order, as many as fit a page.

        A proof is about what is stored, whatever it says. So this reads every row that a
        table can hold, also one that was put there by somebody else and that `after` does not stand.
        """
        try:
            return self._log_recorder.select_stored(position, max_events, max_bytes)
        except (PersistenceError, sqlite3.Error) as error:
            msg = f"the log can't be read after position {position}: {error}"
            raise LogError(msg) from error

    def corrections(self, last: int) -> list[Event]:
        """The corrections up to a position, in order: few, and read without the deliveries between."""
        try:
            found = self._log_recorder.select_notifications(1, last, last, [CORRECTION]) if last > 0 else []
        except (PersistenceError, sqlite3.Error) as error:
            msg = f"the log's corrections can't be read: {error}"
            raise LogError(msg) from error
        return [Event(each.id, _delivery(each.topic, each.state), each.topic) for each in found]

    def at(self, position: int) -> Event | None:
        """The event at a position, if there is one."""
        page = self.after(position - 1, max_events=1)
        return page[0] if page and page[0].position == position else None

    def head(self) -> int:
        """The position of the last event; 0 for an empty log."""
        try:
            return self.recorder.max_notification_id() or 0
        except (PersistenceError, sqlite3.Error) as error:
            msg = f"the log's head can't be read: {error}"
            raise LogError(msg) from error

    def version(self) -> int:
        """A number that differs whenever another connection has committed since."""
        return self._log_recorder.execute("PRAGMA data_version")


def _row(event: DomainEvent) -> _Row:
    if type(event) not in TOPICS:
        msg = f"the log keeps {' and '.join(CLASSES)} only, not a {type(event).__name__}"
        raise LogError(msg)
    return event.originator_id.hex, event.originator_version, TOPICS[type(event)], events.encode(event.delivery)


@cache
def _insert_statement(rows: int) -> str:
    return f"INSERT INTO stored_events VALUES {', '.join(['(?, ?, ?, ?)'] * rows)}"


def _insert(cursor: sqlite3.Cursor, rows: Sequence[_Row]) -> list[int]:
    """The positions of rows, once stored: SQLite counts them upwards, and no other writer comes in between."""
    cursor.execute(_insert_statement(len(rows)), [value for row in rows for value in row])
    last = cursor.lastrowid or 0
    return list(range(last - len(rows) + 1, last + 1))


def _delivery(topic: str, state: bytes) -> Delivery:
    if topic not in CLASSES:
        msg = f"the log holds an event of topic {topic!r}, which this simtrail does not know: upgrade"
        raise LogError(msg)
    return events.decode(state)


def open_to_append(path: Path, *, checkpoints: bool = True) -> Log:
    """The log at a path, made if it is not there.

    One process at a time owns the log, and checkpoints; another may append beside it
    for a moment if it does not. Raises `LogUnavailable` where the file can't be
    opened, made or written.
    """
    try:
        return Log(_uri(path), create=True, checkpoints=checkpoints)
    except (PersistenceError, sqlite3.Error, OSError) as error:
        msg = f"the log {path} can't be opened for appending: {error}"
        raise LogUnavailable(msg) from error


def open_to_read(path: Path) -> Log:
    """The log at a path, read-only. Raises `LogNotThere` where there is none yet, else `LogError`."""
    try:
        if not _is_made(path):
            msg = f"there is no log at {path}: `simtrail serve` or `simtrail receive` makes one"
            raise LogNotThere(msg)
        return Log(_uri(path) + "?mode=ro", create=False, checkpoints=False)
    except (PersistenceError, sqlite3.Error, OSError) as error:
        msg = f"the log {path} can't be opened for reading: {error}"
        raise LogError(msg) from error


def _is_made(path: Path) -> bool:
    """Whether the file has its table: the moment after it is made, it has not."""
    if not path.exists():
        return False
    with closing(sqlite3.connect(_uri(path) + "?mode=ro", uri=True, timeout=LOCK_TIMEOUT_S)) as connection:
        return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'stored_events'").fetchone() is not None


def _uri(path: Path) -> str:
    return f"file:{quote(str(path.absolute()))}"
