"""XLSX, by XlsxWriter: a workbook with one sheet, every text a text.

Text is stored as text, so nothing of it is run and no ICCID loses a digit; a
whole number of more than 15 digits, which a spreadsheet would round, is stored
as text too. A cell can't tell empty text from no value.
"""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from audit.extract import Chunk, ExportError, pieces, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from xlsxwriter.format import Format as XlsxFormat  # type: ignore[import-untyped]
    from xlsxwriter.worksheet import Worksheet  # type: ignore[import-untyped]

    from audit.extract import Cell, Extract

NOTE: Final = (
    "Text is stored as text and never run. A whole number of more than 15 digits is text as well, since a spreadsheet would "
    "round it. An empty cell is empty text or no value: the other formats tell them apart."
)
"""The rule, for who reads the file."""

MAX_ROWS: Final = 1_048_575
"""Rows of a sheet, less its header (Excel specifications and limits)."""

MAX_CHARACTERS: Final = 32_767
"""Characters of a cell (the same), counted in UTF-16 as Excel does."""

MAX_NUMBER: Final = 10**15
"""Whole numbers from here on have more digits than Excel keeps."""

WIDTH: Final = 22
"""Characters that a column shows: an ICCID, or a time to the second."""

CREATED: Final = datetime(1980, 1, 1, tzinfo=UTC)
"""The same rows make the same workbook: it doesn't say when."""


def write(extract: Extract, scratch: Path) -> Iterator[Chunk]:
    """The file's bytes. Its rows are told first, as they are read, and its bytes once it is written."""
    import xlsxwriter  # type: ignore[import-untyped]  # noqa: PLC0415 - only who exports XLSX needs it

    written = scratch / "rows.xlsx"
    # Constant memory: a row is on disk once the next one is begun.
    workbook = xlsxwriter.Workbook(str(written), {"constant_memory": True, "tmpdir": str(scratch)})
    workbook.set_properties({"created": CREATED})
    sheet = workbook.add_worksheet(extract.name)
    # A workbook that is given up is not closed, which would write it: only the file that it keeps its rows in is.
    with closing(sheet.row_data_fh):
        yield from _fill(sheet, extract, workbook.add_format({"bold": True}))
        try:
            workbook.close()
        except xlsxwriter.exceptions.XlsxWriterException as error:
            msg = f"{extract.name} can't be written as XLSX: {error}"
            raise ExportError(msg) from error
    yield from pieces(written)
    written.unlink()


def _fill(sheet: Worksheet, extract: Extract, heading: XlsxFormat) -> Iterator[Chunk]:
    """Write the rows to the sheet; the chunks only tell of them."""
    last = len(extract.fields) - 1
    sheet.freeze_panes(1, 0)
    sheet.set_column(0, last, WIDTH)
    for column, field in enumerate(extract.fields):
        sheet.write_string(0, column, field.name, heading)
    number = 0
    for batch in extract.select([quoted(field.name) for field in extract.fields]):
        for row in batch:
            number += 1
            for column, value in enumerate(row):
                _write(sheet, extract, number, column, value)
        yield Chunk(b"", len(batch))
    sheet.autofilter(0, 0, number, last)


def _write(sheet: Worksheet, extract: Extract, row: int, column: int, value: Cell) -> None:
    if value is None:
        return
    if isinstance(value, int):
        if abs(value) < MAX_NUMBER:
            sheet.write_number(row, column, value)
            return
        value = str(value)
    if len(value) > MAX_CHARACTERS // 2 and len(value.encode("utf-16-le")) > 2 * MAX_CHARACTERS:
        msg = (
            f"{extract.name}.{extract.fields[column].name} in row {row} has {len(value):,} characters, and a cell of a "
            f"spreadsheet holds {MAX_CHARACTERS:,}: choose another format, or leave {extract.name} out"
        )
        raise ExportError(msg)
    sheet.write_string(row, column, value)
