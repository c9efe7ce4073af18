"""Seen items: by their bytes, what was read of SIM cards that came before.

The same card comes many times with the same fields. What is read of an item,
and what is published of it, depends on its bytes alone, so both are remembered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import msgspec

from schema.body import BYTE_ORDER_MARK
from schema.items import items
from schema.texts import encoded

if TYPE_CHECKING:
    from collections.abc import Callable

    from schema.readings import Json, SimCard

SEEN_ITEMS: Final = 32_768
"""Items remembered before all are forgotten: at some 1 KB each, 32 MB."""

SEEN_BYTES: Final = 1_024
"""Bytes of the largest item remembered, several times what a card takes."""


class _Items(msgspec.Struct, gc=False):
    items: list[msgspec.Raw]


_slices: Final = msgspec.json.Decoder(_Items)


class SeenItems:
    """Reads the SIM cards of bodies, each distinct item once. Owns its memory of them: one thread."""

    def __init__(self, read: Callable[[Json], SimCard]) -> None:
        self._read = read
        self._seen: dict[bytes, tuple[SimCard, msgspec.Raw]] = {}

    def cards(self, value: dict[str, Json], body: bytes, anomalies: list[str]) -> tuple[SimCard, ...]:
        """The cards in the items of a body, given as value and bytes; the value is left as it is published."""
        elements = items(value, anomalies)
        if not elements or elements is not value["items"]:
            return tuple([self._read(element) for element in elements])
        cards: list[SimCard] = []
        texts: list[msgspec.Raw] = []
        seen = self._seen
        pieces = _slices.decode(body.removeprefix(BYTE_ORDER_MARK)).items
        for element, piece in zip(elements, map(bytes, pieces), strict=True):
            card, text = seen.get(piece) or self._see(element, piece)
            cards.append(card)
            texts.append(text)
        # An encoder writes these as they are.
        value["items"] = cast("list[Json]", texts)
        return tuple(cards)

    def _see(self, element: Json, piece: bytes) -> tuple[SimCard, msgspec.Raw]:
        card = self._read(element)
        pair = card, msgspec.Raw(encoded(element))
        if len(piece) <= SEEN_BYTES:
            if len(self._seen) >= SEEN_ITEMS:
                self._seen.clear()
            self._seen[piece] = pair
        return pair
