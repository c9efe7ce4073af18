"""A job's counts, and how far it is."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from schema.money import INTEGER_MAX

if TYPE_CHECKING:
    from schema.readings import Json

MAX_FRACTION_EXPONENT: Final = 20
"""Powers of ten beyond which a decimal is no count: 2⁶³ has 19 digits."""

_DIGITS: Final = re.compile(r"([+-]?[0-9]{1,20}(?:\.[0-9]{1,20})?) ?(%?)")


def count(value: Json, anomalies: list[str]) -> int | None:
    """A number of elements: whole, not negative, and such that SQLite stores it."""
    if type(value) is int and 0 <= value <= INTEGER_MAX:
        return value
    return _odd_count(value, anomalies, whole=True)


def percentage(value: Json, anomalies: list[str]) -> int | None:
    """A percentage; a fraction is rounded down, so that 99.9 is not yet all."""
    if type(value) is int and 0 <= value <= INTEGER_MAX:
        return value
    return _odd_count(value, anomalies, whole=False)


def _odd_count(value: Json, anomalies: list[str], *, whole: bool) -> int | None:
    if isinstance(value, str):
        match = _DIGITS.fullmatch(value.strip())
        if match and not (whole and match[2]):
            value = Decimal(match[1])
            anomalies.append("count_as_text")
    if isinstance(value, Decimal) and value >= 0 and value.adjusted() < MAX_FRACTION_EXPONENT:
        number = int(value)
        if number <= INTEGER_MAX and (number == value or not whole):
            if number != value:
                anomalies.append("percentage_fraction")
            return number
    anomalies.append("count_not_integer")
    return None
