"""Roles: who may see what of the read model, held by SQLite itself.

A role sees a table whole or not at all: personal data are in tables of their own.
Datasette asks before it shows a table's page, but a table can be reached by other
ways too: arbitrary SQL, a filter, a view, a facet, a label, a search index. So each
connection carries SQLite's own authorizer, which is asked for every table of every
statement as it is prepared, whatever the way. What it doesn't know, it denies.
"""

from __future__ import annotations

import sqlite3
from enum import StrEnum

from schema import search, tables, views


class Role(StrEnum):
    """What a user is, from the least to the most that is shown."""

    AUDITOR = "auditor"
    PRIVACY = "privacy"
    ADMIN = "admin"

    @property
    def personal(self) -> bool:
        """Whether it may see personal data, and bodies as they were received."""
        return self is not Role.AUDITOR


SHOWN = (frozenset(tables.BY_NAME) - tables.PERSONAL) | (frozenset(views.VIEWS) - views.PERSONAL)
"""Tables and views that every role may see. What is not in the schema is seen by those alone who see all."""

_SCHEMA = frozenset({"sqlite_master", "sqlite_schema"})
_FUNCTIONS = frozenset({"json_each", "json_tree"})
_SEARCHED = frozenset(
    name + part
    for name in {each.name for each in search.SEARCHES} - search.PERSONAL
    for part in ("", "_config", "_data", "_docsize", "_idx")
)
"""What FTS5 keeps of what every role may see, in tables of its own."""

_SETTINGS = frozenset(f"{each.name}_config" for each in search.SEARCHES)
"""Which FTS5 reads of an index before all else, were it only to tell its columns: its version."""

_READABLE = SHOWN | _SCHEMA | _FUNCTIONS | _SEARCHED | _SETTINGS
_HIDDEN = tables.PERSONAL | views.PERSONAL | search.PERSONAL
_PRAGMAS = "pragma_"

_ATTACHING = frozenset({sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH})


def may_see(role: Role | None, table: str) -> bool:
    """Whether a role may see a table or a view."""
    return role is not None and (role.personal or table in SHOWN)


def is_refusal(error: BaseException) -> bool:
    """Whether SQLite failed a statement since its authorizer refused."""
    return isinstance(error, sqlite3.DatabaseError) and str(error).endswith(("is prohibited", "not authorized"))


def authorize(connection: sqlite3.Connection, role: Role | None) -> None:
    """Let a connection read from now on what a role may see, and nothing else; without a role, the schema alone.

    A statement over what is denied fails as it is prepared. Statements prepared before
    are prepared anew (SQLite expires them), so a connection may serve one role after another.
    """
    if role is None:
        connection.set_authorizer(_nobody)
    elif role.personal:
        connection.set_authorizer(_all)
    else:
        connection.set_authorizer(_auditor)


def _all(action: int, *_: str | None) -> int:
    return sqlite3.SQLITE_DENY if action in _ATTACHING else sqlite3.SQLITE_OK


def _nobody(action: int, table: str | None, *_: str | None) -> int:
    if action == sqlite3.SQLITE_READ and table not in _SCHEMA | _SETTINGS and not str(table).startswith(_PRAGMAS):
        return sqlite3.SQLITE_DENY
    return _all(action)


def _auditor(action: int, table: str | None, column: str | None, *_: str | None) -> int:
    if action != sqlite3.SQLITE_READ:
        return _all(action)
    if table in _READABLE or str(table).startswith(_PRAGMAS):
        return sqlite3.SQLITE_OK  # What is under a view is asked for by itself.
    # Without a column SQLite asks for rows alone, and under a WITH's own name too.
    return sqlite3.SQLITE_OK if not column and table not in _HIDDEN else sqlite3.SQLITE_DENY
