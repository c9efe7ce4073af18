from __future__ import annotations

import sqlite3

import pytest

from audit.stored import rows_after
from schema import event
from schema.errors import LogError
from schema.event import TOPIC


def test_rows_come_as_they_are_stored(made):
    """Bounded by events and by bytes, undecoded, in order."""
    made.receive(b"1", b"2" * 1_000, b"3")
    rows = rows_after(made.log, 0)
    assert [(position, topic) for position, topic, _ in rows] == [(n, TOPIC.encode()) for n in (1, 2, 3)]
    assert [event.decode(state).body for _, _, state in rows] == [b"1", b"2" * 1_000, b"3"]
    assert [row[0] for row in rows_after(made.log, 1, max_events=1)] == [2]
    assert [row[0] for row in rows_after(made.log, 0, max_bytes=500)] == [1]


def test_a_log_that_can_not_be_read_says_from_where(made):
    """A database error is the log's error."""
    made.receive(b"1")
    other = sqlite3.connect(made.folder / "log.db")
    other.execute("DROP TABLE stored_events")
    other.close()
    with pytest.raises(LogError, match="after position 3"):
        rows_after(made.log, 3)


def test_a_row_that_nobody_else_can_read_is_read(made):
    """Columns of a type that they can't have are empty; the rows around them are as they are."""
    made.receive(b"1", b"2", b"3", b"4", b"5")
    made.tamper(
        "log.db",
        "UPDATE stored_events SET state = CAST(x'ff' AS TEXT) WHERE rowid = 2",
        "UPDATE stored_events SET topic = CAST(topic AS BLOB) WHERE rowid = 3",
        "UPDATE stored_events SET topic = CAST(x'ff' AS TEXT), state = 3.5 WHERE rowid = 4",
    )
    rows = rows_after(made.log, 0)
    assert [position for position, _, _ in rows] == [1, 2, 3, 4, 5]
    assert [topic.decode(errors="replace") for _, topic, _ in rows] == [TOPIC, TOPIC, "", "\ufffd", TOPIC]
    assert [bool(state) for _, _, state in rows] == [True, False, True, False, True]
