"""An extract: the rows of one table that an export takes, and how a format may ask for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from schema.errors import SimtrailError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

FieldType: TypeAlias = Literal["integer", "string", "datetime", "date", "object", "array"]
"""Types of a field, in the words of Table Schema. Objects and arrays are JSON text."""

Cell: TypeAlias = str | int | None
Batch: TypeAlias = list[tuple[Cell, ...]]

JSON_COLUMNS: Final[dict[str, FieldType]] = {
    "anomalies": "array",
    "awaiting": "array",
    "attributes": "object",
    "changes": "object",
    "headers": "object",
}
"""Columns that hold JSON of one kind. ``groups`` holds JSON of any."""


PIECE_BYTES: Final = 1024 * 1024
"""Bytes of a file passed on at a time."""


class ExportError(SimtrailError):
    """An export can't be made whole; nothing of it was left."""


class Chunk(NamedTuple):
    """A piece of a file, and how many rows it brings."""

    data: bytes
    rows: int


class Field(NamedTuple):
    """A column of an extract."""

    name: str
    type: FieldType
    required: bool


@dataclass(frozen=True)
class Extract:
    """The rows of one table that an export takes.

    ``rows`` counts them; ``first`` and ``last`` are the positions that they range
    over, None if there are no rows. ``select`` gives them in the order of ``key``,
    in batches small enough to hold, each column as the SQL expression asked for.
    """

    name: str
    fields: tuple[Field, ...]
    key: tuple[str, ...]
    rows: int
    first: int | None
    last: int | None
    select: Callable[[Sequence[str]], Iterator[Batch]]


def field(name: str, kind: str) -> Field:
    """The field of a read model's column, ``kind`` as `schema.tables` has it."""
    return Field(name, _type(name, kind.rstrip("!")), kind.endswith("!"))


def pieces(path: Path) -> Iterator[Chunk]:
    """A file that is written, in pieces small enough to hold."""
    with path.open("rb") as file:
        while data := file.read(PIECE_BYTES):
            yield Chunk(data, 0)


def quoted(name: str) -> str:
    """A column's name as SQL has it."""
    return f'"{name}"'


def _type(name: str, kind: str) -> FieldType:
    if kind == "integer":
        return "integer"
    if name == "at" or name.endswith(("_at", "_since", "_at_after")):
        return "datetime"
    if name.endswith("_on"):
        return "date"
    return JSON_COLUMNS.get(name, "string")
