"""The accounts: one row for each source, and one for each change of its state.

An account is ``good``; ``unpaid`` while a bill has had an unpaid notice and is not
paid; ``restricted`` from ``unpaid_bill_6``. It stays restricted until there is
evidence that it is not: a SIM card of it reported active.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from projections.rows import Row

if TYPE_CHECKING:
    from projections.context import Context


class Account(Row):
    """A row of ``accounts``."""

    source: str
    state: str = "good"
    state_since: str = ""
    bill: str | None = None
    open_bills: int = 0
    open_kopecks: int = 0
    unpaid_bills: int = 0
    first_seen_at: str = ""
    last_seen_at: str = ""
    position: int = 0


def opened(context: Context) -> Account:
    """The row of the event's source, made with its first delivery."""
    row = context.model.accounts.get(context.source)
    if row is None:
        row = Account(context.source, state_since=context.at, first_seen_at=context.at)
    context.unpaid_before = row.unpaid_bills
    row.last_seen_at = context.at
    row.position = context.position
    context.model.accounts.put(row)
    return row


def settle(context: Context, row: Account) -> None:
    """Bring the account's state up to what the event told, and note a change of it."""
    unpaid = "unpaid" if row.unpaid_bills else "good"
    if context.restricting:
        state, reason, bill, sim = "restricted", "unpaid_bill_6", context.restricting_bill, None
    elif row.state == "restricted" and context.active_seen is None:
        return
    elif row.state == "restricted":
        state, reason, bill, sim = unpaid, "a SIM card is active", None, context.active_seen
    elif row.unpaid_bills == context.unpaid_before:
        return
    else:
        bill = context.unpaid_bill if unpaid == "unpaid" else None
        state, reason, sim = unpaid, "unpaid notice" if unpaid == "unpaid" else "bills paid", None
    if state != row.state:
        _change(context, row, state, reason, bill, sim)


def correct(context: Context, row: Account, state: str) -> bool:
    """Set the state that a person says the account is in."""
    if state != row.state:
        _change(context, row, state, "correction", None, None)
    return True


def _change(  # noqa: PLR0913, PLR0917 - the columns of a row
    context: Context, row: Account, state: str, reason: str, bill: str | None, sim: str | None
) -> None:
    context.model.account_events.rows.append(
        (context.position, row.source, context.at, state, row.state, reason, bill, sim),
    )
    row.state, row.state_since, row.bill = state, context.at, bill
