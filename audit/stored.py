"""The log's events as they are stored: bytes, not deliveries.

A proof is about what is stored, whatever it says. So this reads every row that a table
can hold, also one that was put there by somebody else and that no other reader stands.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, TypeAlias

from eventsourcing.persistence import PersistenceError
from eventsourcing.sqlite import SQLiteApplicationRecorder

from schema.errors import LogError

if TYPE_CHECKING:
    from schema.log import Log

PAGE_EVENTS = 256
"""Events read from the log at a time: as many as a tile has hashes."""

PAGE_BYTES = 16 * 1024 * 1024
"""Bytes of state read at a time; one event larger than this is a page of its own."""

Row: TypeAlias = "tuple[int, bytes, bytes]"
"""An event as it is stored: position, topic in UTF-8, state. A column of another type than these reads as empty."""

_PAGE = """
    SELECT rowid,
        CASE typeof(topic) WHEN 'text' THEN CAST(topic AS BLOB) ELSE x'' END,
        CASE typeof(state) WHEN 'blob' THEN state ELSE x'' END
    FROM stored_events WHERE rowid > ? ORDER BY rowid LIMIT ?
"""


def rows_after(log: Log, position: int, *, max_events: int = PAGE_EVENTS, max_bytes: int = PAGE_BYTES) -> list[Row]:
    """The events that follow a position, in order, as many as fit a page. Raises `LogError`."""
    recorder = log.recorder
    if not isinstance(recorder, SQLiteApplicationRecorder):
        raise TypeError(type(recorder))
    page: list[Row] = []
    size = 0
    try:
        with recorder.datastore.transaction(commit=False) as wrapped:
            cursor = wrapped.sqlite_cursor
            cursor.row_factory = None
            cursor.execute(_PAGE, (position, max_events))
            for row in cursor:
                size += len(row[2])
                if page and size > max_bytes:
                    break
                page.append(row)
    except (PersistenceError, sqlite3.Error) as error:
        msg = f"the log can't be read after position {position}: {error}"
        raise LogError(msg) from error
    return page
