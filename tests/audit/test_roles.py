"""Roles: what SQLite itself lets a connection read."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from audit import roles
from audit.roles import Role
from projections.read_model import open_to_write
from schema import search
from schema.configuration import Configuration
from schema.tables import BY_NAME
from schema.views import VIEWS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REFUSED = r"prohibited|not authorized"


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A read model with one delivery and one user in it."""
    path = tmp_path / "audit.db"
    open_to_write(path, Configuration()).close()
    with closing(sqlite3.connect(path)) as made:
        made.execute(
            "INSERT INTO deliveries VALUES (1, '2026-05-01T00:00:00.000000Z', 'main', 'unreadable', NULL, NULL, 'what', 'unreadable',"
            " '[]', NULL, NULL, NULL, 0, 0, 3, 'aa')"
        )
        made.execute("INSERT INTO delivery_contents VALUES (1, '203.0.113.7', '{}', 'Ivanov')")
        search.extend(made, 0)
        made.execute("INSERT INTO sim_attributes VALUES ('main:id-1', '{}', 1)")
        made.execute("INSERT INTO users VALUES ('main:7', 'main', '7', 'Ivan', 'Ivanov', NULL, '', '', 1)")
        made.execute("CREATE TABLE of_a_later_version (a)")
        made.execute("CREATE VIEW named AS SELECT last_name FROM users")
        made.commit()
        yield made


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM users",
        "SELECT count(*) FROM users",
        "SELECT 1 FROM jobs WHERE EXISTS (SELECT 1 FROM users)",
        "WITH a AS (SELECT last_name FROM users) SELECT * FROM a",
        "SELECT * FROM named",
        "SELECT * FROM of_a_later_version",
        "SELECT * FROM deliveries JOIN delivery_contents USING (position)",
        "SELECT position FROM deliveries LEFT JOIN delivery_contents c USING (position) WHERE c.body LIKE '%Ivanov%'",
        "SELECT count(*) FROM delivery_contents",
        "SELECT rowid FROM delivery_contents",
        "SELECT * FROM quarantine_contents",
        "SELECT count(*) FROM quarantine_contents",
        "SELECT attributes FROM sim_attributes",
        "SELECT sim FROM sims WHERE sim IN (SELECT sim FROM sim_attributes)",
        "SELECT * FROM bill_attributes",
        "SELECT columns FROM rebuild_personal_changes",
        "SELECT max(last_name) OVER () FROM users",
        "SELECT rowid FROM users_fts WHERE users_fts MATCH 'ivan'",
        "SELECT rowid FROM users_fts",
        "SELECT count(*) FROM users_fts",
        "SELECT block FROM users_fts_data",
        "SELECT rowid FROM bodies_fts WHERE bodies_fts MATCH 'ivan'",
        "SELECT body FROM bodies_fts",
        "SELECT block FROM bodies_fts_data",
        "ATTACH 'other.db' AS other",
    ],
)
def test_an_auditor_may_not_run_sql_over_what_is_personal_or_unknown(connection: sqlite3.Connection, sql: str) -> None:
    """However a statement comes to a table that an auditor may not see, SQLite refuses it; to those who may, it answers."""
    roles.authorize(connection, Role.AUDITOR)
    with pytest.raises(sqlite3.DatabaseError, match=REFUSED) as refusal:
        connection.execute(sql)
    assert roles.is_refusal(refusal.value)

    roles.authorize(connection, Role.PRIVACY)
    if "ATTACH" not in sql:
        connection.execute(sql).fetchall()


@pytest.mark.parametrize(
    ("sql", "answer"),
    [
        (
            "SELECT * FROM deliveries",
            (
                1,
                "2026-05-01T00:00:00.000000Z",
                "main",
                "unreadable",
                None,
                None,
                "what",
                "unreadable",
                "[]",
                None,
                None,
                None,
                0,
                0,
                3,
                "aa",
            ),
        ),
        ("SELECT position, summary FROM quarantine", (1, "what")),
        ("SELECT count(*) FROM rebuild_changes", (0,)),
        ("WITH a AS (SELECT 1) SELECT count(*) FROM a", (1,)),
        ("SELECT value FROM json_each('[5]')", (5,)),
        ("SELECT summary FROM deliveries_fts WHERE deliveries_fts MATCH 'hat'", ("what",)),
        ("SELECT count(*) FROM sims_fts WHERE sims_fts MATCH 'hat'", (0,)),
        ("SELECT count(*) FROM sim_status", (0,)),
        ("SELECT count(*) > 0 FROM sqlite_master", (1,)),
    ],
)
def test_an_auditor_reads_the_rest_whole(connection: sqlite3.Connection, sql: str, answer: tuple[object, ...]) -> None:
    """Every table that is not one of personal data answers with all of its columns, and so do views of it."""
    roles.authorize(connection, Role.AUDITOR)

    assert connection.execute(sql).fetchone() == answer


def test_a_connection_serves_one_role_after_another(connection: sqlite3.Connection) -> None:
    """A statement that was prepared for one role is refused to the next, though Python keeps it prepared."""
    sql = "SELECT last_name FROM users"
    roles.authorize(connection, Role.ADMIN)
    assert connection.execute(sql).fetchone() == ("Ivanov",)
    for role in (Role.AUDITOR, None):
        roles.authorize(connection, role)
        with pytest.raises(sqlite3.DatabaseError, match=REFUSED):
            connection.execute(sql)
    roles.authorize(connection, Role.PRIVACY)
    assert connection.execute(sql).fetchone() == ("Ivanov",)


def test_nobody_reads_anything(connection: sqlite3.Connection) -> None:
    """Without a role a connection reads the schema, which Datasette needs to start, and no table."""
    roles.authorize(connection, None)

    assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,)
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")]
    for name in names:
        assert connection.execute(f"PRAGMA table_info({name})").fetchall()
    assert set(names) > {*BY_NAME, *VIEWS}
    for name in names:
        if name.endswith("_fts_config"):
            continue
        with pytest.raises(sqlite3.DatabaseError, match=REFUSED):
            connection.execute(f"SELECT count(*) FROM {name}")


@pytest.mark.parametrize("name", [*BY_NAME, *VIEWS])
def test_a_page_is_shown_to_those_whose_statements_are_answered(connection: sqlite3.Connection, name: str) -> None:
    """What Datasette is told of a table, and what SQLite answers for it, are the same for every role."""
    for role in Role:
        roles.authorize(connection, role)
        try:
            connection.execute(f"SELECT * FROM {name}")
            connection.execute(f"SELECT count(*) FROM {name}")
            answered = True
        except sqlite3.DatabaseError:
            answered = False
        assert roles.may_see(role, name) is answered
