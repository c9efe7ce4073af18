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


def merged(older: str | None, newer: str | None) -> str | None:
    """Two JSON objects as one, the newer's values first; the newer alone if that grows too large."""
    if older is None or older == newer:
        return newer
    if newer is None:
        return older
    both: dict[str, msgspec.Raw] = _decode_object(older)
    both.update(_decode_object(newer))
    joined = _encode(both).decode()
    return joined if len(joined) <= ATTRIBUTES_CHARACTERS else newer


ATTRIBUTES_CHARACTERS = 16_384
"""Characters of a row's attributes at most: fields are kept as long as they are few,
but a sender that names each one anew must not make a card grow without end."""

_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
