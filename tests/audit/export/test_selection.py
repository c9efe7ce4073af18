from __future__ import annotations

import pytest

from audit.selection import EVENTS, PARTS, PERSONAL, moment, select
from schema.errors import ConfigurationError
from schema.tables import BY_NAME

ALL = frozenset(PARTS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-05-01", "2026-05-01T00:00:00.000000Z"),
        (" 2026-05-01 ", "2026-05-01T00:00:00.000000Z"),
        ("2026-05-01T09:00:00Z", "2026-05-01T09:00:00.000000Z"),
        ("2026-05-01t09:00:00.5z", "2026-05-01T09:00:00.500000Z"),
        ("2026-05-01 12:00:00.123456+03:00", "2026-05-01T09:00:00.123456Z"),
        ("2026-05-01T00:00:00-00:00", "2026-05-01T00:00:00.000000Z"),
    ],
)
def test_a_moment_is_a_date_or_a_time_with_its_zone(text: str, expected: str) -> None:
    """A date means its midnight in UTC, and a time of any zone the same instant in UTC."""
    assert moment(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-02-30",
        "20260501",
        "2026-W18-5",
        "2026-05-01T09:00Z",
        "2026-05-01T09:00:00",
        "2026-05-01T24:00:01Z",
        "2026-05-01T09:00:00.1234567Z",
        "0001-01-01T00:00:00+03:00",
        "2026-05-01; DROP TABLE",
        "\u0662026-05-01",
    ],
)
def test_anything_else_is_no_moment(text: str) -> None:
    """What could mean several moments, or none, is refused with examples of what can be written."""
    with pytest.raises(ConfigurationError, match="2026-05-01T09:00:00Z"):
        moment(text)


def test_all_that_is_allowed_is_taken_unless_named() -> None:
    """Without names a selection takes every part that whoever asks may have, in the order of the tables."""
    assert select(None, allowed=ALL).parts == PARTS == (*BY_NAME, EVENTS)
    assert set(select(None, allowed=ALL - PERSONAL).parts) == ALL - PERSONAL
    assert select(["sims", "accounts"], allowed=ALL).parts == ("accounts", "sims")


@pytest.mark.parametrize("name", ["sim", "SIMS", "sqlite_master", "sims; DROP TABLE sims", "users"])
def test_another_name_is_refused_with_those_that_can_be_chosen(name: str) -> None:
    """A name that is unknown or not allowed is refused, and the message lists exactly what is allowed."""
    with pytest.raises(ConfigurationError) as refused:
        select(["sims", name], allowed=ALL - PERSONAL)

    assert f"{name} can't be exported" in str(refused.value)
    assert str(refused.value).endswith(", ".join(part for part in PARTS if part not in PERSONAL))


def test_a_range_that_holds_no_moment_is_refused() -> None:
    """A range whose end isn't behind its beginning is a mistake, not an empty export."""
    early, late = moment("2026-05-01"), moment("2026-05-02")
    select(None, allowed=ALL, since=early, until=late)
    for since, until in ((late, early), (early, early)):
        with pytest.raises(ConfigurationError, match="later"):
            select(None, allowed=ALL, since=since, until=until)


def test_nothing_can_not_be_exported() -> None:
    """A selection of no part is a mistake."""
    with pytest.raises(ConfigurationError, match="nothing"):
        select([], allowed=ALL)
