"""Money: exact whole kopecks, never a binary floating-point number."""

# ruff: noqa: RUF001 - Russian words are meant.

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from schema.aliases import folded
from schema.fields import Alias, Weak
from schema.texts import Text, label, rendered, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from schema.fields import Found, Reader
    from schema.readings import Json

INTEGER_MAX: Final = 2**63 - 1
"""The largest whole number that SQLite stores exactly."""

AMOUNT_CHARACTERS: Final = 64
"""Characters of a text that can be an amount: beyond it no sum of money is meant."""

RUBLE: Final = "RUB"

KOPECK_SUFFIXES: Final = (
    "kopecks",
    "kopeck",
    "inkopecks",
    "kopeks",
    "kopeek",
    "kop",
    "копейках",
    "вкопейках",
    "копеек",
    "коп",
)
"""Folded ends of a field's name that say its amount is in kopecks."""

_RUBLE_NAMES: Final = frozenset({"rub", "rur", "643", "810", "₽", "р", "руб", "рубль", "рубли", "рублей"})
_VALUES: Final = ("value", "amount", "sum")
_CURRENCIES: Final = ("currency", "currencycode", "code", "unit")

# Two digits after the point of an amount that SQLite can store need 19 digits at most.
_EXACT: Final = Context(prec=40, rounding=ROUND_HALF_UP, traps=[])
_MAGNITUDE: Final = 18
_KOPECK: Final = Decimal("0.01")
_WHOLE: Final = Decimal(1)

_SPACES: Final = str.maketrans({"\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u2212": "-"})
_GROUPS: Final = str.maketrans("", "", " .,")
_RUBLES: Final = re.compile(
    r"(?:rub|rur|₽) ?(?P<front>.+)|(?P<back>.+?) ?(?:руб(?:\.|лей|ля|ль)?|р\.?|₽|rub\.?|rur\.?)"
)
_KOPECKS: Final = re.compile(r"(.+?) ?(?:коп(?:\.|еек|ейки|ейка)?|kop\.?|kopecks?)")
# "12345,67", "12 345,67", "12,345.67" and "12.345,67"; a lone "12,345" could mean either and is refused.
_NUMBER: Final = re.compile(
    r"(?P<sign>[+-]?) ?(?:"
    r"(?P<whole>[0-9]+|[0-9]{1,3}(?: [0-9]{3})+)(?:(?:\.(?P<point>[0-9]+))|,(?P<comma>[0-9]{1,2}|[0-9]{4,}))?"
    r"|(?P<english>[0-9]{1,3}(?:,[0-9]{3})+)\.(?P<cents>[0-9]+)"
    r"|(?P<german>[0-9]{1,3}(?:\.[0-9]{3})+),(?P<pfennigs>[0-9]+)"
    r")"
)

_PLAIN: Final = re.compile(r"-?[0-9]{1,12}\.[0-9]{2}")
"""Rubles and kopecks as most are written: read without a detour, and to the same."""


class Amount(NamedTuple):
    """An amount as read: ``kopecks`` is None where it can't be told, ``raw`` is the sender's own text."""

    kopecks: int | None
    raw: str | None
    currency: str | None


Money: TypeAlias = tuple[Amount | Weak | None, tuple[str, ...]]


def rubles(value: Json) -> Money:
    """An amount in rubles, unless it says otherwise itself: a number, a text, or ``{value, currency}``."""
    return _amount(value, _KOPECK)


def kopecks(value: Json) -> Money:
    """An amount of a field whose name says kopecks."""
    return _amount(value, _WHOLE)


def _amount(value: Json, unit: Decimal) -> Money:
    if value is None or value == "":
        return None, ()
    if type(value) is str and unit is _KOPECK and _PLAIN.fullmatch(value):
        return Amount(int(value.replace(".", "")), value, None), ()
    raw, flaws = shown(rendered(value)) if isinstance(value, Decimal | list | dict) else label(value)
    code: str | None = None
    inner: Json = value
    if isinstance(value, dict):
        fields = {folded(key): entry for key, entry in value.items()}
        inner = next((fields[name] for name in _VALUES if fields.get(name) is not None), None)
        said = next((fields[name] for name in _CURRENCIES if fields.get(name) is not None), None)
        code, _ = currency(said)
    if code not in {None, RUBLE}:
        return Weak(Amount(None, raw, code)), (*flaws, "currency_not_rubles")
    number: Decimal | None = None
    if isinstance(inner, str):
        number, unit, code = _number(inner, unit, code)
    elif isinstance(inner, int) and not isinstance(inner, bool):
        number = Decimal(inner) if abs(inner) <= INTEGER_MAX else None
    elif isinstance(inner, Decimal):
        number = inner
    exact = _kopecks(number, unit) if number is not None else None
    if exact is None:
        return Weak(Amount(None, raw, code)), (*flaws, "amount_not_understood")
    whole, rounded = exact
    return Amount(whole, raw, code), ((*flaws, "amount_fraction") if rounded else flaws)


def _kopecks(number: Decimal, unit: Decimal) -> tuple[int, bool] | None:
    """Whole kopecks, rounded half away from zero as Russian accounts are, and whether that changed the amount."""
    if not number:
        return 0, False
    if number.adjusted() > _MAGNITUDE:
        return None
    rounded = _EXACT.quantize(number, unit)
    whole = int(_EXACT.divide(rounded, unit))
    return (whole, rounded != number) if abs(whole) <= INTEGER_MAX else None


def _number(text: str, unit: Decimal, code: str | None) -> tuple[Decimal | None, Decimal, str | None]:
    if len(text) > AMOUNT_CHARACTERS:
        return None, unit, code
    text = text.translate(_SPACES).strip().casefold()
    if in_kopecks := _KOPECKS.fullmatch(text):
        text, unit, code = in_kopecks[1], _WHOLE, RUBLE
    elif in_rubles := _RUBLES.fullmatch(text):
        text, unit, code = in_rubles["front"] or in_rubles["back"], _KOPECK, RUBLE
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None, unit, code
    whole = (match["whole"] or match["english"] or match["german"]).translate(_GROUPS)
    fraction = match["point"] or match["comma"] or match["cents"] or match["pfennigs"] or "0"
    return Decimal(f"{match['sign']}{whole}.{fraction}"), unit, code


def currency(value: Json) -> Text:
    """A currency's code: ``RUB`` for the ruble under any of its names, else the sender's own in capitals."""
    text, flaws = label(value)
    if text is None:
        return None, flaws
    if text.casefold().rstrip(".") in _RUBLE_NAMES:
        return RUBLE, flaws
    # In capitals a text may be longer, as ß is.
    capitals, more = shown(text.upper())
    return capitals, (*flaws, *more)


def aliases(
    names: Sequence[str], slot: int, reader: Callable[[Callable[[Json], Money]], Reader], *, whole: bool = False
) -> Iterator[Alias]:
    """The aliases of a field of money: each as it is, and with an end that says kopecks.

    ``reader`` makes of a reader of money one of what the slot holds.
    """
    in_rubles, in_kopecks = reader(rubles), reader(kopecks)
    for name in names:
        yield Alias(name, slot, in_rubles, whole)
        for suffix in KOPECK_SUFFIXES:
            yield Alias(name + suffix, slot, in_kopecks, whole)


def alone(read: Callable[[Json], Money]) -> Reader:
    """A reader of money of which only the kopecks count."""

    def reader(value: Json) -> Found:
        found, flaws = read(value)
        return (found.kopecks if isinstance(found, Amount) else None), flaws

    return reader


def entire(read: Callable[[Json], Money]) -> Reader:
    """A reader of money with all that it says of itself, an `Amount`."""
    return read
