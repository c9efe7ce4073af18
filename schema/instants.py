"""Instants and dates, from the ways in which platforms write them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from schema.event import instant

if TYPE_CHECKING:
    from datetime import tzinfo

    from schema.readings import Json
    from schema.texts import Text

YEARS: Final = range(1970, 10_000)
"""Years a webhook can mean: before Unix time there was no platform, after 9999 no calendar here."""

MILLISECONDS_FROM: Final = 10**11
"""Unix times from here on are milliseconds: as seconds they lie beyond the year 5000, as milliseconds after 1973."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_END: Final = 253_402_300_800_000
_MICROSECOND_DIGITS: Final = 6
_TEXT_CHARACTERS: Final = 48
"""Characters of the longest text that can be a time."""

_NOT_UNDERSTOOD: Final = ("time_not_understood",)

_CLOCK: Final = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,9}))?)?"
_ZONE: Final = r" ?(?P<zone>[Zz]|(?P<ahead>[+-])(?P<hours>[0-9]{2})(?::?(?P<minutes>[0-5][0-9]))?)?"
_CALENDAR: Final = (
    re.compile(rf"(?P<year>[0-9]{{4}})-(?P<month>[0-9]{{2}})-(?P<day>[0-9]{{2}})(?:[Tt ]{_CLOCK}{_ZONE})?"),
    re.compile(rf"(?P<day>[0-9]{{2}})\.(?P<month>[0-9]{{2}})\.(?P<year>[0-9]{{4}})(?:,? {_CLOCK}{_ZONE})?"),
    re.compile(rf"(?P<year>[0-9]{{4}})(?P<month>[0-9]{{2}})(?P<day>[0-9]{{2}})(?:T{_CLOCK}{_ZONE})?"),
)
_UNIX: Final = re.compile(r"[0-9]{9,15}(?:\.[0-9]{1,9})?")


class Calendar:
    """Reads times as they are meant in one time zone, where they don't name their own.

    Unix time in seconds or milliseconds by magnitude, ISO 8601 dates and times,
    ``DD.MM.YYYY`` and ``YYYY-MM-DD hh:mm:ss``.
    """

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone

    def instant(self, value: Json) -> Text:
        """An instant in UTC, as the log writes it; a date alone is its midnight in the zone."""
        moment = self._moment(value)
        if moment is None:
            return None, _absent(value)
        if not isinstance(moment, datetime):
            moment = datetime(moment.year, moment.month, moment.day, tzinfo=self._zone)
        try:
            utc = moment.astimezone(UTC)
        except OverflowError:
            return None, _NOT_UNDERSTOOD
        return (instant(utc), ()) if utc.year in YEARS else (None, _NOT_UNDERSTOOD)

    def day(self, value: Json) -> Text:
        """An ISO date: as written, or the day of an instant in the zone."""
        moment = self._moment(value)
        if moment is None:
            return None, _absent(value)
        if isinstance(moment, datetime):
            try:
                moment = moment.astimezone(self._zone).date()
            except OverflowError:
                return None, _NOT_UNDERSTOOD
        return (moment.isoformat(), ()) if moment.year in YEARS else (None, _NOT_UNDERSTOOD)

    def _moment(self, value: Json) -> date | None:
        """A date, or an aware datetime; None where there is none to be read."""
        if isinstance(value, int) and not isinstance(value, bool):
            return _unix(value)
        if isinstance(value, Decimal):
            return _unix(value)
        if not isinstance(value, str) or len(value) > _TEXT_CHARACTERS:
            return None
        text = value.strip()
        for pattern in _CALENDAR:
            if match := pattern.fullmatch(text):
                return self._calendar(match)
        return _unix(Decimal(text)) if _UNIX.fullmatch(text) else None

    def _calendar(self, match: re.Match[str]) -> date | None:
        year, month, day = int(match["year"]), int(match["month"]), int(match["day"])
        try:
            if match["hour"] is None:
                return date(year, month, day)
            fraction = (match["fraction"] or "").ljust(_MICROSECOND_DIGITS, "0")[:_MICROSECOND_DIGITS]
            clock = int(match["hour"]), int(match["minute"]), int(match["second"] or 0), int(fraction)
            return datetime(year, month, day, *clock, tzinfo=self._offset(match))
        except ValueError:
            return None

    def _offset(self, match: re.Match[str]) -> tzinfo:
        if match["zone"] is None:
            return self._zone
        if match["ahead"] is None:
            return UTC
        offset = timedelta(hours=int(match["hours"]), minutes=int(match["minutes"] or 0))
        return timezone(-offset if match["ahead"] == "-" else offset)


def _unix(value: int | Decimal) -> datetime | None:
    if not 0 <= value < _EPOCH_END:
        return None
    scale = 1_000 if value >= MILLISECONDS_FROM else 1_000_000
    try:
        return _EPOCH + timedelta(microseconds=int(value * scale))
    except OverflowError:
        return None


def _absent(value: Json) -> tuple[str, ...]:
    return () if value is None or (isinstance(value, str) and not value.strip()) else _NOT_UNDERSTOOD
