"""The reader of «Bill» objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schema import money
from schema.fields import Alias, Fields
from schema.readings import Bill
from schema.status import word, yes_or_no
from schema.texts import identity, json_object, label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from schema.configuration import Configuration
    from schema.fields import Found
    from schema.instants import Calendar
    from schema.readings import Json

ID, NUMBER, DATE, AMOUNT, CURRENCY, VAT, DUE, PERIOD, PAID, PAID_AT = range(10)

ACCOUNT_DIGITS: Final = (20, 22)
"""Digits of a Russian bank account, alone and with its check digits: never a bill's number."""

UNIX_TIME_FROM: Final = 10**8
"""From here on (March 1973) a number under an alias of ``paid`` is the time of payment."""

_PAID: Final = frozenset(map(word, ("paid", "payed", "success", "succeeded", "оплачен", "оплачено", "оплачена")))
_UNPAID: Final = frozenset(
    map(
        word,
        ("unpaid", "not paid", "overdue", "partially paid", "не оплачен", "не оплачено", "не оплачена", "просрочен"),
    )
)

_ITEM: Final = "item"
"""The attribute that holds an element of the items which is no object."""

_bill: Callable[..., Bill] = Bill
"""`Bill` by position: its slots are filled by readers whose types a table can't tell."""


class BillReader:
    """Reads «Bill» objects by a configuration's aliases. One thread."""

    def __init__(self, configuration: Configuration, calendar: Calendar) -> None:
        self._fields = Fields(10, _aliases(configuration, calendar))

    def read(self, item: Json) -> Bill:
        """The bill in an element of the items, whatever that is."""
        slots, left, _, anomalies = self._fields.read(item if type(item) is dict else {})
        if type(item) is not dict:
            left = {_ITEM: item}
            anomalies += ("item_not_object",)
        bill_id, number, issued_on, amount, currency, vat, due_on, period, paid, paid_at = slots
        kopecks: int | None = None
        raw: str | None = None
        if isinstance(amount, money.Amount):
            kopecks, raw = amount.kopecks, amount.raw
            currency = amount.currency or currency
        if currency is not None and currency != money.RUBLE:
            kopecks = vat = None
            anomalies += ("currency_not_rubles",)
        if paid is False and paid_at is not None:
            anomalies += ("paid_contradicted",)
        if bill_id is None and number is None:
            anomalies += ("bill_unidentified",)
        attributes: str | None = None
        if left:
            attributes, flaws = json_object(left)
            anomalies += flaws
        return _bill(
            bill_id,
            number,
            issued_on,
            kopecks,
            raw,
            currency,
            vat,
            due_on,
            period,
            paid,
            paid_at if paid is True else None,
            attributes,
            tuple(sorted(set(anomalies))) if anomalies else (),
        )


def _aliases(configuration: Configuration, calendar: Calendar) -> Iterator[Alias]:
    table = configuration.bill_aliases
    simple = (
        ("id", ID, identity),
        ("number", NUMBER, bill_number),
        ("date", DATE, calendar.day),
        ("currency", CURRENCY, money.currency),
        ("due", DUE, calendar.day),
        ("period", PERIOD, label),
        ("paid", PAID, _paid(calendar)),
        ("paid", PAID_AT, _paid_at(calendar)),
    )
    for field, slot, read in simple:
        for name in table[field]:
            yield Alias(name, slot, read)
    yield from money.aliases(table["amount"], AMOUNT, money.entire, whole=True)
    yield from money.aliases(table["vat"], VAT, money.alone)


def bill_number(value: Json) -> Found:
    """A bill's number: an id, but never the 20 or 22 digits of a bank account."""
    number, flaws = identity(value)
    if number is not None:
        digits = number.replace(" ", "")
        if digits.isdigit() and len(digits) in ACCOUNT_DIGITS:
            return None, ("number_is_bank_account",)
    return number, flaws


def _paid(calendar: Calendar) -> Callable[[Json], Found]:
    paid_at = _paid_at(calendar)

    def read(value: Json) -> Found:
        if value is None or value == "":
            return None, ()
        flag, flaws = yes_or_no(value)
        if flag is not None:
            return flag, flaws
        if isinstance(value, str) and word(value) in _PAID:
            return True, ()
        if isinstance(value, str) and word(value) in _UNPAID:
            return False, ()
        return (True, ()) if paid_at(value)[0] else (None, ("paid_not_understood",))

    return read


def _paid_at(calendar: Calendar) -> Callable[[Json], Found]:
    def read(value: Json) -> Found:
        if isinstance(value, str) or (isinstance(value, int) and value >= UNIX_TIME_FROM):
            return calendar.instant(value)[0], ()
        return None, ()

    return read
