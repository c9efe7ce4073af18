"""The formats that tables are exported in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from audit import delimited, ndjson, parquet, workbook
from audit.extract import ExportError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from audit.extract import Chunk, Extract


@dataclass(frozen=True)
class Format:
    """One format.

    ``write`` gives a file's bytes as they come about; it may keep files in the
    folder that it is given, and leaves none there. ``dialect`` is a Table Dialect.
    ``sorted_fields`` says that fields stand in the order of their names.
    ``missing_values`` are the texts that stand for no value, and
    ``tells_empty_text`` says whether they can be told from empty text.
    """

    name: str
    media_type: str
    write: Callable[[Extract, Path], Iterator[Chunk]]
    dialect: dict[str, object] | None = None
    note: str = ""
    encoding: str | None = None
    sorted_fields: bool = False
    missing_values: tuple[str, ...] = ()
    tells_empty_text: bool = True
    max_rows: int | None = None


FORMATS: Final = {
    form.name: form
    for form in (
        Format(
            "csv",
            "text/csv",
            delimited.write,
            dialect={"delimiter": ",", "lineTerminator": "\r\n", "quoteChar": '"', "doubleQuote": True},
            note=delimited.CELLS,
            missing_values=("",),
            encoding="utf-8",
        ),
        Format(
            "ndjson",
            "application/x-ndjson",
            ndjson.write,
            dialect={"itemType": "object"},
            encoding="utf-8",
            sorted_fields=True,
        ),
        Format("parquet", "application/vnd.apache.parquet", parquet.write),
        Format(
            "xlsx",
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            workbook.write,
            note=workbook.NOTE,
            missing_values=("",),
            tells_empty_text=False,
            max_rows=workbook.MAX_ROWS,
        ),
    )
}


def require_room(form: Format, extract: Extract) -> None:
    """Raise `ExportError` where a file of that format can't hold so many rows."""
    if form.max_rows is not None and extract.rows > form.max_rows:
        msg = (
            f"{extract.name} has {extract.rows:,} rows, and a sheet of {form.name} holds {form.max_rows:,}: choose another "
            "format, or a shorter range"
        )
        raise ExportError(msg)
