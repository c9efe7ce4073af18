"""The difference between two read models: what another reading of the same log would change.

Every row that is in one and not in the other, and every column that differs, with
the position of the event that explains the row. SQLite compares, row by row and in
the order of the keys; nothing is held in memory.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

import msgspec

from schema.errors import ReadModelError
from schema.tables import FOLDED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from schema.tables import Table

Kind = Literal["added", "removed", "changed"]
Value = str | int | bytes | None

SHOWN_BYTES = 64
"""Of a file's content only this much is told: that it differs is the news."""


class Change(msgspec.Struct, frozen=True):
    """One row that differs. ``columns`` maps each column to its value before and after.

    ``position`` is that of the event which made the row as it is after, or as it was
    if it is gone.
    """

    table: str
    kind: Kind
    key: tuple[Value, ...]
    position: int
    columns: dict[str, tuple[Value, Value]]


@contextmanager
def compared(before: Path, after: Path) -> Iterator[sqlite3.Connection]:
    """A connection for `changes` that sees one read model, ``before``, as it is now and stays.

    A projector may go on writing it meanwhile. The other is seen as it is when it is
    first looked at. Raises `ReadModelError` where one can't be read.
    """
    try:
        with closing(sqlite3.connect(_uri(after), uri=True, isolation_level=None)) as connection:
            connection.execute("ATTACH ? AS before", (_uri(before),))
            connection.execute("BEGIN")
            connection.execute("SELECT 1 FROM before.sqlite_master").fetchone()
            yield connection
    except sqlite3.Error as error:
        msg = f"{before} and {after} can't be compared: {error}"
        raise ReadModelError(msg) from error


def changes(connection: sqlite3.Connection) -> Iterator[Change]:
    """Every row that differs, table by table, each in the order of its keys.

    Two read models of different versions are compared by the tables and columns
    that both have.
    """
    for table in FOLDED:
        yield from _changes(connection, table)


def _changes(connection: sqlite3.Connection, table: Table) -> Iterator[Change]:
    shared = [
        column
        for column in _columns(connection, "main", table.name)
        if column in _columns(connection, "before", table.name)
    ]
    if not shared or not set(table.key) <= set(shared):
        return
    place = shared.index("position") if "position" in shared else None
    on = " AND ".join(f'n."{column}" = o."{column}"' for column in table.key)
    order = ", ".join(f'n."{column}"' for column in table.key)
    width = len(shared)
    new, old = (", ".join(f'{name}."{column}"' for column in shared) for name in "no")
    missing = f'o."{table.key[0]}" IS NULL'
    for kind, one, other in (("removed", "before", "main"), ("added", "main", "before")):
        sql = f"SELECT {new} FROM {one}.{table.name} n LEFT JOIN {other}.{table.name} o ON {on} WHERE {missing} ORDER BY {order}"
        for row in connection.execute(sql):
            sides = ((value, None) if kind == "removed" else (None, value) for value in row)
            yield _change(table, "removed" if kind == "removed" else "added", shared, row, place, sides)
    differ = " OR ".join(f'n."{column}" IS NOT o."{column}"' for column in shared if column not in table.key)
    if not differ:
        return
    sql = f"SELECT {new}, {old} FROM main.{table.name} n JOIN before.{table.name} o ON {on} WHERE {differ} ORDER BY {order}"
    for row in connection.execute(sql):
        yield _change(table, "changed", shared, row[:width], place, zip(row[width:], row[:width], strict=True))


def _change(  # noqa: PLR0913, PLR0917 - the parts of one row
    table: Table,
    kind: Kind,
    columns: list[str],
    row: tuple[Value, ...],
    place: int | None,
    sides: Iterator[tuple[Value, Value]],
) -> Change:
    position = 0 if place is None else row[place]
    return Change(
        table.name,
        kind,
        tuple(row[columns.index(column)] for column in table.key),
        position if isinstance(position, int) else 0,
        {column: (_shown(old), _shown(new)) for column, (old, new) in zip(columns, sides, strict=True) if old != new},
    )


def _uri(path: Path) -> str:
    return f"file:{quote(str(path.absolute()))}?mode=ro"


def _shown(value: Value) -> Value:
    return value[:SHOWN_BYTES] if isinstance(value, bytes) else value


def _columns(connection: sqlite3.Connection, database: str, table: str) -> list[str]:
    return [row[0] for row in connection.execute("SELECT name FROM pragma_table_info(?, ?)", (table, database))]
