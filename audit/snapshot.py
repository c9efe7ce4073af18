"""The snapshot: the read model as it is at one position, for as long as it is held.

One read transaction on audit.db: the projector goes on writing beside it, and
none of that shows. Meanwhile SQLite can't reuse the write-ahead log, which
grows by what is written until the snapshot is closed.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from audit.extract import Extract, Field, field, quoted
from audit.selection import is_ranged
from projections import read_model
from schema.errors import ReadModelError, SourceError
from schema.tables import BY_NAME, MODEL_VERSION, PROJECTION, TABLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from audit.extract import Batch
    from audit.selection import Selection
    from schema.tables import Table

BATCH_ROWS: Final = 256
"""Rows held at a time: a row is some KB at most, and more at a time is no faster."""

BODY_BATCH_ROWS: Final = 16
"""The same where rows carry bodies, each up to a megabyte of text."""

CONTENTS: Final = "files"
"""The folder of an export that holds the files received."""

SUFFIXES: Final = {
    "application/pdf": ".pdf",
    "image/jpeg": ".jpg",
    "image/png": ".png",
}
"""What a file's name ends in, by the media type that its sender claims. The sender's own name is never a path."""

OTHER_SUFFIX: Final = ".bin"

PATH: Final = Field("path", "string", required=True)
"""Stands in an export's ``files`` where the table has the content: where that lies in the export."""


@dataclass(frozen=True)
class Snapshot:
    """The read model at one position. `hold` makes one; not for several threads at once.

    ``received_at`` is that of the event at the position, None at position 0;
    ``configuration`` marks the one that events were read under.
    """

    position: int
    received_at: str | None
    configuration: str
    connection: sqlite3.Connection

    def extract(self, name: str, selection: Selection) -> Extract:
        """The rows of a table that a selection takes."""
        table = BY_NAME[name]
        condition, parameters = self._condition(table, selection)
        count = f'SELECT count(*), min("position"), max("position") FROM {quoted(name)} {condition}'
        rows, first, last = self.connection.execute(count, parameters).fetchone()
        order = ", ".join(map(quoted, table.key))
        size = BODY_BATCH_ROWS if name == "delivery_contents" else BATCH_ROWS

        def select(expressions: Sequence[str]) -> Iterator[Batch]:
            sql = f"SELECT {', '.join(expressions)} FROM {self._relation(name)} {condition} ORDER BY {order}"
            cursor = self.connection.execute(sql, parameters)
            while batch := cursor.fetchmany(size):
                yield batch

        return Extract(name, fields(table), table.key, rows, first, last, select)

    def contents(self, selection: Selection) -> Iterator[tuple[str, str, bytes]]:
        """Each file that a selection takes: its sha256, its path in an export, its content."""
        condition, parameters = self._condition(BY_NAME["files"], selection)
        yield from self.connection.execute(
            f'SELECT "sha256", "path", "content" FROM {self._relation("files")} {condition} ORDER BY "sha256"',
            parameters,
        )

    def _relation(self, name: str) -> str:
        """What to select a table's fields from."""
        if name != "files":
            return quoted(name)
        suffix = " ".join(f"WHEN '{media_type}' THEN '{suffix}'" for media_type, suffix in SUFFIXES.items())
        path = f"'{CONTENTS}/' || sha256 || CASE lower(media_type) {suffix} ELSE '{OTHER_SUFFIX}' END"
        return f'(SELECT *, {path} AS "path" FROM files) AS files'

    def _condition(self, table: Table, selection: Selection) -> tuple[str, dict[str, str]]:
        """The WHERE clause of a table's rows, and its parameters."""
        given = {"since": selection.since, "until": selection.until, "source": selection.source}
        parameters = {name: value for name, value in given.items() if value is not None}
        clauses = _conditions(table, selection)
        return (f"WHERE {' AND '.join(clauses)}" if clauses else ""), parameters


@contextmanager
def hold(path: Path) -> Iterator[Snapshot]:
    """The read model at a path as it is now, held for the length of the context.

    Raises `ReadModelError` where there is none, where it is of another version, or
    where it can't be read; also for what can't be read later.
    """
    if not path.is_file():
        msg = f"there is no read model at {path}: `simtrail project` or `simtrail serve` makes one"
        raise ReadModelError(msg)
    try:
        # May be read from one thread after another, as an asynchronous server does.
        connection = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?mode=ro",
            uri=True,
            timeout=read_model.LOCK_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute("BEGIN")
            yield _begun(connection)
        finally:
            connection.close()
    except sqlite3.Error as error:
        msg = f"the read model {path} can't be read: {error}"
        raise ReadModelError(msg) from error


def require_source(snapshot: Snapshot, source: str) -> None:
    """Raise `SourceError` where nothing of that source was ever received: a misspelt name would export nothing."""
    known = [name for (name,) in snapshot.connection.execute("SELECT source FROM accounts ORDER BY source")]
    if source not in known:
        msg = f"nothing was received from a source {source!r}; what is there is of {', '.join(known) or 'no source'}"
        raise SourceError(msg)


def fields(table: Table) -> tuple[Field, ...]:
    """A table's columns as an export has them: files by their path."""
    columns = (field(name, kind) for name, kind in table.columns.items())
    return tuple(PATH if column.name == "content" else column for column in columns)


def _begun(connection: sqlite3.Connection) -> Snapshot:
    """The snapshot of a transaction that has just begun: the first look fixes what is seen."""
    found = connection.execute(
        "SELECT position, received_at, model_version, configuration FROM tracking WHERE projection = ?",
        (PROJECTION,),
    ).fetchone()
    if found is None:
        msg = "the read model doesn't say which position it is at: `simtrail project` makes it anew once it is removed"
        raise ReadModelError(msg)
    position, received_at, version, configuration = found
    if version != MODEL_VERSION:
        msg = f"the read model has version {version}, this simtrail reads {MODEL_VERSION}: {read_model.REMEDY}"
        raise ReadModelError(msg)
    return Snapshot(position, received_at, configuration, connection)


def _conditions(table: Table, selection: Selection) -> list[str]:
    """What holds of the rows of a table that a selection takes."""
    if table.name == "files":
        return _brought(selection)
    if not is_ranged(table.name):
        return _of_source('+"source"', selection) if "source" in table.columns else _belonging(table, selection)
    stretch = []
    if selection.timed:
        # A history lies in the order of positions: only this stretch of it is read.
        received = " AND ".join(_within("received_at", selection))
        first, last = (f"(SELECT {end}(position) FROM deliveries WHERE {received})" for end in ("min", "max"))
        stretch = [f'"position" BETWEEN {first} AND {last}']
    time = next((name for name in ("received_at", "at") if name in table.columns), None)
    if time is not None and ("source" in table.columns or selection.source is None):
        # The plus keeps SQLite from an index of another order, and so from sorting.
        return [*stretch, *_within(f"+{quoted(time)}", selection), *_of_source('+"source"', selection)]
    return [*stretch, *_received("deliveries", f'deliveries.position = {quoted(table.name)}."position"', selection)]


def _brought(selection: Selection) -> list[str]:
    """That a file came within the bounds: files are kept once, however often they come."""
    ways = [
        _received(f"{table.name} JOIN deliveries USING (position)", f"{table.name}.{column} = files.sha256", selection)
        for table in TABLES
        for column, (other, _) in table.references.items()
        if other == "files"
    ]
    return [f"({' OR '.join(way for (way,) in ways)})"] if selection.bounded else []


def _belonging(table: Table, selection: Selection) -> list[str]:
    """That what has no source of its own, but the key of a card or bill, is of one of the source's."""
    key = table.key[0]
    if selection.source is None or key not in table.references:
        return []
    other, column = table.references[key]
    return [f"EXISTS (SELECT 1 FROM {other} WHERE {column} = {table.name}.{key} AND source = :source)"]


def _received(relation: str, same: str, selection: Selection) -> list[str]:
    """That what has no time or source of its own is of a delivery within the bounds."""
    if not selection.bounded:
        return []
    bounds = [*_within("deliveries.received_at", selection), *_of_source("deliveries.source", selection)]
    return [f"EXISTS (SELECT 1 FROM {relation} WHERE {' AND '.join([same, *bounds])})"]


def _within(column: str, selection: Selection) -> list[str]:
    since = [] if selection.since is None else [f"{column} >= :since"]
    until = [] if selection.until is None else [f"{column} < :until"]
    return since + until


def _of_source(column: str, selection: Selection) -> list[str]:
    return [] if selection.source is None else [f"{column} = :source"]
