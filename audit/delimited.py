"""CSV (RFC 4180): comma, CR LF, UTF-8 without a mark, and no cell that a spreadsheet would run.

A spreadsheet takes text that begins with ``= + - @``, a tab or a line end for a
formula (CWE-1236; OWASP, CSV Injection), and the full-width forms of the four
likewise. An apostrophe is put before such text. It is put before empty text and
before text that begins with an apostrophe as well, so that what was written can
be told: no value is an empty cell, and taking one leading apostrophe off a text
gives the text back. A sign followed by digits alone stays as it is: a telephone
number (``+79001234567``) can be searched and joined, and computes nothing.

SQLite does it while it reads, since looking at each cell in Python would take
longer than all the rest.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Final

from audit.extract import Chunk, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from audit.extract import Extract, Field

CELLS: Final = (
    "An apostrophe stands before text that a spreadsheet would take for a formula (text that begins with = + - @ or their "
    "full-width forms, a tab or a line end, unless it is a sign followed by digits alone), before empty text and before "
    "text that begins with an apostrophe. Take one leading apostrophe off a text to have it as it was. An empty cell is no value."
)
"""The rule, for who reads the file."""

_FULL_WIDTH: Final = "\uff1d\uff0b\uff0d\uff20"

_HARMLESS: Final = f"'[^-=+@''\t\r\n{_FULL_WIDTH}]*'"
"""The pattern of text that needs no look. Neither empty text nor text that begins with NUL fits it."""


def write(extract: Extract, _scratch: Path) -> Iterator[Chunk]:
    """The file's bytes, a batch of rows at a time."""
    buffer = io.StringIO(newline="")
    rows = csv.writer(buffer)
    rows.writerow(field.name for field in extract.fields)
    written = 0
    for batch in extract.select([cell(field) for field in extract.fields]):
        rows.writerows(batch)
        written += len(batch)
        yield Chunk(_taken(buffer), len(batch))
    if not written:
        yield Chunk(_taken(buffer), 0)


def cell(field: Field) -> str:
    """The SQL expression of a field's cell."""
    column = quoted(field.name)
    if field.type != "string":
        return column  # Numbers are numbers; times and JSON begin with a digit or a bracket.
    signed = (
        f"substr({column}, 1, 1) IN ('+', '-') AND length({column}) > 1 AND substr({column}, 2) NOT GLOB '*[^0-9]*'"
    )
    return (
        f"CASE WHEN {column} GLOB {_HARMLESS} OR {column} IS NULL OR ({signed}) THEN {column} ELSE '''' || {column} END"
    )


def text(column: str) -> str:
    """The SQL expression, in DuckDB's words, that gives a cell's text back."""
    return f"CASE WHEN starts_with({column}, '''') THEN substr({column}, 2) ELSE {column} END"


def _taken(buffer: io.StringIO) -> bytes:
    data = buffer.getvalue().encode()
    buffer.seek(0)
    buffer.truncate()
    return data
