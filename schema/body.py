"""The body: bytes as JSON, as far as we follow it (RFC 8259), or why they are not.

The same bytes are judged the same on any machine: nesting is bounded by a rule
of ours, not by the depth of an interpreter's stack.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import accumulate
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from schema.readings import Json

MAX_DEPTH: Final = 64
"""Levels of arrays and objects that are followed: a webhook has five, a hostile body 100,000."""

MAX_EXPONENT_DIGITS: Final = 6
"""Digits of the largest exponent that is computed with, the same on every platform's decimal arithmetic."""

STEPS_AT_ONCE: Final = 16_384
"""Brackets that are counted in one piece: less than a millisecond."""

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

_NEITHER_BRACKET_NOR_QUOTE: Final = bytes(set(range(256)) - set(b'[]{}"'))
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
"""Of each bracket, by how much it changes the depth, as a signed byte."""


class NotJson(ValueError):
    """Bytes are not JSON that we read; the message says why, for people."""


class _FarExponent(ArithmeticError):
    """A number's exponent is beyond `MAX_EXPONENT_DIGITS`."""


def parse(body: bytes) -> tuple[Json, tuple[str, ...]]:
    """The value of a body, its numbers exact, and the anomalies of its JSON.

    Raises `NotJson`, and nothing else, where there is none.
    """
    anomalies: tuple[str, ...] = ()
    if body.startswith(BYTE_ORDER_MARK):
        body, anomalies = body[len(BYTE_ORDER_MARK) :], ("byte_order_mark",)
    if not body:
        msg = "the body is empty"
        raise NotJson(msg)
    if _opens(body) > MAX_DEPTH and _is_deep(body):
        msg = f"nested deeper than {MAX_DEPTH} levels"
        raise NotJson(msg)
    try:
        try:
            value: Json = _decoder.decode(body)
        except _FarExponent:
            value = _far_decoder.decode(body)
            anomalies += ("number_as_text",)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotJson(_reason(body, error)) from None
    return value, anomalies


def not_json(body: bytes) -> str | None:
    """Why the bytes are not JSON that we read, in words; None where they are.

    Agrees with `schema.decode`: there is a reason exactly where a reading is `Unreadable`.
    """
    try:
        parse(body)
    except NotJson as reason:
        return str(reason)
    return None


def _number(text: str) -> Decimal:
    if "e" in text or "E" in text:
        exponent = text.lower().partition("e")[2]
        if len(exponent.lstrip("+-0")) > MAX_EXPONENT_DIGITS:
            raise _FarExponent
    return Decimal(text)


def _number_or_text(text: str) -> Decimal | str:
    try:
        return _number(text)
    except _FarExponent:
        return text


_decoder: Final = msgspec.json.Decoder(float_hook=_number)
_far_decoder: Final = msgspec.json.Decoder(float_hook=_number_or_text)


def _opens(body: bytes) -> int:
    """How many brackets open, counted up to one more than `MAX_DEPTH` of each kind: what is mostly text has few, soon found."""
    count = 0
    for bracket in (b"[", b"{"):
        at = -1
        for _ in range(MAX_DEPTH + 1):
            if (at := body.find(bracket, at + 1)) < 0:
                break
            count += 1
    return count


def _is_deep(body: bytes) -> bool:
    """More than `MAX_DEPTH` levels are open at once.

    Exact for JSON; of other bytes, true wherever a parser gets so deep before it meets the fault.
    """
    if b"\\" in body:
        # What is left of escapes can't be taken for the end of a string.
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Most strings hold no bracket, and go at once.
    brackets = body.translate(None, _NEITHER_BRACKET_NOR_QUOTE).replace(b'""', b"")
    if b'"' in brackets:
        # What is between the first quote and the second is a string, and so on; a last one that does not end counts.
        parts = brackets.split(b'"')
        brackets = b"".join(parts[::2] if len(parts) % 2 else [*parts[::2], parts[-1]])
    steps = memoryview(brackets.translate(_STEPS)).cast("b")
    depth = 0
    # In pieces: a thread that is in one call keeps all others from running.
    for start in range(0, len(steps), STEPS_AT_ONCE):
        depths = list(accumulate(steps[start : start + STEPS_AT_ONCE], initial=depth))
        if max(depths) > MAX_DEPTH:
            return True
        depth = depths[-1]
    return False


def _reason(body: bytes, error: Exception) -> str:
    try:
        body.decode()
    except UnicodeDecodeError as fault:
        return f"not UTF-8: byte {fault.start}"
    if isinstance(error, msgspec.ValidationError):
        return "a whole number has more digits than are read"
    return f"not JSON: {str(error).removeprefix('JSON is malformed: ')}"
