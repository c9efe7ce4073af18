"""The corrections: what persons said, applied to the rows they named, and one row for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from projections import accounts, bills, files, sims
from schema import correction as corrections
from schema.event import CORRECTION

if TYPE_CHECKING:
    from collections.abc import Iterable

    from projections.accounts import Account
    from projections.context import Context
    from schema.correction import Correction
    from schema.event import Event


def voided(events: Iterable[Event]) -> dict[int, int]:
    """The positions that corrections make void, each with the correction's own.

    ``events`` are all corrections up to the position that is asked about. A later one
    may void an earlier one, and what that voided then counts again: so the last word
    is settled first.
    """
    void: dict[int, int] = {}
    for event in reversed(list(events)):
        correction = corrections.decode(event.delivery.body)
        if correction.subject == "void" and event.position not in void and int(correction.key) < event.position:
            void[int(correction.key)] = event.position
    return void


def is_void(event: Event) -> bool:
    """Whether an event makes another void, so that what it means is told by folding anew."""
    return event.topic == CORRECTION and corrections.decode(event.delivery.body).subject == "void"


def fold(context: Context, correction: Correction, account: Account | None) -> None:
    """Apply one correction. One that names nothing that is there is kept, shown, and without effect."""
    effect = "applied" if _apply(context, correction, account) else "nothing to correct"
    evidence = None
    if correction.evidence is not None:
        evidence = files.keep_content(context, correction.evidence.name, None, correction.evidence.content)
    context.model.corrections.rows.append(
        (
            context.position,
            context.at,
            correction.subject,
            correction.key,
            correction.value,
            correction.by,
            correction.why,
            evidence,
            effect,
        ),
    )


def _apply(context: Context, correction: Correction, account: Account | None) -> bool:
    match correction.subject:
        case "bill" if account is not None:
            return bills.correct(context, correction.key, correction.value, account)
        case "sim":
            return sims.correct(context, correction.key, correction.value or "unknown")
        case "same_sim":
            return sims.unite(context, correction.key, correction.value or "")
        case "account" if account is not None:
            return accounts.correct(context, account, correction.value or account.state)
        case "void":
            # What is void was left out of this very fold: see `voided`.
            return int(correction.key) < context.position
        case _:
            return False
