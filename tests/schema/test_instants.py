from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.event import instant as as_text
from schema.instants import Calendar

moscow = Calendar(ZoneInfo("Europe/Moscow"))
instants = st.integers(86_400, 253_402_214_400 - 1).map(
    lambda s: datetime.fromtimestamp(s, UTC) + timedelta(microseconds=s % 999_983)
)
NOT_UNDERSTOOD = (None, ("time_not_understood",))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1764579600, "2025-12-01T09:00:00.000000Z"),
        (1764579600123, "2025-12-01T09:00:00.123000Z"),
        ("1764579600", "2025-12-01T09:00:00.000000Z"),
        ("1764579600.25", "2025-12-01T09:00:00.250000Z"),
        (Decimal("1764579600.123456"), "2025-12-01T09:00:00.123456Z"),
        (0, "1970-01-01T00:00:00.000000Z"),
        ("2025-12-01T12:00:00Z", "2025-12-01T12:00:00.000000Z"),
        ("2025-12-01T12:00:00+03:00", "2025-12-01T09:00:00.000000Z"),
        ("2025-12-01T12:00:00+0300", "2025-12-01T09:00:00.000000Z"),
        ("2025-12-01T12:00:00-03", "2025-12-01T15:00:00.000000Z"),
        ("2025-12-01T12:00:00.1234567+03:00", "2025-12-01T09:00:00.123456Z"),
        ("2025-12-01 12:00:00", "2025-12-01T09:00:00.000000Z"),
        ("2025-12-01T12:00", "2025-12-01T09:00:00.000000Z"),
        ("2025-12-01", "2025-11-30T21:00:00.000000Z"),
        ("01.12.2025", "2025-11-30T21:00:00.000000Z"),
        ("01.12.2025 12:00", "2025-12-01T09:00:00.000000Z"),
        ("01.12.2025 12:00:05", "2025-12-01T09:00:05.000000Z"),
        ("20251201T120000Z", None),
        ("20251201", "2025-11-30T21:00:00.000000Z"),
        ("2013-01-01 00:00:00", "2012-12-31T20:00:00.000000Z"),
    ],
)
def test_an_instant_is_stored_in_utc(value, expected):
    """Unix time by magnitude, ISO 8601 and Russian forms; without a zone of their own, in the configured one."""
    assert moscow.instant(value) == ((expected, ()) if expected else NOT_UNDERSTOOD)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("01.12.2025", "2025-12-01"),
        ("2025-12-01", "2025-12-01"),
        ("2025-12-01 23:59:59", "2025-12-01"),
        ("2025-12-01T23:00:00Z", "2025-12-02"),
        (1764579600, "2025-12-01"),
        (1764626400, "2025-12-02"),
    ],
)
def test_a_day_is_the_one_in_the_zone(value, expected):
    """A date is itself; an instant is on the day that it has in the configured zone."""
    assert moscow.day(value) == (expected, ())


@pytest.mark.parametrize(
    "value",
    [
        "0000-00-00 00:00:00",
        "2025-02-30",
        "2025-12-01T25:00:00Z",
        "2025-12-01T12:00:60Z",
        "1969-12-31",
        "0001-01-01T00:00:00+03:00",
        "9999-12-31T23:59:59-23:59",
        "2025-12-01T12:00:00+24:00",
        "2025-12-01T12:00:00+03:99",
        "٢٠٢٥-١٢-٠١",
        "1.12.25",
        "yesterday",
        "2" * 100,
        -1,
        10**17,
        10**4000,
        Decimal("1E+999999"),
        Decimal(-1),
        True,
        [],
        {},
    ],
)
def test_what_is_no_time_is_named(value):
    """No time is made up from what is none, or lies outside the years 1970 to 9999."""
    assert moscow.instant(value) == NOT_UNDERSTOOD
    assert moscow.day(value) == NOT_UNDERSTOOD


def test_nothing_is_no_time():
    """Null and blank say nothing, and nothing is remarked."""
    for value in (None, "", "  "):
        assert moscow.instant(value) == moscow.day(value) == (None, ())


def test_the_zone_is_the_configured_one():
    """The same local time is another instant in another zone, and summer time counts."""
    berlin = Calendar(ZoneInfo("Europe/Berlin"))
    assert berlin.instant("2025-12-01 12:00:00") == ("2025-12-01T11:00:00.000000Z", ())
    assert berlin.instant("2025-07-01 12:00:00") == ("2025-07-01T10:00:00.000000Z", ())


@given(instants)
def test_every_way_of_writing_an_instant_reads_the_same(moment: datetime):
    """ISO 8601 in UTC or local and, from 1973 on, Unix milliseconds give the instant that was meant."""
    local = moment.astimezone(ZoneInfo("Europe/Moscow"))
    expected = (as_text(moment), ())
    assert moscow.instant(moment.isoformat()) == expected
    assert moscow.instant(local.isoformat().replace("T", " ")) == expected
    whole = moment.replace(microsecond=0)
    milliseconds = int(whole.timestamp()) * 1000
    if milliseconds >= 10**11:
        assert moscow.instant(milliseconds) == (as_text(whole), ())


@given(st.one_of(st.text(), st.integers(), st.decimals(allow_nan=False, allow_infinity=False)))
def test_times_are_text_in_one_form_or_nothing(value):
    """Whatever comes, an instant is 27 characters that end in Z, and a day is ten."""
    instant, _ = moscow.instant(value)
    day, _ = moscow.day(value)
    assert instant is None or (len(instant) == 27 and instant[-1] == "Z" and instant[:4] >= "1970")
    assert day is None or (len(day) == 10 and day[:4] >= "1970")
