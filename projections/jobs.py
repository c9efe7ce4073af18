"""The jobs: one row each, one row for each callback about one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from projections import sims, users
from projections.rows import Row
from projections.sims import Touch
from schema.readings import JobCallback, SimCard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from projections.context import Context
    from projections.read_model import ReadModel
    from projections.reading import Read
    from schema.readings import Status

IMPLIED: dict[str, Status] = {"lock": "blocked", "unlock": "active"}
"""The status that a completed operation leaves a card in, where it leaves one."""

AWAITING_CARDS = 50_000
"""Cards a job's row remembers as waiting for its completion: the row is written with
each callback. A larger job's further cards take a status from what names them later."""


class Job(Row):
    """A row of ``jobs``."""

    job: str
    source: str
    qid: str
    queue: str | None = None
    operation: str | None = None
    handler: str | None = None
    added_at: str | None = None
    user: str | None = None
    company_id: str | None = None
    count: int | None = None
    processed: int | None = None
    percentage: int | None = None
    state: str = "running"
    first_callback_at: str = ""
    last_callback_at: str = ""
    completed_at: str | None = None
    callbacks: int = 0
    late_callbacks: int = 0
    awaiting: str | None = None
    position: int = 0


_Awaited = tuple[str | None, str | None, str | None, str | None]
_read_awaiting = msgspec.json.Decoder(list[_Awaited]).decode


def ask(model: ReadModel, page: Sequence[Read]) -> None:
    """Read the rows that a page of events is about at once: one look-up for all costs less than one for each."""
    model.jobs.ask(
        {f"{event.source}:{event.said.qid}" for event in page if isinstance(event.said, JobCallback)},
    )


def fold(context: Context, callback: JobCallback) -> str:
    """Apply one callback; the job's key.

    Progress never goes backwards: a callback behind the job's is counted and shown
    as late, and overwrites nothing. ``callbacks`` and ``late_callbacks`` count what
    was received, repeats too.
    """
    key = f"{context.source}:{callback.qid}"
    row = context.model.jobs.get(key)
    if row is None:
        row = Job(key, context.source, callback.qid, first_callback_at=context.at)
    if _behind(row, callback):
        context.effect = "late"
        row.late_callbacks += 1
    row.callbacks += 1
    row.last_callback_at = context.at
    row.position = context.position
    user = users.seen(context, callback.user) if callback.user is not None else None
    if not context.repeat:
        _describe(context, row, callback, user)
    # Held before its cards are touched: they refer to it.
    context.model.jobs.put(row)
    if context.effect == "applied":
        _advance(context, row, callback)
    complete = row.state == "done"
    implied = IMPLIED.get(row.operation) if complete and row.operation is not None else None
    by = Touch("job_callback", row.operation, implied, key)
    touched = [sims.touch(context, item, card, by) for item, card in enumerate(callback.sims)]
    if context.effect == "applied":
        if row.awaiting is not None and implied is not None:
            _settle_awaiting(context, row, callback, by, {sim.sim for sim in touched if sim is not None})
        _await(row, callback)
    context.model.job_progress.rows.append(
        (
            context.position,
            key,
            context.source,
            context.at,
            callback.count,
            callback.process,
            callback.percentage,
            int(callback.complete),
            context.effect,
            len(callback.sims),
        ),
    )
    return key


def _behind(row: Job, callback: JobCallback) -> bool:
    if row.processed is not None and callback.process is not None:
        return callback.process < row.processed
    if row.percentage is not None and callback.percentage is not None:
        return callback.percentage < row.percentage
    return row.state == "done" and not callback.complete


def _describe(context: Context, row: Job, callback: JobCallback, user: str | None) -> None:
    overwrite = context.effect == "applied"
    company = callback.user.company_id if callback.user is not None else None
    said = {
        "queue": callback.queue,
        "handler": callback.handler,
        "added_at": callback.added_at,
        "user": user,
        "company_id": company,
    }
    for column, value in said.items():
        if value is not None and (overwrite or getattr(row, column) is None):
            setattr(row, column, value)
    row.operation = context.operation(row.queue)


def _advance(context: Context, row: Job, callback: JobCallback) -> None:
    if callback.count is not None:
        row.count = callback.count
    if callback.process is not None:
        row.processed = callback.process
    if callback.percentage is not None:
        row.percentage = max(row.percentage or 0, callback.percentage)
    if callback.complete and row.state != "done":
        row.state = "done"
        row.completed_at = context.at


def _settle_awaiting(context: Context, row: Job, callback: JobCallback, by: Touch, named: set[str]) -> None:
    """Let what the queue code implies hold for the cards that earlier callbacks listed without a status of their own.

    It holds from the completion, and for every card of the job, whether or not the
    completing callback lists it again; but a status that the job itself gave a card stays.
    """
    awaiting = _read_awaiting(row.awaiting) if row.awaiting is not None else []
    # Numbered on from the callback's own items: they are touched by the same event.
    for item, awaited in enumerate(awaiting, len(callback.sims)):
        iccid, imsi, msisdn, platform_id = awaited
        card = SimCard(iccid, imsi, msisdn, platform_id)
        sim = sims.find(context, card)
        if sim is None or sim.sim not in named:
            touched = sims.touch(context, item, card, by)
            named |= {touched.sim} if touched is not None else set()


def _await(row: Job, callback: JobCallback) -> None:
    """Remember the cards listed without a status of their own until the job is complete."""
    if row.state == "done" or (row.operation is not None and row.operation not in IMPLIED):
        row.awaiting = None
        return
    silent = [card for card in callback.sims if card.status is None or card.status == "unknown"]
    if row.awaiting is None and not silent:
        return
    awaiting = _read_awaiting(row.awaiting) if row.awaiting is not None else []
    listed = {pair for card in callback.sims for pair in enumerate(_identity(card)) if pair[1] is not None}
    awaiting = [other for other in awaiting if listed.isdisjoint(enumerate(other))]
    awaiting += [identity for card in silent if any(identity := _identity(card))]
    row.awaiting = msgspec.json.encode(awaiting[:AWAITING_CARDS]).decode() if awaiting else None


def _identity(card: SimCard) -> _Awaited:
    return card.iccid, card.imsi, card.msisdn, card.platform_id
