"""The attributes of SIM cards and bills: every field sent that has no column, in tables of their own, as nobody has looked at them."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from projections.rows import Row, Rows
from schema.texts import ATTRIBUTES_CHARACTERS


class SimAttributes(Row):
    """A row of ``sim_attributes``."""

    sim: str
    attributes: str
    position: int


class BillAttributes(Row):
    """A row of ``bill_attributes``."""

    bill: str
    attributes: str
    position: int


A = TypeVar("A", SimAttributes, BillAttributes)

_encode = msgspec.json.Encoder().encode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Attributes(Rows[A]):
    """The rows of one table of attributes: none where nothing was sent without a column.

    ``position`` is that of the event that last changed the row.
    """

    def add(self, key: str, told: str, position: int, *, late: bool = False) -> None:
        """Add what an event told, a JSON object, to a row's; what is late adds only what was not known."""
        row = self.get(key)
        if row is None:
            self.put(self._row_type(key, told, position))
        elif row.attributes != told:
            self._set(row, _merged(row.attributes, told, late=late), position)

    def unite(self, older: str, newer: str, into: str, position: int) -> None:
        """Make one row of two that turned out to be of one card or bill, with the key ``into``; the newer's values count."""
        rows = [row for key in dict.fromkeys((older, newer)) if (row := self.get(key)) is not None]
        if not rows:
            return
        for row in rows:
            if self.key_of(row) != into:
                self.remove(row)
        both = rows[0].attributes
        for row in rows[1:]:
            both = _merged(both, row.attributes)
        kept = self.get(into)
        if kept is None:
            self.put(self._row_type(into, both, position))
        else:
            self._set(kept, both, position)

    def _set(self, row: A, attributes: str, position: int) -> None:
        if row.attributes != attributes:
            row.attributes, row.position = attributes, position
            self.put(row)


def _merged(known: str, told: str, *, late: bool = False) -> str:
    """Two JSON objects as one, what is told before what is known, unless it is late; that one alone if both are too much."""
    both = _decode_object(known)
    for name, value in _decode_object(told).items():
        if not late or name not in both:
            both[name] = value
    joined = _encode(both).decode()
    # A sender that names each field anew must not make a card grow without end.
    if len(joined) <= ATTRIBUTES_CHARACTERS:
        return joined
    return known if late else told
