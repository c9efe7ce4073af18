"""The statements that write history: the same when following and in a rebuild."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from schema.tables import BY_NAME, MODEL_VERSION, PROJECTION

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from projections.rows import Value
    from schema.tables import Table

Identified = Literal["sim", "bill"]
"""A column whose key may turn out to be another's: two rows were one card, or one bill."""

IDENTIFIED: dict[Identified, str] = {"sim": "sims", "bill": "bills"}
"""The table of a current state that each such column refers to."""

_RENAMED = {
    column: tuple(table.name for name, table in BY_NAME.items() if column in table.columns and "position" in table.key)
    for column in IDENTIFIED
}


def insert(connection: sqlite3.Connection, table: Table, rows: Sequence[Sequence[Value]]) -> None:
    """Add rows to a table."""
    # A file is kept once, whoever sends it again; no other key ever comes twice.
    verb = "INSERT OR IGNORE" if table.name == "files" else "INSERT"
    marks = ", ".join("?" * len(table.columns))
    connection.executemany(f"{verb} INTO {table.name} VALUES ({marks})", rows)


def track(connection: sqlite3.Connection, position: int, received_at: str | None, configuration: str) -> None:
    """Say for the first time what the tables stand for."""
    connection.execute(
        "INSERT INTO tracking VALUES (?, ?, ?, ?, ?)",
        (PROJECTION, position, received_at, MODEL_VERSION, configuration),
    )


def rename(connection: sqlite3.Connection, column: Identified, old: str, new: str, last: int) -> None:
    """Give the history of one card or bill, up to a position, to another."""
    for table in _RENAMED[column]:
        connection.execute(
            f'UPDATE {table} SET "{column}" = ? WHERE "{column}" = ? AND position <= ?',
            (new, old, last),
        )
