"""Datasette's page of one row, with links that a role may follow and that are counted quickly.

Datasette counts the rows that refer to the one shown, in every table, each to its end: of
5 million rows that takes seconds, and a table that the role may not see fails the page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from datasette.utils import escape_sqlite  # type: ignore[import-untyped]

from audit import roles
from audit.site.access import ROLE

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from audit.site.installation import Datasette

COUNTED = 1_000
"""Rows that refer to a row are counted up to here; more is as good as many."""


async def foreign_key_tables(view: Any, database: str, table: str, pk_values: Sequence[str]) -> list[dict[str, Any]]:
    """The tables that refer to a row by a column with an index, and how often: the method of Datasette's view."""
    if len(pk_values) != 1:
        return []
    db = view.ds.databases[database]
    references = (await db.get_all_foreign_keys())[table]["incoming"]
    seen = [key for key in references if roles.may_see(ROLE.get(), key["other_table"])]
    key = pk_values[0]
    counts: list[int | None] = await db.execute_fn(lambda connection: _counts(connection, seen, key))
    return [
        {**reference, "count": count, "link": _link(view.ds, database, reference, key)}
        for reference, count in zip(seen, counts, strict=True)
        if count
    ]


def _link(datasette: Datasette, database: str, reference: dict[str, str], key: str) -> str:
    return f"{datasette.urls.table(database, reference['other_table'])}?{urlencode({reference['other_column']: key})}"


def _counts(connection: sqlite3.Connection, references: Iterable[dict[str, str]], key: str) -> list[int | None]:
    return [_count(connection, each["other_table"], each["other_column"], key) for each in references]


def _count(connection: sqlite3.Connection, table: str, column: str, key: str) -> int | None:
    """Rows with this key, one more than `COUNTED` at most; None where no index finds them."""
    rows = f"SELECT 1 FROM {escape_sqlite(table)} WHERE {escape_sqlite(column)} = ? LIMIT {COUNTED + 1}"
    plan = connection.execute(f"EXPLAIN QUERY PLAN {rows}", (key,)).fetchall()
    if not all(step["detail"].startswith("SEARCH") for step in plan):
        return None
    (count,) = connection.execute(f"SELECT count(*) FROM ({rows})", (key,)).fetchone()
    return int(count)


def route(datasette: Datasette) -> tuple[str, object]:
    """The path of Datasette's own page of a row."""
    # Here, since Datasette loads its plugins before it is whole itself.
    from datasette.views.row import RowView  # type: ignore[import-untyped] # noqa: PLC0415

    view: Any = type("Rows", (RowView,), {"foreign_key_tables": foreign_key_tables})
    return r"/(?P<database>(?!-/)[^\/\.]+)/(?P<table>[^/]+?)/(?P<pks>[^/]+?)(\.(?P<format>\w+))?$", view.as_view(
        datasette
    )
