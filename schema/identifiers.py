"""The identifiers of a SIM card: ICCID, MSISDN, IMSI, IMEI.

Each reader takes a JSON value and gives the normalised identifier, or None, and
the names of the anomalies met on the way. A JSON number that may have lost
digits is never an identifier.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from schema.readings import Json

Identifier: TypeAlias = tuple[str | None, tuple[str, ...]]

ICCID_DIGITS: Final = range(17, 23)
"""17 to 22 digits: with and without the check digit, ITU-T E.118 and what operators print beyond it."""

MSISDN_DIGITS: Final = range(7, 16)
"""At most 15 digits (ITU-T E.164 §6); below seven no country has numbers that can be dialled from abroad."""

IMSI_DIGITS: Final = range(14, 16)
"""At most 15 digits (ITU-T E.212 §6.1); shorter than 14 none is in use."""

IMEI_DIGITS: Final = range(14, 17)
"""14 without the check digit, 15 with it, 16 with the software version (3GPP TS 23.003 §6.2)."""

NATIONAL_DIGITS: Final = 10
"""Digits of a Russian number without its country code."""

_GROUPING: Final = str.maketrans("", "", " -\u00a0\u2009\u202f\u2010\u2011\u2012\u2013")
_PHONE_GROUPING: Final = str.maketrans("", "", " -().\u00a0\u2009\u202f\u2010\u2011\u2012\u2013")
_DOUBLED: Final = bytes.maketrans(b"0123456789", bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))
_ZERO: Final = ord("0")

_WHOLE: Final = re.compile(r"([0-9]{1,15})\.0+")
"""15 digits are what a binary floating-point number always keeps, and a sender
that wrote ``79000000001.0`` went through one."""

_AS_NUMBER: Final = ("number_for_text",)


def iccid(value: Json) -> Identifier:
    """An ICCID: 17 to 22 digits, without spaces, hyphens and a trailing ``F``.

    The prefix 89 and the Luhn digit (ITU-T E.118) only warn.
    """
    if isinstance(value, Decimal):
        return None, ("iccid_lossy_number",)
    text, flaws = _text(value)
    if text is None:
        return None, ("iccid_invalid",)
    digits = text.translate(_GROUPING)
    if digits[-1:] in {"F", "f"}:
        digits = digits[:-1]
    if not digits:
        return None, flaws
    if not _are_digits(digits) or len(digits) not in ICCID_DIGITS:
        return None, ("iccid_invalid",)
    if not digits.startswith("89"):
        flaws = (*flaws, "iccid_prefix")
    if check_digit(digits[:-1]) != digits[-1]:
        flaws = (*flaws, "iccid_checksum")
    return digits, flaws


def msisdn(value: Json) -> Identifier:
    """An MSISDN: ``+`` and 7 to 15 digits.

    Ten digits, and eleven that begin with 8 or 7, are Russian: they become ``+7…``.
    """
    text, flaws = _text(value)
    if text is None:
        return None, ("msisdn_invalid",)
    digits = text.translate(_PHONE_GROUPING)
    if not digits:
        return None, flaws
    international = digits.startswith(("+", "00"))
    if international:
        digits = digits[1:] if digits[0] == "+" else digits[2:]
    if not _are_digits(digits) or len(digits) not in MSISDN_DIGITS:
        return None, ("msisdn_invalid",)
    if not international:
        if len(digits) == NATIONAL_DIGITS:
            digits = "7" + digits
        elif len(digits) == NATIONAL_DIGITS + 1 and digits[0] == "8":
            digits = "7" + digits[1:]
    return "+" + digits, flaws


def imsi(value: Json) -> Identifier:
    """An IMSI: 14 or 15 digits."""
    return _plain(value, IMSI_DIGITS, "imsi_invalid")


def imei(value: Json) -> Identifier:
    """An IMEI: 14 to 16 digits. Slashes between its parts are dropped."""
    return _plain(value.replace("/", "") if isinstance(value, str) else value, IMEI_DIGITS, "imei_invalid")


def check_digit(digits: str) -> str:
    """The Luhn digit that follows these ASCII digits (ISO/IEC 7812-1, annex B)."""
    codes = digits.encode()
    total = sum(codes[-2::-2]) - _ZERO * (len(codes) // 2) + sum(codes[-1::-2].translate(_DOUBLED))
    return str(-total % 10)


def iccid_forms(iccid: str) -> tuple[str, ...]:
    """The forms in which the same card's ICCID may come, the given one first.

    Two forms are of one card if the longer is the shorter and its check digit.
    """
    forms = [iccid]
    if len(iccid) - 1 in ICCID_DIGITS and check_digit(iccid[:-1]) == iccid[-1]:
        forms.append(iccid[:-1])
    if len(iccid) + 1 in ICCID_DIGITS:
        forms.append(iccid + check_digit(iccid))
    return tuple(forms)


def number_text(value: Decimal) -> str | None:
    """The digits of a whole JSON number written with a fraction, ``1001.0``, where none can be lost."""
    match = _WHOLE.fullmatch(str(value))
    return match[1] if match else None


def _plain(value: Json, lengths: range, invalid: str) -> Identifier:
    text, flaws = _text(value)
    if text is None:
        return None, (invalid,)
    digits = text.translate(_GROUPING)
    if not digits:
        return None, flaws
    if not _are_digits(digits) or len(digits) not in lengths:
        return None, (invalid,)
    return digits, flaws


def _are_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _text(value: Json) -> Identifier:
    if isinstance(value, str):
        return value, ()
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return str(value), _AS_NUMBER
    if isinstance(value, Decimal):
        return number_text(value), _AS_NUMBER
    return ("" if value is None else None), ()
