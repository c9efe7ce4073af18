from __future__ import annotations

import sqlite3

import pytest
from sqlite_utils import Database

from schema import search, tables, views
from schema.tables import TABLES


@pytest.fixture(scope="module")
def database():
    made = Database(memory=True)
    with made.atomic():
        tables.create(made)
        tables.create_indexes(made)
    yield made
    made.close()


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_table_is_strict_and_as_declared(database, table):
    """Columns, types, keys and references are those declared, and every table is STRICT."""
    (listed,) = [row for row in database.execute("PRAGMA table_list").fetchall() if row[1] == table.name]
    without_rowid, strict = listed[4:6]
    assert (bool(without_rowid), strict) == (table.without_rowid, 1)
    made = database.table(table.name)
    assert {column.name: column.type.lower() + "!" * column.notnull for column in made.columns} == table.columns
    assert tuple(made.pks) == table.key
    assert {key.column: (key.other_table, key.other_column) for key in made.foreign_keys} == table.references


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_reference_can_be_followed_back_by_an_index(database, table):
    """Whoever looks from a card to its events, or from a delivery to its rows, finds an index."""
    indexed = {index.columns[0] for index in database.table(table.name).indexes} | {table.key[0]}
    assert set(table.references) - {"source"} <= indexed


def test_what_is_personal_is_in_tables_of_their_own(database):
    """No table that everybody may see has a column of these, and no view of it shows one."""
    apart = {"remote", "headers", "body", "attributes", "first_name", "last_name"}
    for name in (set(tables.BY_NAME) - tables.PERSONAL) | (set(views.VIEWS) - views.PERSONAL):
        columns = {row[1] for row in database.execute(f"PRAGMA table_info({name})").fetchall()}
        assert columns
        assert columns & apart == set(), name
    assert set(views.VIEWS) >= views.PERSONAL
    assert {each.name for each in search.SEARCHES} >= search.PERSONAL
    assert {each.table for each in search.SEARCHES if each.name in search.PERSONAL} <= tables.PERSONAL


def test_sums_are_shown_to_the_kopeck(database):
    """The view formats by integers: no sum is a kopeck off, none loses its sign."""
    database.execute("INSERT INTO accounts VALUES ('s', 'good', '', NULL, 0, 0, 0, '', '', 1)")
    for sim, kopecks in (("a", -1520), ("b", 5), ("c", None), ("d", 2**53 + 1)):
        database.execute(
            "INSERT INTO sims (sim, source, status, balance_kopecks, first_seen_at, last_seen_at, position)"
            " VALUES (?, 's', 'active', ?, '', '', 1)",
            (sim, kopecks),
        )
    shown = [row[0] for row in database.execute("SELECT balance_rubles FROM sim_status ORDER BY sim")]
    assert shown == ["-15.20", "0.05", None, "90071992547409.93"]


def test_views_run_on_an_empty_model():
    """A fresh installation's pages are empty, not broken."""
    made = Database(memory=True)
    tables.create(made)
    for view in made.views:
        assert list(view.rows) == []
    made.close()


def test_a_wrong_type_is_refused(database):
    """STRICT: what a column says it holds is what it holds."""
    with pytest.raises(sqlite3.IntegrityError):
        database.execute("INSERT INTO tracking VALUES ('x', 'many', NULL, 1, '')")
