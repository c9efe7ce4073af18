from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest
from sqlite_utils import Database

from projections import statements
from projections.rows import Rows
from projections.sims import Sim
from schema import tables
from schema.tables import BY_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator


def rows_of(statements_run: list[str]) -> tuple[sqlite3.Connection, Rows[Sim]]:
    """The rows of `sims` in a new database, which notes each statement."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    tables.create(Database(connection))
    tables.create_indexes(Database(connection))
    rows = Rows(connection, BY_NAME["sims"], Sim)
    rows.forget()
    connection.set_trace_callback(statements_run.append)
    return connection, rows


def test_only_columns_that_differ_are_named_if_they_have_an_index():
    """What has no index is set as it is; an index is told of a column only when that is another."""
    run: list[str] = []
    connection, rows = rows_of(run)
    card = Sim("main:1", "main", iccid="1", status="active", tariff="M2M", position=1)
    rows.put(card)
    rows.write()
    run.clear()
    card.balance_kopecks, card.position, card.status = 7, 2, "blocked"
    rows.put(card)
    rows.write()
    (update,) = {statement for statement in run if statement.startswith("UPDATE sims")}
    assert all(f'"{column}"' in update for column in ("balance_kopecks", "groups", "position", "status"))
    assert not any(f'"{column}"' in update for column in ("source", "iccid", "tariff", "last_job", "last_seen_at"))
    found = connection.execute("SELECT iccid, tariff, balance_kopecks, position, status FROM sims").fetchall()
    assert found == [("1", "M2M", 7, 2, "blocked")]


def test_rows_that_were_read_are_changed_by_what_differs_too():
    """A row that another has written is read, changed and written whole."""
    run: list[str] = []
    connection, rows = rows_of(run)
    rows.put(Sim("main:1", "main", msisdn="+79000000001", position=1))
    rows.write()
    rows.forget()
    found = rows.get("main:1")
    assert found is not None
    found.msisdn, found.position = None, 5
    rows.put(found)
    rows.remove(Sim("main:2", "main"))
    rows.write()
    assert connection.execute("SELECT sim, msisdn, position FROM sims").fetchall() == [("main:1", None, 5)]


def many() -> Iterator[int]:
    """Numbers of rows about the number that one statement inserts."""
    at_once = statements.ROWS_AT_ONCE
    yield from (0, 1, at_once - 1, at_once, at_once + 1, 3 * at_once)


@pytest.mark.parametrize("column", [columns[0] for columns in BY_NAME["sims"].lookups])
def test_a_row_is_looked_up_by_the_index_of_what_is_known_of_it(column):
    """Not by that of its source, of which there may be a million."""
    run: list[str] = []
    connection, rows = rows_of(run)
    rows.put(Sim("main:1", "main", position=1))
    rows.write()
    rows.forget()
    run.clear()
    assert rows.find(column, "1", "main") == []
    (asked,) = run
    plan = [step for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {asked}")]
    assert plan[-1] == f"SEARCH r USING INDEX idx_sims_{column} ({column}=?)"


def test_any_number_of_rows_is_inserted(subtests: pytest.Subtests):
    """Many at once or one by one, each row is there once, in order."""
    for number in many():
        with subtests.test(number=number):
            connection, _ = rows_of([])
            table = BY_NAME["job_progress"]
            rows = [(n, f"main:{n}", "main", "", None, None, None, 0, "applied", 0) for n in range(number)]
            statements.insert(connection, table, rows)
            assert connection.execute("SELECT * FROM job_progress ORDER BY position").fetchall() == rows
