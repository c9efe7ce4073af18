"""The aliases: under which names a platform may send the fields we know.

None is confirmed for this platform, hence the tables are only the start of the
effective ones: a configuration adds to them (`schema.configuration`).
"""

from __future__ import annotations

from typing import Final

SIM_ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "id": ("id", "sim_id", "simId", "sid"),
    "iccid": ("iccid", "icc", "iccid_with_luhn", "sim_iccid", "sim"),
    "msisdn": ("msisdn", "phone", "phoneNumber", "phone_number", "number", "ctn", "sim"),
    "imsi": ("imsi", "current_imsi"),
    "imei": ("imei", "current_imei"),
    "status": ("status", "state", "imsiState", "activated", "enabled", "blocked", "locked"),
    "balance": ("balance", "lkBalance"),
    "groups": ("groups", "group", "groupId", "group_id", "sim_card_group_id"),
    "tariff": ("tariff", "rate", "plan", "rate_plan"),
    "operator": ("operator", "operatorName"),
}
"""A SIM card's fields and their aliases, the first to give a usable value wins."""

BILL_ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "id": ("id", "bill_id", "billId"),
    "number": ("number", "bill_number", "invoiceNumber", "account_number"),
    "date": ("date", "bill_date", "date_bill", "invoiceDate", "created_at", "added"),
    "amount": ("amount", "sum", "price", "total", "totalAmount", "pay_amount"),
    "currency": ("currency",),
    "vat": ("vat", "nds", "tax_value", "taxAmount"),
    "due": ("dueDate", "due_date", "date_pay_before", "pay_before"),
    "period": ("period", "month"),
    "paid": ("paid", "is_paid", "payed", "paid_at", "date_payed", "paymentStatus"),
}
"""A bill's fields and their aliases, the first to give a usable value wins."""

CONTAINERS: Final = frozenset({"data", "sim", "simcard", "card", "bill", "invoice"})
"""Folded names under which an object's fields may stand one level down."""

_SEPARATORS: Final = str.maketrans("", "", "_- ")


def folded(name: str) -> str:
    """A name as names are compared: without case, ``_``, ``-`` and spaces."""
    return name.casefold().translate(_SEPARATORS)
