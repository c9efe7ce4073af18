"""Full-text search: which columns can be searched, and the indexes and triggers that make it so.

Each index is one of FTS5's over a table that keeps the text itself (external content),
by trigrams: any part of a text is found from three characters on, be it the end of a
number or the middle of a name, whatever its case. What is shown to fewer people is in
an index of its own, so that whoever may not see a column can't search it either.

An index of rows that change follows its table by triggers, whoever writes. One of rows that
are only ever added is `extend`ed by the one who adds them, all at once: by a trigger
each of them would cost ten times that. Neither is part of what rebuilding
compares: the same rows make an index that finds the same, of other bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from sqlite3 import Connection

    from sqlite_utils import Database


@dataclass(frozen=True)
class Search:
    """One index, ``name``, of ``columns`` of a table.

    A match gives the row's rowid. ``view`` shows the rows that are indexed, if not all are;
    ``grows`` says that rows are only ever added, in the order of their ``position``.
    """

    name: str
    table: str
    columns: tuple[str, ...]
    view: str = ""
    grows: bool = False

    @property
    def content(self) -> str:
        """The table or view that keeps the text."""
        return self.view or self.table


SEARCHES = (
    Search(
        "sims_fts",
        "sims",
        ("iccid", "msisdn", "imsi", "imei", "platform_id", "status_raw", "tariff", "operator", "groups"),
    ),
    Search("bills_fts", "bills", ("bill_id", "number", "period")),
    Search("users_fts", "users", ("user_id", "first_name", "last_name", "company_id")),
    Search("deliveries_fts", "deliveries", ("summary",), grows=True),
    # What was understood is found by what was read from it; the rest only by its words.
    Search("bodies_fts", "delivery_contents", ("body",), view="quarantine_contents", grows=True),
)

PERSONAL = frozenset({"users_fts", "bodies_fts"})
"""Those that find personal data, or what came as it came."""


def create(database: Database) -> None:
    """Make the indexes that are not there yet, of all rows that are, and the triggers that keep them so."""
    there = set(database.table_names())
    for search in SEARCHES:
        if search.name not in there:
            for statement in _statements(search):
                database.execute(statement)


def extend(connection: Connection, after: int) -> None:
    """Index the rows after a position of those tables that only grow. To be called once for each, in its transaction."""
    for statement in _EXTENDING:
        connection.execute(statement, (after,))


def _listed(search: Search) -> str:
    return ", ".join(f'"{column}"' for column in search.columns)


_EXTENDING = tuple(
    f'INSERT INTO "{search.name}"(rowid, {_listed(search)}) '
    f'SELECT position, {_listed(search)} FROM "{search.content}" WHERE position > ? ORDER BY position'
    for search in SEARCHES
    if search.grows
)


def _statements(search: Search) -> Iterator[str]:
    # Not by sqlite-utils: its triggers would index a card anew whenever its balance changes.
    listed = _listed(search)
    row = "position" if search.grows else "rowid"
    yield (
        f'CREATE VIRTUAL TABLE "{search.name}" USING fts5({listed}, '
        f'content="{search.content}", content_rowid="{row}", tokenize="trigram")'
    )
    yield f'INSERT INTO "{search.name}"("{search.name}") VALUES (\'rebuild\')'
    if search.grows:
        return
    new, old = (", ".join(f'{row}."{column}"' for column in search.columns) for row in ("new", "old"))
    add = f'INSERT INTO "{search.name}"(rowid, {listed}) VALUES (new.rowid, {new});'
    # By FTS5's rule an entry is taken out by telling what it was.
    drop = f'INSERT INTO "{search.name}"("{search.name}", rowid, {listed}) VALUES (\'delete\', old.rowid, {old});'
    differs = " OR ".join(f'old."{column}" IS NOT new."{column}"' for column in search.columns)
    yield _trigger(search, "INSERT", add)
    yield _trigger(search, f"UPDATE OF {listed}", f"{drop} {add}", f" WHEN {differs}")
    yield _trigger(search, "DELETE", drop)


def _trigger(search: Search, event: str, does: str, when: str = "") -> str:
    name = f"{search.name}_{event.split(maxsplit=1)[0].lower()}"
    return f'CREATE TRIGGER "{name}" AFTER {event} ON "{search.table}"{when} BEGIN {does} END'
