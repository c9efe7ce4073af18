"""Rows of the read model while a batch is folded: read once, changed in memory, written together."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec
from msgspec.structs import astuple

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator

    from schema.tables import Table

    Value = str | int | bytes | None

_encode = msgspec.json.Encoder().encode


class Row(msgspec.Struct, gc=False):
    """A row of a current state; its fields are the table's columns, in order."""


R = TypeVar("R", bound=Row)

_Holders = dict[str, dict[str, tuple[str, ...]]]
"""By source and value, the keys of the rows that have, or had, the value in one look-up column."""


class Rows(Generic[R]):
    """The rows of one table of a current state.

    Invariant: a row that was ever read or made is held here until `forget`, and
    what is held is the truth; the database is asked only about rows not held.
    ``_written`` is what the database has of those that it is known to have.
    """

    def __init__(self, connection: sqlite3.Connection, table: Table, row_type: type[R]) -> None:
        if row_type.__struct_fields__ != tuple(table.columns):
            msg = f"{row_type.__name__} must have the columns of {table.name}, in order"
            raise TypeError(msg)
        self._connection = connection
        self._table = table
        self._row_type = row_type
        self._held: dict[str, R | None] = {}
        self._written: dict[str, tuple[Value, ...]] = {}
        self._changed: dict[str, None] = {}
        self._holders: dict[str, _Holders] = {columns[0]: {} for columns in table.lookups}
        key, *others = table.columns
        # The first column is the key, in every table of a current state.
        self.key_of: Callable[[R], str] = attrgetter(key)
        marks = ", ".join("?" * len(table.columns))
        self.all_held = False
        self._any = f"SELECT 1 FROM {table.name} LIMIT 1"
        self._all = f"SELECT * FROM {table.name} ORDER BY {key}"
        # The few that are asked about drive the search, whatever the planner knows of the table.
        self._select = f"SELECT r.* FROM json_each(?) asked CROSS JOIN {table.name} r ON r.{key} = asked.value"
        # The plus keeps it from the index by source: a source has few rows with a value, but any number of rows.
        self._find = {
            column: f"SELECT r.* FROM json_each(?) asked CROSS JOIN {table.name} r ON r.{column} = asked.value AND +r.source = ?"
            for column in self._holders
        }
        self._is_stored = f"SELECT 1 FROM {table.name} WHERE {key} = ?"
        self._delete = f"DELETE FROM {table.name} WHERE {key} = ?"
        self._upsert = f"INSERT INTO {table.name} VALUES ({marks}) ON CONFLICT ({key}) DO UPDATE SET " + ", ".join(
            f'"{column}" = excluded."{column}"' for column in others
        )
        indexed = {name.rstrip("?") for index in (*table.lookups, *table.indexes) for name in index}
        self._indexed = tuple(place for place, column in enumerate(table.columns) if place and column in indexed)
        self._plain = tuple(place for place, column in enumerate(table.columns) if place and column not in indexed)

    def get(self, key: str) -> R | None:
        """The row with this key, if there is one. To change it, change it and `put` it."""
        try:
            return self._held[key]
        except KeyError:
            if self.all_held:
                return None
            self.ask([key])
            return self._held[key]

    def ask(self, keys: Iterable[str]) -> None:
        """Read the rows with these keys at once, as far as they are not held."""
        missing = [key for key in keys if key not in self._held]
        if not missing or self.all_held:
            return
        for found in self._connection.execute(self._select, (_encode(missing),)):
            self._hold(found)
        for key in missing:
            self._held.setdefault(key, None)

    def ask_by(self, column: str, source: str, values: Iterable[str]) -> None:
        """Read the source's rows with these values in a look-up column at once, as far as that was not done before."""
        holders = self._holders[column].setdefault(source, {})
        missing = [value for value in values if value not in holders]
        if not missing or self.all_held:
            return
        for value in missing:
            holders[value] = ()
        place = self._row_type.__struct_fields__.index(column)
        for found in self._connection.execute(self._find[column], (_encode(missing), source)):
            if found[0] not in self._held:
                self._hold(found)
            holders[found[place]] = (*holders[found[place]], found[0])

    def find(self, column: str, value: str, source: str) -> list[R]:
        """The source's rows with this value in a look-up column, ordered by key."""
        holders = self._holders[column].get(source)
        keys = None if holders is None else holders.get(value)
        if keys is None:
            if self.all_held:
                return []
            self.ask_by(column, source, [value])
            holders = self._holders[column][source]
            keys = holders[value]
        if not keys or holders is None:
            return []
        # A row that has lost the value since, or is gone, is passed over, and not kept in mind.
        rows = [row for key in keys if (row := self._held.get(key)) is not None and getattr(row, column) == value]
        if len(rows) < len(keys):
            holders[value] = tuple([self.key_of(row) for row in rows])
        return sorted(rows, key=self.key_of) if len(rows) > 1 else rows

    def put(self, row: R) -> None:
        """Take a new or changed row."""
        key = self.key_of(row)
        self._held[key] = row
        self._changed[key] = None

    def index(self, row: R) -> None:
        """Make a row findable by what its look-up columns now hold."""
        source: str = getattr(row, "source")  # noqa: B009 - every such table has the column
        key = self.key_of(row)
        for column, sources in self._holders.items():
            value = getattr(row, column)
            if value is None:
                continue
            if not self.all_held:
                self.ask_by(column, source, [value])
            holders = sources.setdefault(source, {})
            keys = holders.get(value, ())
            if key not in keys:
                holders[value] = (*keys, key)

    def remove(self, row: R) -> None:
        """Drop a row."""
        key = self.key_of(row)
        self._held[key] = None
        self._changed[key] = None

    def is_stored(self, key: str) -> bool:
        """Whether the database has a row with this key, whatever became of it since."""
        return self._connection.execute(self._is_stored, (key,)).fetchone() is not None

    def write(self) -> None:
        """Write what changed since the last time."""
        gone: list[tuple[str]] = []
        fresh: list[tuple[Value, ...]] = []
        # SQLite touches each index of a column that a statement sets, changed or not, and a row has many, most
        # of which stay as they are: so only those columns are set that an index needs to be told of.
        other: dict[tuple[int, ...], list[tuple[Value, ...]]] = {}
        for key in self._changed:
            row = self._held[key]
            before = self._written.pop(key, None)
            if row is None:
                gone.append((key,))
                continue
            now = self._written[key] = astuple(row)
            if before is None:
                fresh.append(now)
            else:
                other.setdefault(tuple([n for n in self._indexed if before[n] != now[n]]), []).append(now)
        self._connection.executemany(self._delete, gone)
        self._connection.executemany(self._upsert, fresh)
        for places, rows in other.items():
            set_here = (*self._plain, *places)
            values = ((*[row[place] for place in set_here], row[0]) for row in rows)
            self._connection.executemany(_update(self._table, set_here), values)
        self._changed.clear()

    def all_rows(self) -> Iterator[tuple[Value, ...]]:
        """Every row, in the order of the keys. Call it when all that changed is written, unless all is held."""
        if self.all_held:
            return (astuple(row) for _, row in sorted(self._held.items()) if row is not None)
        return iter(self._connection.execute(self._all))

    def forget(self) -> None:
        """Hold nothing any more, neither rows nor changes. Call it in a transaction, before all else."""
        # From an empty table on, all there is is held: a rebuild need not ask for each new card.
        self.all_held = self._connection.execute(self._any).fetchone() is None
        self._held.clear()
        self._written.clear()
        self._changed.clear()
        for holders in self._holders.values():
            holders.clear()

    def __len__(self) -> int:
        return len(self._held)

    def _hold(self, found: tuple[Value, ...]) -> None:
        row = self._row_type(*found)
        key = self.key_of(row)
        self._held[key] = row
        self._written[key] = found


def _update(table: Table, places: Iterable[int]) -> str:
    """The statement that sets the columns in these places, in a row with a key."""
    key, *_ = columns = tuple(table.columns)
    listed = ", ".join(f'"{columns[place]}" = ?' for place in places)
    return f"UPDATE {table.name} SET {listed} WHERE {key} = ?"


class History:
    """The rows of one table that is only added to, until they are written."""

    def __init__(self, table: Table, insert: Callable[[Table, list[tuple[Value, ...]]], None]) -> None:
        self._insert = insert
        self._places = {column: place for place, column in enumerate(table.columns)}
        self._renames: list[tuple[int, int, str, str]] = []
        self.table = table
        self.rows: list[tuple[Value, ...]] = []

    def rename(self, column: str, old: str, new: str) -> None:
        """Give the rows that wait of one card or bill to another."""
        if column in self._places:
            self._renames.append((len(self.rows), self._places[column], old, new))

    def write(self) -> None:
        """Write the rows that wait."""
        if self.rows:
            if self._renames:
                self._rename()
            self._insert(self.table, self.rows)
        self.clear()

    def clear(self) -> None:
        """Keep nothing; rows that were written are their taker's."""
        self.rows = []
        self._renames.clear()

    def _rename(self) -> None:
        # All renames in one pass: a page may hold as many of them as rows.
        by_key: dict[tuple[int, str], list[int]] = {}
        for n, (_, place, old, _) in enumerate(self._renames):
            by_key.setdefault((place, old), []).append(n)
        for place in {place for _, place, _, _ in self._renames}:
            for at, row in enumerate(self.rows):
                key, done = row[place], -1
                while isinstance(key, str) and (later := by_key.get((place, key))):
                    following = next((n for n in later if n > done and self._renames[n][0] > at), -1)
                    if following < 0:
                        break
                    key, done = self._renames[following][3], following
                if done >= 0:
                    self.rows[at] = (*row[:place], key, *row[place + 1 :])
