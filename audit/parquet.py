"""Parquet, by DuckDB: typed columns, compressed, in row groups small enough to hold.

DuckDB reads what it is to write from a file, so the rows go through CSV first
(`audit.delimited`), which says everything and takes its place only meanwhile.
"""

from __future__ import annotations

from concurrent.futures import Future, wait
from contextlib import closing
from threading import Thread
from typing import TYPE_CHECKING, Final

from audit import delimited
from audit.extract import Chunk, ExportError, pieces, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import duckdb

    from audit.extract import Extract, Field

COLUMN_TYPES: Final = {"integer": "BIGINT", "datetime": "TIMESTAMPTZ", "date": "DATE"}
"""DuckDB's types of typed fields. All else is text, JSON too."""

GROUP_BYTES: Final = 32 * 1024 * 1024
"""Bytes of CSV that make a row group: DuckDB holds a group, some times larger, until it writes it."""

GROUP_ROWS: Final = range(2_048, 122_881)
"""Rows of a group: DuckDB works on 2,048 at a time, and makes groups of 122,880 by itself."""

LINE_BYTES: Final = 4 * 1024 * 1024
"""The longest row as CSV: a body takes 2 MB at most, were it all quotes or all of four bytes each."""

BUFFER_BYTES: Final = 4 * LINE_BYTES
"""What DuckDB reads at a time; by itself it takes 32 lines of the longest."""

MEMORY: Final = "1GB"
"""What DuckDB may take. A fifth is usual; two thousand bodies of the largest size in a row take more, and fail."""


HURRY_S: Final = 0.05
"""Between two calls to DuckDB to stop: it hears them within milliseconds."""


def write(extract: Extract, scratch: Path) -> Iterator[Chunk]:
    """The file's bytes. Its rows are told first, as they are read, and its bytes once it is written."""
    rows, written = scratch / "rows.csv", scratch / "rows.parquet"
    with rows.open("wb") as file:
        for chunk in delimited.write(extract, scratch):
            file.write(chunk.data)
            yield Chunk(b"", chunk.rows)
    _convert(extract, rows, written, scratch)
    rows.unlink()
    yield from pieces(written)
    written.unlink()


def _convert(extract: Extract, rows: Path, written: Path, scratch: Path) -> None:
    import duckdb  # noqa: PLC0415 - only who exports Parquet needs it

    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": MEMORY,
        "temp_directory": str(scratch / "duckdb"),
        "threads": 1,
        # Nothing is ever fetched: what is needed is built in.
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    try:
        with closing(duckdb.connect(":memory:", config=settings)) as connection:
            copied = _uninterrupted(connection, _copy(extract, rows, written))
    except duckdb.Error as error:
        reason = str(error).partition("\n")[0]
        msg = f"{extract.name} can't be written as Parquet ({reason}): choose another format"
        raise ExportError(msg) from error
    # DuckDB passes over what it takes for no row, and says nothing.
    if copied != extract.rows:
        msg = f"{extract.name} has {extract.rows:,} rows, and of these DuckDB wrote {copied:,}: choose another format"
        raise ExportError(msg)


def _uninterrupted(connection: duckdb.DuckDBPyConnection, copy: str) -> int:
    """The rows that a statement copied. On a thread of its own: DuckDB would take Ctrl-C for an error of its own."""
    copied: Future[tuple[int, ...] | None] = Future()

    def run() -> None:
        try:
            copied.set_result(connection.execute(copy).fetchone())
        except BaseException as error:  # noqa: BLE001 - raised by who waits
            copied.set_exception(error)

    # Not joined: Python 3.11 takes a thread for ended once Ctrl-C interrupts that.
    thread = Thread(target=run)
    try:
        thread.start()
        row = copied.result()
    finally:
        # Again, until it is heard: what hasn't begun yet can't be interrupted.
        while thread.ident is not None and not copied.done():
            connection.interrupt()
            wait([copied], HURRY_S)
    return row[0] if row else 0


def _copy(extract: Extract, rows: Path, written: Path) -> str:
    """The statement that makes the Parquet of the CSV."""
    types = {field.name: "BIGINT" if field.type == "integer" else "VARCHAR" for field in extract.fields}
    read = (
        f"SELECT {', '.join(map(_column, extract.fields))} FROM read_csv({_literal(rows)}, columns = {types!r}, "
        f"header = true, auto_detect = false, delim = ',', quote = '\"', escape = '\"', new_line = '\\r\\n', nullstr = '', "
        f"parallel = false, max_line_size = {LINE_BYTES}, buffer_size = {BUFFER_BYTES})"
    )
    row_bytes = rows.stat().st_size // max(1, extract.rows)
    group = min(max(GROUP_BYTES // max(1, row_bytes), GROUP_ROWS[0]), GROUP_ROWS[-1])
    return f"COPY ({read}) TO {_literal(written)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {group})"


def _column(field: Field) -> str:
    column = quoted(field.name)
    value = delimited.text(column) if field.type == "string" else column
    return f"CAST({value} AS {COLUMN_TYPES.get(field.type, 'VARCHAR')}) AS {column}"


def _literal(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
