"""Each format, reread by another library, gives the rows of the database."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import sqlite3
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Any

import duckdb
import openpyxl
import pytest
from openpyxl.utils.escape import unescape

from audit import formats, parquet, workbook
from audit.extract import Chunk, ExportError, Extract, field, quoted
from audit.formats import FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from audit.extract import Batch, Cell

COLUMNS = {
    "position": "integer!",
    "at": "text!",
    "issued_on": "text",
    "iccid": "text",
    "note": "text",
    "body": "text!",
    "balance_kopecks": "integer",
    "changes": "text!",
}

Row = tuple["Cell", ...]


def rows_with(texts: Sequence[str | None]) -> list[Row]:
    """A row for each text, with the extremes of the other types beside it."""
    numbers = [None, 0, -1520, 2**63 - 1, -(2**63), 10**15]
    return [
        (
            number,
            f"2026-05-01T00:00:{number % 60:02d}.12345{number % 10}Z",
            None if number % 2 else "9999-12-31",
            "8970100000000000013",
            text,
            text or "",
            numbers[number % len(numbers)],
            '{"a":["=1",null]}',
        )
        for number, text in enumerate(texts, 1)
    ]


@pytest.fixture
def extract() -> Iterator[Callable[[Sequence[Row]], Extract]]:
    """An extract of a table of SQLite with these rows."""
    with closing(sqlite3.connect(":memory:")) as connection:

        def make(rows: Sequence[Row]) -> Extract:
            columns = ", ".join(f'"{name}" {kind.rstrip("!").upper()}' for name, kind in COLUMNS.items())
            connection.execute(f"CREATE TABLE t ({columns}) STRICT")
            connection.executemany(f"INSERT INTO t VALUES ({', '.join('?' * len(COLUMNS))})", rows)

            def select(expressions: Sequence[str]) -> Iterator[Batch]:
                cursor = connection.execute(f"SELECT {', '.join(expressions)} FROM t ORDER BY position")
                while batch := cursor.fetchmany(7):
                    yield batch

            fields = tuple(field(name, kind) for name, kind in COLUMNS.items())
            return Extract("t", fields, ("position",), len(rows), None, None, select)

        yield make


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """A folder with a name that means something to SQL and to patterns of names."""
    folder = tmp_path / "it's [1]*?"
    folder.mkdir()
    return folder


@pytest.fixture
def texts(hostile_texts) -> list[str | None]:
    return [None, "", *hostile_texts, "é😀\u2028", "_x0041_", "\x01\x7f", "x" * 32_767]


def write(form: str, extract: Extract, scratch: Path) -> bytes:
    chunks: list[Chunk] = list(FORMATS[form].write(extract, scratch))
    assert sum(chunk.rows for chunk in chunks) == extract.rows
    assert list(scratch.iterdir()) == []
    return b"".join(chunk.data for chunk in chunks)


def test_csv_gives_the_rows_back(extract, scratch, texts) -> None:
    """Read by the rule that it states, every row of a CSV is the database's."""
    rows = rows_with(texts)
    _, *read = csv.reader(io.StringIO(write("csv", extract(rows), scratch).decode(), newline=""))

    types = [field(name, kind).type for name, kind in COLUMNS.items()]
    texts_back = [
        tuple(
            None if cell == "" else int(cell) if kind == "integer" else cell.removeprefix("'")
            for cell, kind in zip(row, types, strict=True)
        )
        for row in read
    ]
    assert texts_back == rows


def test_ndjson_gives_the_rows_back_and_is_canonical(extract, scratch, texts) -> None:
    """Each line is the one canonical JSON of its row: sorted, compact, UTF-8, one line end."""
    rows = rows_with(texts)
    data = write("ndjson", extract(rows), scratch)

    assert data.endswith(b"\n")
    assert not data.endswith(b"\n\n")
    objects = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    canonical = (json.dumps(each, sort_keys=True, separators=(",", ":"), ensure_ascii=False) for each in objects)
    assert data.decode().split("\n") == [*canonical, ""]


def test_parquet_gives_the_rows_back_typed(extract, scratch, tmp_path, texts) -> None:
    """DuckDB reads the rows of the database, times as times, dates as dates, text as it was."""
    rows = rows_with(texts)
    file = tmp_path / "t.parquet"
    file.write_bytes(write("parquet", extract(rows), scratch))

    with closing(duckdb.connect(":memory:")) as connection:
        types = {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE FROM '{file}'").fetchall()}
        connection.execute("SET TimeZone = 'UTC'")
        back = connection.execute(f"SELECT * REPLACE (CAST(t.at AS TIMESTAMP) AS \"at\") FROM '{file}' AS t").fetchall()
    assert types["at"] == "TIMESTAMP WITH TIME ZONE"
    assert (types["issued_on"], types["position"], types["changes"]) == ("DATE", "BIGINT", "VARCHAR")
    shown = [
        tuple(f"{cell.isoformat()}Z" if isinstance(cell, datetime) else cell.isoformat() if name == "issued_on" and cell else cell for name, cell in zip(COLUMNS, row, strict=True))
        for row in back
    ]  # fmt: skip
    assert shown == rows


def test_parquet_of_no_rows_is_a_file(extract, scratch, tmp_path) -> None:
    """A table without rows still has its columns."""
    file = tmp_path / "t.parquet"
    file.write_bytes(write("parquet", extract([]), scratch))

    with closing(duckdb.connect(":memory:")) as connection:
        cursor = connection.execute(f"SELECT * FROM '{file}'")
        assert [column[0] for column in cursor.description] == list(COLUMNS)
        assert cursor.fetchall() == []


def test_parquet_that_lost_a_row_is_no_parquet(extract, scratch, monkeypatch) -> None:
    """DuckDB passes over lines that it can't make out: then the export fails."""
    copy = parquet._copy
    monkeypatch.setattr(parquet, "_copy", lambda *a: copy(*a).replace("FROM read_csv", "FROM (SELECT 1) JOIN read_csv").replace(") TO", " LIMIT 1) TO").replace("(SELECT 1) JOIN ", ""))  # fmt: skip

    with pytest.raises(ExportError, match="2 rows, and of these DuckDB wrote 1"):
        write("parquet", extract(rows_with(["a", "b"])), scratch)


def test_parquet_that_can_not_be_converted_says_why(extract, scratch) -> None:
    """A value that isn't of its column's type is an error that names the table, not a value left out."""
    row = rows_with(["a"])[0]
    with pytest.raises(ExportError, match="t can't be written as Parquet"):
        write("parquet", extract([(row[0], "no time", *row[2:])]), scratch)


def sheet(data: bytes) -> Any:
    return openpyxl.load_workbook(io.BytesIO(data)).active


def test_xlsx_gives_the_rows_back_as_text(extract, scratch, texts) -> None:
    """Text is text and no formula, numbers of more than 15 digits too; empty text and no value look alike."""
    rows = rows_with(texts)
    read = sheet(write("xlsx", extract(rows), scratch))

    assert [cell.value for cell in read[1]] == list(COLUMNS)
    for row, cells in zip(rows, read.iter_rows(min_row=2), strict=True):
        for value, cell in zip(row, cells, strict=True):
            if isinstance(value, str) and value:
                # The file's own escape of control characters, as Excel has it, which openpyxl leaves alone.
                assert unescape(cell.value) == value
                assert cell.data_type == "s"
            elif isinstance(value, int):
                assert cell.value == (value if abs(value) < 10**15 else str(value))
            else:
                assert not cell.value


def test_xlsx_of_the_same_rows_is_the_same_file(extract, scratch) -> None:
    """A workbook doesn't say when it was made."""
    made = extract(rows_with(["a"]))
    assert write("xlsx", made, scratch) == write("xlsx", made, scratch)


@pytest.mark.parametrize("text", ["x" * 32_768, "😀" * 16_384])
def test_xlsx_refuses_a_cell_that_it_would_cut(extract, scratch, text) -> None:
    """A text beyond a cell's 32,767 characters ends the export, naming its table, column and row."""
    with pytest.raises(ExportError, match=r"t\.note in row 2"):
        list(FORMATS["xlsx"].write(extract(rows_with(["a", text])), scratch))


def test_xlsx_refuses_more_rows_than_a_sheet_has(extract) -> None:
    """A table of more rows than a sheet holds is refused before anything is written."""
    made = extract([])
    room = FORMATS["xlsx"]
    formats.require_room(room, dataclasses.replace(made, rows=workbook.MAX_ROWS))

    with pytest.raises(ExportError, match=r"1,048,576 rows.*1,048,575"):
        formats.require_room(room, dataclasses.replace(made, rows=workbook.MAX_ROWS + 1))
    formats.require_room(FORMATS["csv"], dataclasses.replace(made, rows=10**9))


def test_columns_are_quoted() -> None:
    """Columns are SQL identifiers, whatever words they are: ``groups`` and ``count`` mean something to SQL."""
    assert quoted("groups") == '"groups"'
