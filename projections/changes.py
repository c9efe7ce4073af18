"""What an event changed in a row: ``{"column": [from, to]}``, as the history shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from projections.rows import Row

Changes = dict[str, tuple["str | int | None", "str | int | None"]]

_encode = msgspec.json.Encoder().encode


def assign(row: Row, changes: Changes, column: str, value: str | int | None) -> None:
    """Set a column, noting it where it is another value. None says nothing, and changes nothing."""
    if value is None:
        return
    before = getattr(row, column)
    if before != value:
        setattr(row, column, value)
        changes[column] = (before, value)


def fill(row: Row, changes: Changes, column: str, value: str | int | None) -> None:
    """Set a column only where nothing was known."""
    if value is not None and getattr(row, column) is None:
        setattr(row, column, value)
        changes[column] = (None, value)


def text(changes: Changes) -> str:
    """The changes as JSON."""
    return _encode(changes).decode() if changes else "{}"
