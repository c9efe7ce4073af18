from __future__ import annotations

from decimal import Decimal

import pytest

from schema.counts import count, percentage


@pytest.mark.parametrize(
    ("value", "expected", "anomalies"),
    [
        (5, 5, []),
        (0, 0, []),
        (2**63 - 1, 2**63 - 1, []),
        (2**63, None, ["count_not_integer"]),
        (10**4000, None, ["count_not_integer"]),
        (-1, None, ["count_not_integer"]),
        (Decimal("5.0"), 5, []),
        (Decimal("5E+1"), 50, []),
        (Decimal("5.5"), None, ["count_not_integer"]),
        (Decimal("-5.0"), None, ["count_not_integer"]),
        (Decimal("1E+999999"), None, ["count_not_integer"]),
        (Decimal("9223372036854775808.0"), None, ["count_not_integer"]),
        ("5", 5, ["count_as_text"]),
        (" 5 ", 5, ["count_as_text"]),
        ("-5", None, ["count_as_text", "count_not_integer"]),
        ("5%", None, ["count_not_integer"]),
        ("five", None, ["count_not_integer"]),
        ("٥", None, ["count_not_integer"]),
        ("9" * 100, None, ["count_not_integer"]),
        (True, None, ["count_not_integer"]),
        (None, None, ["count_not_integer"]),
        ({"value": 5}, None, ["count_not_integer"]),
        ([5], None, ["count_not_integer"]),
    ],
)
def test_count(value, expected, anomalies):
    """A count is a whole number that SQLite stores; text is read and named; the rest is named and not read."""
    named: list[str] = []
    assert (count(value, named), named) == (expected, anomalies)


@pytest.mark.parametrize(
    ("value", "expected", "anomalies"),
    [
        (100, 100, []),
        (Decimal("99.9"), 99, ["percentage_fraction"]),
        ("99.9 %", 99, ["count_as_text", "percentage_fraction"]),
        ("100%", 100, ["count_as_text"]),
        (Decimal("-0.5"), None, ["count_not_integer"]),
        (None, None, ["count_not_integer"]),
    ],
)
def test_percentage(value, expected, anomalies):
    """A percentage's fraction is rounded down: 99.9 per cent is not yet all."""
    named: list[str] = []
    assert (percentage(value, named), named) == (expected, anomalies)
