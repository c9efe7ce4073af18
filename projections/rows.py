"""Rows of the read model while a batch is folded: read once, changed in memory, written together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec
from sqlite_utils import Database

from schema import tables

if TYPE_CHECKING:
    import sqlite3

    from schema.tables import Table

    Value = str | int | bytes | None


class Row(msgspec.Struct):
    """A row of a current state; its fields are the table's columns, in order."""

    def key(self) -> str:
        """The value of the key: the first column, in every table of a current state."""
        key: str = getattr(self, self.__struct_fields__[0])
        return key


R = TypeVar("R", bound=Row)


class Rows(Generic[R]):
    """The rows of one table of a current state.

    Invariant: a row that was ever read or made is held here until `forget`, and
    what is held is the truth; the database is asked only about rows not held.
    """

    def __init__(self, connection: sqlite3.Connection, table: Table, row_type: type[R]) -> None:
        if row_type.__struct_fields__ != tuple(table.columns):
            msg = f"{row_type.__name__} must have the columns of {table.name}, in order"
            raise TypeError(msg)
        self._connection = connection
        self._row_type = row_type
        self._held: dict[str, R | None] = {}
        self._changed: dict[str, None] = {}
        self._holders: dict[str, dict[tuple[str, str], dict[str, None]]] = {columns[0]: {} for columns in table.lookups}
        key, *others = table.columns
        marks = ", ".join("?" * len(table.columns))
        self._all_held = False
        self._any = f"SELECT 1 FROM {table.name} LIMIT 1"
        self._select = f"SELECT * FROM {table.name} WHERE {key} = ?"
        self._find = {
            column: f"SELECT * FROM {table.name} WHERE {column} = ? AND source = ?" for column in self._holders
        }
        self._delete = f"DELETE FROM {table.name} WHERE {key} = ?"
        self._upsert = f"INSERT INTO {table.name} VALUES ({marks}) ON CONFLICT ({key}) DO UPDATE SET " + ", ".join(
            f'"{column}" = excluded."{column}"' for column in others
        )

    def get(self, key: str) -> R | None:
        """The row with this key, if there is one. To change it, change it and `put` it."""
        try:
            return self._held[key]
        except KeyError:
            found = None if self._all_held else self._connection.execute(self._select, (key,)).fetchone()
            return self._hold(found) if found else self._held.setdefault(key, None)

    def find(self, column: str, value: str, source: str) -> list[R]:
        """The source's rows with this value in a look-up column, ordered by key."""
        holders = self._holders[column]
        keys = holders.get((source, value))
        if keys is None:
            keys = holders[source, value] = {}
            stored = () if self._all_held else self._connection.execute(self._find[column], (value, source))
            for found in stored:
                if found[0] not in self._held:
                    self._hold(found)
                keys[found[0]] = None
        # Keys are only ever added: a row that has lost the value since is passed over here.
        rows = [row for key in keys if (row := self._held.get(key)) is not None and getattr(row, column) == value]
        return sorted(rows, key=Row.key) if len(rows) > 1 else rows

    def put(self, row: R) -> None:
        """Take a new or changed row."""
        key = row.key()
        self._held[key] = row
        self._changed[key] = None

    def index(self, row: R) -> None:
        """Make a row findable by what its look-up columns now hold."""
        source: str = getattr(row, "source")  # noqa: B009 - every such table has the column
        key = row.key()
        for column, holders in self._holders.items():
            value = getattr(row, column)
            if value is None:
                continue
            keys = holders.get((source, value))
            if keys is None:
                self.find(column, value, source)
                keys = holders[source, value]
            keys[key] = None

    def remove(self, row: R) -> None:
        """Drop a row."""
        key = row.key()
        self._held[key] = None
        self._changed[key] = None

    def write(self) -> None:
        """Write what changed since the last time."""
        changed = [(key, self._held[key]) for key in self._changed]
        gone = [(key,) for key, row in changed if row is None]
        if gone:
            self._connection.executemany(self._delete, gone)
        self._connection.executemany(
            self._upsert,
            (msgspec.structs.astuple(row) for _, row in changed if row is not None),
        )
        self._changed.clear()

    def forget(self) -> None:
        """Hold nothing any more, neither rows nor changes. Call it in a transaction, before all else."""
        # From an empty table on, all there is is held: a rebuild need not ask for each new card.
        self._all_held = self._connection.execute(self._any).fetchone() is None
        self._held.clear()
        self._changed.clear()
        for holders in self._holders.values():
            holders.clear()

    def __len__(self) -> int:
        return len(self._held)

    def _hold(self, found: tuple[Value, ...]) -> R:
        row = self._row_type(*found)
        self._held[row.key()] = row
        return row


class History:
    """The rows of one table that is only added to, until they are written."""

    def __init__(self, connection: sqlite3.Connection, table: Table) -> None:
        marks = ", ".join("?" * len(table.columns))
        self._connection = connection
        # A file is kept once, whoever sends it again; no other key ever comes twice.
        verb = "INSERT OR IGNORE" if table.name == "files" else "INSERT"
        self._insert = f"{verb} INTO {table.name} VALUES ({marks})"
        self._table = table
        self.rows: list[tuple[Value, ...]] = []

    def rename(self, column: str, old: str, new: str, *, stored: bool) -> None:
        """Give the rows of one card or bill to another; the written ones too, if it was ``stored``."""
        if column not in self._table.columns:
            return
        at = list(self._table.columns).index(column)
        self.rows = [(*row[:at], new, *row[at + 1 :]) if row[at] == old else row for row in self.rows]
        if not stored:
            return
        # Rows are found by an index that a read model made in bulk may not have yet.
        tables.create_indexes(Database(self._connection), self._table, column)
        self._connection.execute(f'UPDATE {self._table.name} SET "{column}" = ? WHERE "{column}" = ?', (new, old))

    def write(self) -> None:
        """Write the rows that wait."""
        if self.rows:
            self._connection.executemany(self._insert, self.rows)
            self.rows.clear()
