"""Texts: what of a JSON value may stand in a field of text.

Such a text can be stored by SQLite and shown on a page whole: it has no NUL,
and it has an end. Identities are never cut: two of them must not become one.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from schema.aliases import folded
from schema.identifiers import number_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schema.readings import Json

Text: TypeAlias = tuple[str | None, tuple[str, ...]]

TEXT_CHARACTERS: Final = 512
"""Characters of a field of text: names and labels fit, and a page of a hundred rows stays below 100 KB a column."""

ATTRIBUTES_CHARACTERS: Final = 16_384
"""Characters of a JSON text in a column: some hundred fields of a card, which a page can still show."""

NUL: Final = "\0"
NUL_SHOWN: Final = "\u2400"

_LABELS: Final = ("name", "value", "description", "title", "code", "id")

_encoder = msgspec.json.Encoder(decimal_format="number")


def encoded(value: Json) -> bytes:
    """Compact JSON of a value, its numbers exact."""
    return _encoder.encode(value)


def rendered(value: Json) -> str:
    """Compact JSON of a value, its numbers exact, as text."""
    return _encoder.encode(value).decode()


def shown(text: str) -> Text:
    """A text as a field holds it: stripped, without NUL, cut at `TEXT_CHARACTERS`; None if nothing is left."""
    text = text.strip()
    if len(text) <= TEXT_CHARACTERS and NUL not in text:
        return text or None, ()
    flaws: tuple[str, ...] = ()
    if NUL in text:
        text, flaws = text.replace(NUL, NUL_SHOWN), ("nul_in_text",)
    if len(text) > TEXT_CHARACTERS:
        text, flaws = text[: TEXT_CHARACTERS - 1] + "…", (*flaws, "text_cut")
    return text, flaws


def plain(value: Json) -> Text:
    """The text of a field that the platform's page says is text; whole numbers are read as their digits."""
    if isinstance(value, str):
        return shown(value)
    if value is None:
        return None, ()
    if isinstance(value, bool | list | dict):
        return None, ("field_not_text",)
    text, flaws = shown(str(value))
    return text, (*flaws, "number_for_text")


def label(value: Json) -> Text:
    """The text of a field that may come as anything: of an object its name, if it has one, else JSON."""
    if isinstance(value, str):
        return shown(value)
    if value is None:
        return None, ()
    if isinstance(value, bool):
        return "true" if value else "false", ()
    if isinstance(value, dict):
        fields = {folded(key): inner for key, inner in value.items()}
        for name in _LABELS:
            inner = fields.get(name)
            if inner and isinstance(inner, str | int) and not isinstance(inner, bool):
                return shown(str(inner))
    if isinstance(value, dict | list):
        return shown(rendered(value)) if value else (None, ())
    return shown(str(value))


def identity(value: Json) -> Text:
    """An id of the platform's as text: text, or a whole number, of at most `TEXT_CHARACTERS`."""
    if isinstance(value, str):
        text, flaws = shown(value)
        return (None, ("id_invalid",)) if "text_cut" in flaws else (text, flaws)
    if value is None:
        return None, ()
    if isinstance(value, int) and not isinstance(value, bool):
        digits: str | None = str(value)
    else:
        digits = number_text(value) if isinstance(value, Decimal) else None
    if digits is None or len(digits) > TEXT_CHARACTERS:
        return None, ("id_invalid",)
    return digits, ()


def json_text(value: Json) -> Text:
    """JSON text of a value, replaced by a JSON string that says so where it is too long."""
    text = rendered(value)
    return (text, ()) if len(text) <= ATTRIBUTES_CHARACTERS else (_too_long(text), ("attributes_cut",))


def json_object(fields: Mapping[str, Json]) -> Text:
    """JSON text of an object; of one that is too long, the fields that fit, the others marked."""
    text = rendered(dict(fields))
    if len(text) <= ATTRIBUTES_CHARACTERS:
        return text, ()
    kept: dict[str, Json] = {}
    room = ATTRIBUTES_CHARACTERS // 2
    for key, value in fields.items():
        name, entry = key[:TEXT_CHARACTERS], rendered(value)
        if len(entry) > TEXT_CHARACTERS:
            entry = _too_long(entry)
            kept[name] = entry[1:-1]
        else:
            kept[name] = value
        room -= len(rendered(name)) + len(entry)
        if room < 0:
            kept["…"] = "(cut: the log has the whole)"
            break
    return rendered(kept), ("attributes_cut",)


def _too_long(text: str) -> str:
    return f'"(cut, {len(text):,} characters: the log has the whole)"'
