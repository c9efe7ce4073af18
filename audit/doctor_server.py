"""The doctor's look at a log on a server: whether that server, and that role, can keep to the log's contract.

What is tried is rolled back, or refused, and so leaves no trace among the events: it is asked of any engine that
speaks PostgreSQL's protocol, and by whoever is to append there.
"""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg

from audit.doctor import RESTORE, Finding
from schema.errors import LogNotThere
from schema.log import one_line
from schema.log_definition import TRIGGERS, VERSION
from schema.log_link import Connection, connected, conninfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psycopg.rows import TupleRow

    from schema.log_place import Server

OLDEST = 14
"""PostgreSQL 14 is the first with CREATE OR REPLACE TRIGGER, and the oldest that is still kept up."""

EVENTS = 1_000_000
"""Of how many of the last positions holes are looked for, unless all are asked for: under a second's work."""

LOCK_MS = 200
"""How long the second of two appends is let wait, to see that it does."""

APPEND = "SELECT simtrail.append_events(%s::uuid[], %s::bigint[], %s::text[], %s::bytea[])"

HOLES = """
    SELECT count(*), coalesce(min(notification_id), 1), coalesce(max(notification_id), 0)
    FROM simtrail.stored_events
    WHERE notification_id > %s * (SELECT coalesce(max(notification_id), 0) - %s FROM simtrail.stored_events)
"""

RIGHTS = """
    SELECT rolsuper, pg_has_role(current_user, relowner, 'MEMBER'),
        has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER, REFERENCES')
    FROM pg_class c, pg_roles r
    WHERE c.oid = 'simtrail.stored_events'::regclass AND rolname = current_user
"""


def log_on_server(server: Server, *, full: bool) -> Finding:
    """Whether the log on a server is made, whole, append-only, durable and in order, and our role is a narrow one."""
    try:
        with _connected(server) as connection, _connected(server) as other:
            for check in (_version, _made, _durable, _append_only, _in_order, _told):
                if (finding := check(connection, other)) is not None:
                    return finding
            return _whole(connection, full=full)
    except psycopg.OperationalError as error:
        return Finding(
            "log",
            "failed",
            f"{server} can't be reached: {one_line(error)}",
            "see that it runs, and that this may log in",
        )


@contextmanager
def _connected(server: Server) -> Iterator[Connection]:
    with closing(connected(conninfo(server.url))) as connection:
        yield connection


def _version(connection: Connection, _: Connection) -> Finding | None:
    version = connection.info.server_version // 10_000
    if version >= OLDEST:
        return None
    return Finding("log", "failed", f"the server is PostgreSQL {version}", f"use {OLDEST} or newer")


def _made(connection: Connection, _: Connection) -> Finding | None:
    (made, comment) = _one(
        connection,
        "SELECT to_regclass('simtrail.stored_events'), obj_description(to_regclass('simtrail.stored_events'))",
    )
    if made is None:
        msg = "there is no log in this database: `simtrail log init` makes one"
        raise LogNotThere(msg)
    if f"version {VERSION}:" not in str(comment):
        told = f"the log was made by another version of simtrail: {comment!r}, this one makes version {VERSION}"
        return Finding("log", "failed", told, "run `simtrail log init` again, as its owner")
    return None


def _durable(connection: Connection, _: Connection) -> Finding | None:
    """Whether a commit that is answered is on disk. What the session says of it, the function sets right."""
    off = [name for name in ("fsync", "full_page_writes") if _one(connection, f"SHOW {name}")[0] != "on"]
    if off:
        told = f"{' and '.join(off)} {'is' if len(off) == 1 else 'are'} off on the server: a crash can lose what was acknowledged"
        return Finding("log", "failed", told, f"ALTER SYSTEM SET {off[0]} = on, and reload")
    return None


def _append_only(connection: Connection, _: Connection) -> Finding | None:
    """Whether the triggers are there, and fire in any session."""
    there = {
        name
        for (name,) in connection.execute(
            "SELECT tgname FROM pg_trigger WHERE tgrelid = 'simtrail.stored_events'::regclass AND tgenabled = 'A'"
        )
    }
    lacking = [verb for verb in TRIGGERS if f"stored_events_no_{verb}" not in there]
    if lacking:
        told = (
            f"the triggers that refuse {', '.join(map(str.upper, lacking))} of events are not there, or not always on"
        )
        return Finding(
            "log", "failed", told, "find out who removed them; compare the log with a backup; then `simtrail log init`"
        )
    return None


def _in_order(connection: Connection, other: Connection) -> Finding | None:
    """Whether of two that append at once one waits, what is not committed is not seen, and what is refused leaves no gap."""
    remedy = (
        "use an engine with PostgreSQL's advisory locks, READ COMMITTED and ordered visibility; see docs/scaling.md"
    )
    event = ([uuid4()], [1], ["webhook.received"], [b""])
    head = _one(other, "SELECT coalesce(max(notification_id), 0) FROM simtrail.stored_events")[0]
    with connection.transaction(force_rollback=True):
        connection.execute(APPEND, event)
        if _refused(other, lambda: other.execute(APPEND, ([], [], [], []))) != psycopg.errors.LockNotAvailable:
            return Finding(
                "log", "failed", "two that append at once do not wait for each other: events can be missed", remedy
            )
        seen = _one(other, "SELECT count(*) FROM simtrail.stored_events WHERE originator_id = %s", (event[0][0],))[0]
    if seen:
        return Finding("log", "failed", "what is not committed is seen by others", remedy)
    with connection.transaction(force_rollback=True):
        # Others may have appended since; nobody can have gone back.
        if _one(connection, APPEND, event)[0] < head:
            return Finding("log", "failed", "positions went back", RESTORE)
    return None


def _told(connection: Connection, other: Connection) -> Finding | None:
    """Whether who listens is told."""
    connection.execute("LISTEN simtrail_doctor")
    other.execute("SELECT pg_notify('simtrail_doctor', '')")
    if list(connection.notifies(timeout=1, stop_after=1)):
        return None
    told = "LISTEN is not told by NOTIFY: projectors look once a second instead of at once"
    return Finding("log", "warning", told, "connect without a pooler, or through one that keeps sessions")


def _whole(connection: Connection, *, full: bool) -> Finding:
    count, first, last = _one(connection, HOLES, (0 if full else 1, EVENTS))
    start = 1 if full else max(1, last - EVENTS + 1)
    if count and (first != start or last - first + 1 != count):
        told = f"positions {start} to {last} have {last - start + 1 - count} holes: events were removed"
        return Finding("log", "failed", told, RESTORE)
    which = f"{count} events" if start == 1 else f"the last {count} of {last} events"
    standbys = _one(connection, "SHOW synchronous_standby_names")[0]
    kept = (
        f"on the synchronous standby too ({standbys})" if standbys else "on no other server before it is acknowledged"
    )
    told = (
        f"{which} without holes on PostgreSQL {connection.info.server_version // 10_000}; append-only, in order, {kept}"
    )
    superuser, owner, writes = _one(connection, RIGHTS)
    if superuser or owner or writes:
        whose = "superuser" if superuser else "its owner" if owner else "one that may write in its table"
        remedy = "give --log the role that `simtrail log init` made, which may only append and read"
        return Finding("log", "warning", f"{told}; but the role is {whose}", remedy)
    return Finding("log", "ok", told + ("" if standbys else "; for more, see docs/scaling.md"))


def _refused(connection: Connection, act: Callable[[], object]) -> type[psycopg.Error] | None:
    """What an act on a connection is refused with, if it waits for no lock longer than a moment."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(f"SET LOCAL lock_timeout = {LOCK_MS}")
            act()
    except psycopg.Error as error:
        return type(error)
    return None


def _one(connection: Connection, statement: str, parameters: tuple[object, ...] = ()) -> TupleRow:
    row = connection.execute(statement.encode(), parameters).fetchone()
    if row is None:
        raise LookupError(statement)
    return row
