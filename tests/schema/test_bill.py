from __future__ import annotations

import json

import pytest

from schema.aliases import BILL_ALIASES
from schema.readings import Bill

USABLE = {
    "id": (501, "bill_id", "501"),
    "number": ("M2M-501", "number", "M2M-501"),
    "date": ("01.12.2025", "issued_on", "2025-12-01"),
    "amount": ("12345.67", "amount_kopecks", 1_234_567),
    "currency": ("rub", "currency", "RUB"),
    "vat": (2057.61, "vat_kopecks", 205_761),
    "due": ("2025-12-15", "due_on", "2025-12-15"),
    "period": ("2025-11", "period", "2025-11"),
    "paid": (True, "paid", True),
}


@pytest.mark.parametrize(
    ("field", "alias"), [(field, alias) for field, aliases in BILL_ALIASES.items() for alias in aliases]
)
def test_every_alias_is_read_in_every_spelling(read_bill, field, alias):
    """Each alias of each field fills its column, whatever the case and separators, here or one level down."""
    value, column, expected = USABLE[field]
    for name in (alias, alias.upper(), alias.replace("_", "-"), "_".join(alias), f" {alias} "):
        for bill in (read_bill(**{name: value}), read_bill(bill={name: value}), read_bill(Invoice={name: value})):
            assert getattr(bill, column) == expected
            assert bill.attributes is None


def test_a_bill_of_the_platform(read_bill):
    """A plain object fills its columns, and nothing is remarked."""
    assert read_bill(id=501, number="M2M-501", date="01.12.2025", amount="12345.67", period="2025-11") == Bill(
        bill_id="501",
        number="M2M-501",
        issued_on="2025-12-01",
        amount_kopecks=1_234_567,
        amount_raw="12345.67",
        period="2025-11",
    )


@pytest.mark.parametrize(
    "number", ["40702810900000000001", "40702 810 9 0000 0000001", 40702810900000000001, "4070281090000000000112"]
)
def test_a_bank_account_is_no_bills_number(read_bill, number):
    """20 or 22 digits are never a bill's number; the next alias counts."""
    bill = read_bill(number=number, account_number="M2M-501")
    assert (bill.number, bill.anomalies) == ("M2M-501", ("number_is_bank_account",))
    assert bill.attributes is not None
    assert json.loads(bill.attributes) == {"number": number}


def test_a_raw_amount_is_kept(read_bill):
    """What is no amount is kept as it came, unless another alias says the amount."""
    bill = read_bill(id=1, amount="much")
    assert (bill.amount_kopecks, bill.amount_raw, bill.attributes) == (None, "much", None)
    assert bill.anomalies == ("amount_not_understood",)
    bill = read_bill(id=1, amount="much", total="5")
    assert (bill.amount_kopecks, bill.amount_raw, bill.attributes) == (500, "5", '{"amount":"much"}')
    bill = read_bill(id=1, amount={"value": "5", "currency": "RUB"})
    assert (bill.amount_kopecks, bill.amount_raw, bill.currency) == (500, '{"value":"5","currency":"RUB"}', "RUB")
    assert bill.attributes is None


def test_kopecks_are_told_by_the_fields_name(read_bill):
    """An amount in kopecks counts where there is none in rubles."""
    assert read_bill(id=1, amount_kopecks=1234567).amount_kopecks == 1_234_567
    assert read_bill(id=1, amount="1", amountKop=5).amount_kopecks == 100


def test_another_currency_is_not_kopecks(read_bill):
    """An amount in dollars is kept as it came, with its currency, wherever that is said."""
    for fields in ({"amount": {"value": 5, "currency": "usd"}}, {"amount": 5, "currency": "USD", "vat": 1}):
        bill = read_bill(id=1, **fields)
        assert (bill.amount_kopecks, bill.vat_kopecks, bill.currency) == (None, None, "USD")
        assert bill.amount_raw is not None
        assert bill.anomalies == ("currency_not_rubles",)


@pytest.mark.parametrize(
    ("fields", "paid", "paid_at"),
    [
        ({"paid": True}, True, None),
        ({"paid": False}, False, None),
        ({"is_paid": 1}, True, None),
        ({"is_paid": "0"}, False, None),
        ({"paymentStatus": "Оплачен"}, True, None),
        ({"paymentStatus": "Не оплачен"}, False, None),
        ({"paymentStatus": "not_paid"}, False, None),
        ({"paid_at": "2025-12-02T10:00:00+03:00"}, True, "2025-12-02T07:00:00.000000Z"),
        ({"paid": True, "date_payed": "02.12.2025"}, True, "2025-12-01T21:00:00.000000Z"),
        ({"paid_at": 1764579600}, True, "2025-12-01T09:00:00.000000Z"),
        ({"paid_at": 0}, False, None),
        ({"paid_at": None}, None, None),
        ({"paid_at": "0000-00-00 00:00:00"}, None, None),
        ({"paid": 5000}, None, None),
        ({"paid": "perhaps"}, None, None),
        ({"paid": 1234.5}, None, None),
        ({}, None, None),
    ],
)
def test_paid(read_bill, fields, paid, paid_at):
    """A bill is paid only where a field says so plainly; a time of payment says it too."""
    bill = read_bill(id=1, **fields)
    assert (bill.paid, bill.paid_at) == (paid, paid_at)
    remarked = {"flag_not_boolean", "paid_not_understood"} & set(bill.anomalies)
    assert ("paid_not_understood" in remarked) == (paid is None and any(fields.values()))


def test_a_contradicted_payment_is_named(read_bill):
    """An unpaid bill with a time of payment stays unpaid, and says so."""
    bill = read_bill(id=1, paid=False, paid_at="2025-12-02")
    assert (bill.paid, bill.paid_at, bill.anomalies) == (False, None, ("paid_contradicted",))


def test_an_unidentified_bill_is_kept(decoder, read_bill):
    """Without id and number, or as no object at all, it is a bill of its own."""
    assert read_bill(amount=1).anomalies == ("bill_unidentified",)
    reading = decoder.decode(b'{"type":"generate_bill","items":["M2M-501",[{"pin":"1234"}]]}')
    assert [bill.attributes for bill in reading.bills] == ['{"item":"M2M-501"}', '{"item":[{"pin":"(withheld)"}]}']
    assert reading.anomalies == ("bill_unidentified", "item_not_object")


def test_a_secret_among_aliases_of_two_fields_is_withheld(decoder):
    """A bill whose keys mean several things is as free of secrets as any."""
    reading = decoder.decode(
        b'{"type":"generate_bill","items":[{"paid":true,"id":1,"pin":"1234"},{"paid":true,"pin":"1234"}]}'
    )
    assert "1234" not in reading.body
    assert [bill.attributes for bill in reading.bills] == [None, None]
