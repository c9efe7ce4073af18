from __future__ import annotations

from datetime import date

import pytest

from projections import workdays


@pytest.mark.parametrize(
    ("day", "working"),
    [
        (date(2026, 3, 6), True),
        (date(2026, 3, 7), False),
        (date(2026, 3, 9), False),
        (date(2025, 11, 1), True),
        (date(2025, 11, 3), False),
    ],
)
def test_the_governments_transfers_are_known(day, working):
    """A Saturday can be worked and a Monday off, by that year's decree."""
    assert workdays.is_working(day, {}) is working


def test_an_override_wins():
    """A user's own calendar corrects the library's."""
    assert workdays.after(date(2026, 3, 2), 1, {"2026-03-03": False}) == date(2026, 3, 4)


def test_the_day_itself_is_not_counted():
    """The third working day after a Friday is a Wednesday."""
    assert workdays.after(date(2026, 3, 13), 3, {}) == date(2026, 3, 18)


def test_no_day_is_found_where_there_is_none():
    """The end of the calendar, or overrides that close every day, give no estimate instead of an endless search."""
    assert workdays.after(date.max, 1, {}) is None
    closed = {date.fromordinal(date(2026, 3, 2).toordinal() + n).isoformat(): False for n in range(100)}
    assert workdays.after(date(2026, 3, 2), 1, closed) is None


@pytest.mark.parametrize(
    ("first", "last", "days"),
    [
        (date(2026, 3, 6), date(2026, 3, 6), 0),
        (date(2026, 3, 6), date(2026, 3, 9), 0),
        (date(2026, 3, 6), date(2026, 3, 11), 2),
        (date(2026, 3, 11), date(2026, 3, 6), -2),
        (date(2026, 3, 8), date(2026, 3, 10), 1),
        (date(1026, 3, 8), date(2026, 3, 10), None),
        (date.max, date(2026, 3, 10), None),
    ],
)
def test_working_days_between_two_days(first, last, days):
    """Holidays count for nothing, the first day neither; an earlier day is below 0, one of another age is not counted."""
    assert workdays.between(first, last, {}) == days


def test_working_days_between_heed_overrides():
    """A user's own calendar counts."""
    assert workdays.between(date(2026, 3, 10), date(2026, 3, 11), {"2026-03-11": False}) == 0
