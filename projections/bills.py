"""The bills: one row each as it stands, one row for each notice about one."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import msgspec

from projections import changes as change
from projections import workdays
from projections.identity import match
from projections.rows import Row

if TYPE_CHECKING:
    from projections.accounts import Account
    from projections.changes import Changes
    from projections.context import Context
    from schema.readings import Bill, BillNotification

STAGE = {
    "generate_bill": "issued",
    "unpaid_bill_3": "unpaid_3",
    "unpaid_bill_5": "unpaid_5",
    "unpaid_bill_6": "unpaid_6",
}

NEXT_NOTICE = {"issued": ("unpaid_bill_3", 3), "unpaid_3": ("unpaid_bill_5", 5), "unpaid_5": ("unpaid_bill_6", 6)}
"""The notice that follows a stage, and on which working day after the issue (section 2)."""

RANK = {stage: rank for rank, stage in enumerate(STAGE.values())}


OPEN_KOPECKS_MAX = 2**63 - 1
"""What SQLite's integer holds: a sender's absurd sums end there instead of stopping the projection."""


class BillRow(Row):
    """A row of ``bills``."""

    bill: str
    source: str
    bill_id: str | None = None
    number: str | None = None
    issued_on: str | None = None
    amount_kopecks: int | None = None
    amount_raw: str | None = None
    currency: str | None = None
    vat_kopecks: int | None = None
    due_on: str | None = None
    period: str | None = None
    stage: str = "issued"
    stage_at: str = ""
    next_notice: str | None = None
    next_notice_expected_on: str | None = None
    presumed_settled_on: str | None = None
    paid_at: str | None = None
    first_seen_at: str = ""
    position: int = 0


def notice(context: Context, item: int, bill: Bill, kind: BillNotification, account: Account) -> None:
    """Apply one bill of a billing notification, and write its line of history.

    A notice behind the bill's stage is late: it fills in what was not known and
    moves nothing. A bill that can't be identified is in the history only.
    """
    changes: Changes = {}
    stage = STAGE[kind]
    found = match(context.model.bills, context.source, (("bill_id", bill.bill_id), ("number", bill.number)))
    row = found.row
    effect = context.effect
    expected_on = None
    if row is None and not context.repeat:
        row = _made(context, bill)
    if row is not None:
        late = RANK[stage] < RANK[row.stage]
        effect = "late" if late and effect == "applied" else effect
        expected_on = row.next_notice_expected_on if row.next_notice == kind else None
        if not context.repeat:
            for other in found.same:
                _absorb(context, account, row, other)
            _count(account, row, -1)
            _describe(context, row, bill, changes, late=late)
            _rekey(context, row)
            if not late:
                _advance(context, row, bill, kind, changes)
            _expect(context, row)
            row.position = context.position
            _count(account, row, +1)
            context.model.bills.put(row)
            context.model.bills.index(row)
    if effect == "applied":
        _tell_account(context, kind, row)
    context.model.bill_notices.rows.append(
        (
            context.position,
            item,
            None if row is None else row.bill,
            context.source,
            context.at,
            kind,
            None if row is None else row.stage,
            effect,
            bill.amount_kopecks,
            expected_on,
            None if expected_on is None else _delay(context, expected_on),
            None if row is None else row.paid_at,
            None if row is None else row.next_notice_expected_on,
            None if row is None else row.presumed_settled_on,
            change.text(changes),
            msgspec.json.encode(bill.anomalies).decode(),
        ),
    )


def correct(context: Context, key: str, paid_at: str | None, account: Account) -> bool:
    """Set when a bill was paid, or that it was not, as a person says; False if there is no such bill."""
    row = context.model.bills.get(key)
    if row is None:
        return False
    changes: Changes = {}
    _count(account, row, -1)
    if row.paid_at != paid_at:
        changes["paid_at"] = (row.paid_at, paid_at)
    row.paid_at = paid_at
    _expect(context, row)
    row.position = context.position
    _count(account, row, +1)
    if _is_unpaid(row):
        context.unpaid_bill = key
    context.model.bills.put(row)
    context.model.bill_notices.rows.append(
        (
            context.position,
            0,
            key,
            context.source,
            context.at,
            "correction",
            row.stage,
            "applied",
            None,
            None,
            None,
            paid_at,
            row.next_notice_expected_on,
            row.presumed_settled_on,
            change.text(changes),
            "[]",
        ),
    )
    return True


def _tell_account(context: Context, kind: BillNotification, row: BillRow | None) -> None:
    key = None if row is None else row.bill
    if kind == "unpaid_bill_6" and (row is None or row.paid_at is None):
        context.restricting = True
        context.restricting_bill = key
    elif row is not None and _is_unpaid(row):
        context.unpaid_bill = key


def _made(context: Context, bill: Bill) -> BillRow | None:
    if bill.bill_id is None and bill.number is None:
        return None
    row = BillRow("", context.source, bill.bill_id, bill.number, stage_at=context.at, first_seen_at=context.at)
    row.bill = _key(row)
    return row


def _absorb(context: Context, account: Account, row: BillRow, other: BillRow) -> None:
    """Make one bill of two: one was known by its id, the other by its number."""
    _count(account, row, -1)
    _count(account, other, -1)
    if RANK[other.stage] > RANK[row.stage]:
        row.stage, row.stage_at = other.stage, other.stage_at
    for column in BillRow.__struct_fields__:
        if getattr(row, column) is None:
            setattr(row, column, getattr(other, column))
    row.first_seen_at = min(row.first_seen_at, other.first_seen_at)
    _count(account, row, +1)
    context.model.bills.remove(other)
    context.model.bill_attributes.unite(other.bill, row.bill, row.bill, context.position)
    context.rename("bill", other.bill, row.bill)


def _key(row: BillRow) -> str:
    if row.bill_id is None:
        return f"{row.source}:number-{row.number}"
    # An id is the platform's text: one that reads like our own prefixes gets a prefix.
    prefix = "id-" if row.bill_id.startswith(("number-", "id-")) else ""
    return f"{row.source}:{prefix}{row.bill_id}"


def _rekey(context: Context, row: BillRow) -> None:
    key = _key(row)
    if key != row.bill:
        old = row.bill
        context.model.bills.remove(row)
        row.bill = key
        context.model.bill_attributes.unite(old, old, key, context.position)
        context.rename("bill", old, key)


def _describe(context: Context, row: BillRow, bill: Bill, changes: Changes, *, late: bool) -> None:
    put = change.fill if late else change.assign
    for column in ("bill_id", "number"):
        change.fill(row, changes, column, getattr(bill, column))
    for column in ("issued_on", "amount_kopecks", "amount_raw", "currency", "vat_kopecks", "due_on", "period"):
        put(row, changes, column, getattr(bill, column))
    if bill.attributes is not None:
        context.model.bill_attributes.add(row.bill, bill.attributes, context.position, late=late)


def _advance(context: Context, row: BillRow, bill: Bill, kind: BillNotification, changes: Changes) -> None:
    if row.stage != STAGE[kind]:
        change.assign(row, changes, "stage", STAGE[kind])
        row.stage_at = context.at
    if bill.paid is True or (bill.paid is None and bill.paid_at is not None):
        change.assign(row, changes, "paid_at", bill.paid_at or context.at)
    elif row.paid_at is not None and (bill.paid is False or kind != "generate_bill"):
        # The platform says that it is unpaid after all.
        changes["paid_at"] = (row.paid_at, None)
        row.paid_at = None


def _expect(context: Context, row: BillRow) -> None:
    """Estimate the next notice, and the day from which its absence would speak."""
    row.next_notice = row.next_notice_expected_on = row.presumed_settled_on = None
    if row.paid_at is not None or row.stage not in NEXT_NOTICE:
        return
    row.next_notice, working_day = NEXT_NOTICE[row.stage]
    issued = _issued(row.issued_on, row.first_seen_at, context.time_zone)
    expected = workdays.after(issued, working_day, context.working_days)
    if expected is not None and expected < date.max:
        row.next_notice_expected_on = expected.isoformat()
        row.presumed_settled_on = (expected + timedelta(days=1)).isoformat()


@lru_cache(maxsize=8)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _issued(issued_on: str | None, first_seen_at: str, time_zone: str) -> date:
    return _local_day(first_seen_at, time_zone) if issued_on is None else date.fromisoformat(issued_on)


def _delay(context: Context, expected_on: str) -> int | None:
    """Estimate how many working days after the expected one a notice came."""
    received = _local_day(context.at, context.time_zone)
    return workdays.between(date.fromisoformat(expected_on), received, context.working_days)


def _local_day(at: str, time_zone: str) -> date:
    seen = datetime.strptime(at, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    return seen.astimezone(_zone(time_zone)).date()


def _is_unpaid(row: BillRow) -> bool:
    return row.paid_at is None and row.stage != "issued"


def _count(account: Account, row: BillRow, sign: int) -> None:
    # Taken off before a bill changes and put on after: the sums can't drift from the rows.
    if row.position == 0 or row.paid_at is not None:
        return
    account.open_bills += sign
    total = account.open_kopecks + sign * (row.amount_kopecks or 0)
    account.open_kopecks = max(-OPEN_KOPECKS_MAX, min(OPEN_KOPECKS_MAX, total))
    account.unpaid_bills += sign * _is_unpaid(row)
