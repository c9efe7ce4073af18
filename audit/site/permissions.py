"""What a request may do, as Datasette asks it: default deny."""

from __future__ import annotations

import sqlite3
from functools import lru_cache
from typing import TYPE_CHECKING

from audit import roles
from audit.site.access import INTERNAL, ROLE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from audit.site.installation import Datasette

_compiled: dict[tuple[roles.Role, str], bool] = {}

TABLES = 256
"""Tables of which it is remembered what is allowed: several times what there is, while whoever asks may name others."""


def permission(datasette: Datasette, action: str, resource: object) -> bool | Callable[[], Awaitable[bool]]:
    """Whether the request's role may do it."""
    role = ROLE.get()
    if role is None:
        return False
    match action, resource:
        case "view-instance", _:
            return True
        # A statement is held to what the role may see by the connection it runs on.
        case "view-database" | "execute-sql", database:
            return database != INTERNAL
        case "view-table", (database, table):
            return database != INTERNAL and roles.may_see(role, str(table))
        case "view-query", (str() as database, str() as query):
            return lambda: _may_run(datasette, role, database, query)
        case _:
            return False


def remember(datasette: Datasette) -> None:
    """Let Datasette look up what its description allows of a table once, and not by copying all of it for each check.

    The list of tables checks some two hundred times. The description does not change while it is served, and what
    `permission` says is believed anyhow.
    """
    datasette._table_permission_allows = lru_cache(TABLES)(datasette._table_permission_allows)  # noqa: SLF001


async def _may_run(datasette: Datasette, role: roles.Role, database: str, name: str) -> bool:
    """Whether a canned query reads nothing that the role may not see: SQLite compiles it, and is asked."""
    query = await datasette.get_canned_query(database, name, None)
    if query is None or query.get("write"):
        return False
    sql = query["sql"]
    if (role, sql) not in _compiled:
        try:
            await datasette.get_database(database).execute_fn(lambda connection: _explain(connection, sql))
        except sqlite3.DatabaseError as error:
            if not roles.is_refusal(error):
                return True  # Its page says what is wrong with it.
            _compiled[role, sql] = False
        else:
            _compiled[role, sql] = True
    return _compiled[role, sql]


class _Empty(dict[str, str]):
    def __missing__(self, _: str) -> str:
        return ""


def _explain(connection: sqlite3.Connection, sql: str) -> None:
    connection.execute(f"EXPLAIN {sql}", _Empty()).close()
