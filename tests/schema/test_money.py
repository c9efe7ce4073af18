from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.fields import Weak
from schema.money import INTEGER_MAX, Amount, currency, kopecks, rubles


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (120, 12_000),
        (-15, -1_500),
        (0, 0),
        (Decimal("12345.67"), 1_234_567),
        (Decimal("1E+3"), 100_000),
        (Decimal("-0.0"), 0),
        ("12345.67", 1_234_567),
        ("12345,67", 1_234_567),
        ("12 345,67", 1_234_567),
        ("12\u00a0345,67", 1_234_567),
        ("12\u202f345,67 ₽", 1_234_567),
        ("12345.67 руб.", 1_234_567),
        ("12345.67 руб", 1_234_567),
        ("12345.67 рублей", 1_234_567),
        ("12345.67р.", 1_234_567),
        ("12345.67 RUB", 1_234_567),
        ("RUB 12345.67", 1_234_567),
        ("12,345.67", 1_234_567),
        ("12.345,67", 1_234_567),
        ("-15.20", -1_520),
        ("\u221215,20", -1_520),
        ("+7", 700),
        ("1234567 коп.", 1_234_567),
        ("1234567 kop", 1_234_567),
        ("12345.6700", 1_234_567),
        ({"value": "12345.67", "currency": "RUB"}, 1_234_567),
        ({"value": 12345, "currency": "руб."}, 1_234_500),
        ({"Amount": Decimal("12345.67"), "currency_code": 643}, 1_234_567),
        (INTEGER_MAX // 100, INTEGER_MAX // 100 * 100),
    ],
)
def test_an_amount_in_rubles_is_exact_kopecks(value, expected):
    """However rubles are written, they come to the same whole kopecks, and nothing is remarked."""
    found, flaws = rubles(value)
    assert isinstance(found, Amount)
    assert (found.kopecks, flaws) == (expected, ())


@pytest.mark.parametrize(
    ("value", "expected"),
    [("0.005", 1), ("0.004", 0), ("-0.005", -1), ("1.015", 102), (Decimal("12.3449"), 1_234), (Decimal("1E-2000"), 0)],
)
def test_fractions_of_a_kopeck_are_rounded_half_away_from_zero(value, expected):
    """A fraction of a kopeck is rounded as Russian accounts round it, and named."""
    found, flaws = rubles(value)
    assert isinstance(found, Amount)
    assert (found.kopecks, flaws) == (expected, ("amount_fraction",))


@pytest.mark.parametrize(
    "value",
    [
        "12,345",
        "1 2",
        "1e3",
        "١٢",
        "twelve",
        "1.2.3",
        "руб.",
        "9" * 65,
        "92233720368547758.08",
        True,
        [],
        [1],
        {},
        {"value": None},
        {"value": {"value": 1}},
        10**18,
        10**4000,
        Decimal("1E+999999"),
        Decimal("9" * 5000 + ".5"),
    ],
)
def test_what_is_no_amount_that_can_be_stored_is_named(value):
    """No kopecks are made up: the raw value is kept, should no other field say the amount."""
    found, flaws = rubles(value)
    assert isinstance(found, Weak)
    assert isinstance(found.value, Amount)
    assert found.value.kopecks is None
    assert "amount_not_understood" in flaws


@pytest.mark.parametrize("value", [{"value": 5, "currency": "USD"}, {"sum": "5", "unit": "eur"}])
def test_an_amount_in_another_currency_is_not_kopecks(value):
    """Dollars are not read as rubles."""
    found, flaws = rubles(value)
    assert isinstance(found, Weak)
    assert isinstance(found.value, Amount)
    assert found.value.kopecks is None
    assert found.value.currency in {"USD", "EUR"}
    assert flaws == ("currency_not_rubles",)


def test_a_field_that_says_kopecks_holds_kopecks():
    """Of such a field a number is kopecks, unless its text says rubles itself."""
    assert kopecks(1234567)[0] == Amount(1_234_567, "1234567", None)
    assert kopecks("12 руб.")[0] == Amount(1_200, "12 руб.", "RUB")
    assert kopecks(Decimal("0.5"))[0] == Amount(1, "0.5", None)


def test_nothing_is_no_amount():
    """Null and an empty text say nothing, and nothing is remarked."""
    assert rubles(None) == rubles("") == (None, ())


def test_the_ruble_has_one_code():
    """The names of the ruble come to RUB; another currency keeps its own code."""
    assert {currency(name)[0] for name in ("RUB", "rur", "руб.", "₽", 643, "810")} == {"RUB"}
    assert currency("usd") == ("USD", ())
    assert currency(None) == (None, ())
    assert currency("ß" * 512) == ("S" * 511 + "…", ("text_cut",))


@given(st.from_regex(r"-?[0-9]{1,13}\.[0-9]{1,3}", fullmatch=True))
def test_a_plain_amount_is_read_as_any_other(text: str):
    """Rubles and kopecks as most are written take a shorter way, to the same: a space in front takes the longer one."""
    (short, flaws), (long, same) = rubles(text), rubles(f" {text}")
    assert (getattr(short, "kopecks", None), flaws) == (getattr(long, "kopecks", None), same)


@given(st.integers(-(10**14), 10**14))
def test_kopecks_survive_every_way_of_writing_them(amount: int):
    """A sum written out with point, comma, groups or as a JSON number reads as the same kopecks."""
    sign, whole, cents = "-" if amount < 0 else "", abs(amount) // 100, abs(amount) % 100
    written = (
        f"{sign}{whole}.{cents:02}",
        f"{sign}{whole},{cents:02} руб.",
        f"{sign}{whole:,}.{cents:02}",
        f"{sign}{whole:,}".replace(",", " ") + f",{cents:02}",
        f"{sign}{whole:,}".replace(",", ".") + f",{cents:02}",
        Decimal(amount).scaleb(-2),
    )
    for value in written:
        found, flaws = rubles(value)
        assert isinstance(found, Amount), value
        assert (found.kopecks, flaws) == (amount, ())


@given(st.one_of(st.text(), st.decimals(allow_nan=False, allow_infinity=False), st.integers()))
def test_kopecks_always_fit_a_column(value):
    """Whatever comes, kopecks are None or fit 64 bits."""
    found, _ = rubles(value)
    if isinstance(found, Amount):
        assert found.kopecks is not None
        assert abs(found.kopecks) <= INTEGER_MAX
