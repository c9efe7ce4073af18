"""The log on PostgreSQL: the `eventsourcing` library's table, made append-only, and one function that appends.

What binds it, each found by running it:

- **Order.** A position must never become visible after a higher one: a follower would have
  passed it over for ever. So whoever appends holds one lock until its commit is visible, and takes
  its positions, the next after the last, while it holds it. They have no gaps then, either.
- **The lock is an advisory one**, not that of the table: `LOCK TABLE … EXCLUSIVE` waits for any vacuum of
  the table, and one against wrap-around does not give way: the receivers would stand for as long as it takes.
- **One call of one function.** No round trip happens while the lock is held, so a
  receiver that hangs or is cut off holds up nobody; and the role that calls it needs no other right to write.
- **No pipeline.** The library sends a batch through psycopg's, which hangs for ever over about 5 MB.
- **A commit that ended with a warning is not acknowledged**: a wait for the synchronous
  standby that is cancelled ends so, and the event may be on one machine only.
"""

from __future__ import annotations

import hashlib
import select
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from uuid import UUID

import psycopg
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore, PostgresFactory
from eventsourcing.utils import Environment
from psycopg.rows import TupleRow, tuple_row

from schema.errors import LogError, LogNotThere
from schema.event import CORRECTION
from schema.log_link import RETRY_FIRST_S, Link

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Mapping, Sequence

    from eventsourcing.persistence import ApplicationRecorder, StoredEvent

    from schema.log import NewRow, Row, Stored

LOOK_S = 0.1
"""How often one that waits for a notification looks whether it is to stop."""

SCHEMA = "simtrail"

TABLE = "stored_events"

CHANNEL = "simtrail_log"
"""Told, without a payload, of each commit that appended."""

_IS_MADE = "SELECT to_regclass('simtrail.stored_events') IS NOT NULL"

_APPEND = "SELECT simtrail.append_events(%b::uuid[], %b::bigint[], %b::text[], %b::bytea[], %b::bigint)"

_HEAD = "SELECT coalesce(max(notification_id), 0) FROM simtrail.stored_events"

_PAGE = """
    SELECT {columns} FROM simtrail.stored_events
    WHERE notification_id > %(after)s AND notification_id <= (
        SELECT greatest(min(at), max(at) FILTER (WHERE size <= %(max_bytes)s)) FROM (
            SELECT notification_id AS at, sum(octet_length(state)) OVER (ORDER BY notification_id) AS size
            FROM (
                SELECT notification_id, state FROM simtrail.stored_events
                WHERE notification_id > %(after)s ORDER BY notification_id LIMIT %(max_events)s
            ) AS page
        ) AS sizes
    )
    ORDER BY notification_id
"""
"""A page, bounded by the server: what does not fit is not sent. A size is known without reading what it is of."""

_EVENTS = _PAGE.format(columns="notification_id, topic, state")
_STORED = _PAGE.format(columns="notification_id, convert_to(coalesce(topic, ''), 'UTF8'), coalesce(state, '')")
_ROWS = _PAGE.format(columns="notification_id, originator_id, originator_version, topic, state")

# The topic stands in the statement: only so does the planner see that the partial index is enough.
_CORRECTIONS = (
    "SELECT notification_id, topic, state FROM simtrail.stored_events "
    f"WHERE topic = '{CORRECTION}' AND notification_id <= %s ORDER BY notification_id"
)

_AT = "SELECT state FROM simtrail.stored_events WHERE notification_id = %s"

_ROLE_LOCK = "SELECT pg_try_advisory_lock(hashtext('simtrail'), hashtext(%s))"


class _Datastore(PostgresDatastore):
    """The library's, on our one connection instead of a pool."""

    def __init__(self, link: Link) -> None:
        super().__init__("", "", "", "", "", schema=SCHEMA)
        self.link = link

    def register_type_adapters(self) -> None:
        """Nothing of ours needs the library's composite type."""

    @contextmanager
    def get_connection(self) -> Iterator[psycopg.Connection[dict[str, object]]]:
        try:
            yield self.link.open()  # type: ignore[misc]
        except (psycopg.errors.LockNotAvailable, psycopg.errors.IntegrityError):
            # The server has answered, and answers again.
            raise
        except BaseException:
            # Whatever else it is, the next one may go to another server.
            self.link.drop()
            raise

    def close(self) -> None:
        super().close()
        with suppress(AttributeError):
            self.link.drop()


class Recorder(PostgresApplicationRecorder):
    """The library's recorder, which appends by our function and reads pages bounded by bytes."""

    faults = (psycopg.Error,)
    """What is raised where the server, or the way to it, fails."""

    datastore: _Datastore

    def __init__(self, datastore: _Datastore) -> None:
        super().__init__(datastore, events_table_name=TABLE)
        self._listening = 0
        self._given: tuple[int, bytes] | None = None
        self._made = 0

    def insert_events(self, stored_events: Sequence[StoredEvent], **_: object) -> Sequence[int]:
        """Called by the library."""
        return self.insert([(_uuid(each), each.originator_version, each.topic, each.state) for each in stored_events])

    def insert(self, rows: Sequence[NewRow], since: int | None = None) -> list[int]:
        """Store rows in one durable commit, as all there is after ``since`` if that is said; the position of each."""
        ids, versions, topics, states = (list(column) for column in zip(*rows, strict=True)) if rows else ([],) * 4
        link = self.datastore.link
        with self.datastore.get_connection() as connection, _cursor(connection) as cursor:
            link.warnings.clear()
            # Of one kind, as psycopg wants a list.
            cursor.execute(_APPEND, (ids, versions, topics, [bytes(state) for state in states], since))
            ((head,),) = cursor.fetchall()
            if link.warnings:
                msg = f"the commit ended with a warning: {'; '.join(link.warnings)}"
                raise psycopg.OperationalError(msg)
        return list(range(head + 1, head + 1 + len(rows)))

    def commit_nothing(self) -> None:
        """Commit, and wait for disk and standby, without an event."""
        self.insert([])

    def checkpoint(self) -> None:
        """Nothing: the server does so by itself."""

    def head(self) -> int:
        """The last position; 0 for none."""
        return int(self._fetch(_HEAD)[0][0])

    def select_page(self, after: int, max_events: int, max_bytes: int) -> list[tuple[int, str, bytes]]:
        """Position, topic and state of what follows a position."""
        page = self._page(_EVENTS, after, max_events, max_bytes)
        if page:
            self._given = page[-1][0], hashlib.sha256(page[-1][2]).digest()
        return page

    def select_stored(self, after: int, max_events: int, max_bytes: int) -> list[Stored]:
        """The same, the topic in UTF-8, whatever stands there."""
        return self._page(_STORED, after, max_events, max_bytes)

    def select_rows(self, after: int, max_events: int, max_bytes: int) -> list[tuple[int, Row]]:
        """Positions and whole rows."""
        return [(row[0], row[1:]) for row in self._page(_ROWS, after, max_events, max_bytes)]

    def select_corrections(self, last: int) -> list[tuple[int, str, bytes]]:
        """As `select_page`, of corrections alone, up to a position."""
        return self._fetch(_CORRECTIONS, (last,))

    def wait(self, stop: threading.Event, timeout_s: float) -> None:
        """Return when more may have been committed, on ``stop``, or after the time; also where the server is away."""
        link = self.datastore.link
        until = time.monotonic() + timeout_s
        try:
            with self.datastore.get_connection() as connection:
                if self._listening != link.made:
                    connection.execute(f"LISTEN {CHANNEL}".encode())
                    self._listening = link.made
                    return  # What was committed until now was told to nobody.
                while not stop.is_set() and (left := until - time.monotonic()) > 0:
                    if select.select([connection], [], [], min(left, LOOK_S))[0]:
                        connection.execute(b"")  # Takes in what came, which is a notification or the end.
                        return
        except psycopg.Error:
            stop.wait(min(timeout_s, link.wait_s() or RETRY_FIRST_S))

    def hold_role(self, role: str) -> bool:
        """Whether this connection is the one that has the role, for as long as it lasts."""
        return bool(self._fetch(_ROLE_LOCK, (role,))[0][0])

    def is_passing(self, error: BaseException) -> bool:
        """Whether another append may follow one that raised this.

        A commit speaks for itself: where an fsync fails, PostgreSQL ends and recovers from what is on
        disk, so that no later commit vouches for what an earlier one lost.
        """
        return isinstance(error, psycopg.Error)

    def is_away(self, error: BaseException) -> bool:
        """Whether the server, or the way to it, is what failed: it may come back."""
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)

    def finish(self) -> None:
        """Nothing is left to be done."""

    def require_made(self) -> None:
        """Raise `LogNotThere` where the database has no log."""
        if not self._fetch(_IS_MADE)[0][0]:
            msg = "there is no log in this database: `simtrail log init` makes one, run as whoever is to own it"
            raise LogNotThere(msg)

    def _page(self, statement: str, after: int, max_events: int, max_bytes: int) -> list[TupleRow]:
        return self._fetch(statement, {"after": after, "max_events": max_events, "max_bytes": max_bytes})

    def _fetch(
        self, statement: str, parameters: Sequence[object] | Mapping[str, object] | None = None
    ) -> list[TupleRow]:
        with self.datastore.get_connection() as connection, _cursor(connection) as cursor:
            self._require_same_log(cursor)
            return cursor.execute(statement, parameters).fetchall()

    def _require_same_log(self, cursor: psycopg.Cursor[TupleRow]) -> None:
        """Raise `LogError` where another server has taken over, and lacks what was read from the one before."""
        made = self.datastore.link.made
        if self._given is not None and self._made != made:
            position, digest = self._given
            found = cursor.execute(_AT, (position,)).fetchone()
            if found is None or hashlib.sha256(found[0]).digest() != digest:
                msg = (
                    f"the server that is primary now does not have the event at position {position} that was read "
                    "before: a standby was promoted that lacked it. Find out what was lost; then `simtrail rebuild`"
                )
                raise LogError(msg)
        self._made = made


class Factory(PostgresFactory):
    """The library's factory for one connection, with our recorder."""

    def __init__(self, env: Environment, conninfo: str) -> None:
        needed = dict.fromkeys(("POSTGRES_DBNAME", "POSTGRES_HOST", "POSTGRES_USER", "POSTGRES_PASSWORD"), "")
        super().__init__(Environment(env.name, {**env, **needed}))
        # The pool that the library has made of them was never opened.
        self.datastore = _Datastore(Link(conninfo))

    def application_recorder(self) -> ApplicationRecorder:
        """Called by the library."""
        return Recorder(self.datastore)  # type: ignore[arg-type]


def _cursor(connection: psycopg.Connection[dict[str, object]]) -> psycopg.Cursor[TupleRow]:
    return connection.cursor(row_factory=tuple_row, binary=True)


def _uuid(event: StoredEvent) -> UUID:
    if not isinstance(event.originator_id, UUID):
        msg = f"an originator of the log is a UUID, not {event.originator_id!r}"
        raise LogError(msg)
    return event.originator_id
