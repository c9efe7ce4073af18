"""Working days as the platform counts them: Russian ones, with the government's transfers.

Dates computed here are estimates, and are labelled so wherever they are shown:
the notice that arrives is what counts.
"""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from holidays import country_holidays

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from holidays import HolidayBase

SEARCH_DAYS = 60
"""Days looked through for a working day at most: twice the longest run of days that
a year has for six working days. Overrides that leave none are told by None."""


APART_DAYS = 366
"""Days that are counted between two dates at most: a sender may name any year, and each day takes its time."""


@lru_cache(maxsize=64)
def _calendar(year: int) -> HolidayBase:
    # One year each: a calendar left to grow by itself keeps every year that a sender names.
    return country_holidays("RU", years=year, expand=False)


def is_working(day: date, overrides: Mapping[str, bool]) -> bool:
    """Whether a day is a working one; ``overrides`` maps ISO dates to the answer."""
    said = overrides.get(day.isoformat())
    return _calendar(day.year).is_working_day(day) if said is None else said


def after(day: date, count: int, overrides: Mapping[str, bool]) -> date | None:
    """The ``count``-th working day after a day, which itself is not counted."""
    left = count
    for ahead in range(1, SEARCH_DAYS + 1):
        try:
            candidate = day + timedelta(days=ahead)
        except OverflowError:
            return None
        left -= is_working(candidate, overrides)
        if left == 0:
            return candidate
    return None


def between(first: date, last: date, overrides: Mapping[str, bool]) -> int | None:
    """The working days after one day up to another; negative if that one is earlier, None if they are too far apart."""
    days = (last - first).days
    if abs(days) > APART_DAYS:
        return None
    start = min(first, last)
    count = sum(is_working(start + timedelta(days=ahead), overrides) for ahead in range(1, abs(days) + 1))
    return count if days >= 0 else -count
