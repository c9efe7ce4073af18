"""Folding: one event and its reading become rows.

A projection is a function of the log: what is written depends on the events and
the configuration alone, in order; never on the clock, on batches or on crashes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from projections import accounts, bills, deliveries, files, jobs, sims
from projections import corrections as correct
from projections.context import Context
from projections.sims import Touch
from schema.correction import Correction
from schema.readings import JobCallback, Notification, Unreadable, Unrecognised

if TYPE_CHECKING:
    from collections.abc import Sequence

    from projections.read_model import ReadModel
    from projections.reading import Read, Said


def fold(model: ReadModel, page: Sequence[Read]) -> None:
    """Bring the read model, in memory, from before a page of events to after it."""
    model.first_deliveries.ask(event.sha256 for event in page)
    jobs.ask(model, page)
    sims.ask(model, page)
    for event in page:
        _fold(model, event)


def _fold(model: ReadModel, event: Read) -> None:
    configuration = model.configuration
    said = event.said
    counts = event.position not in model.voided
    repeat = None
    if counts and not isinstance(said, Correction):
        repeat = deliveries.repeat_of(model, event, configuration.redelivery_window_s)
    context = Context(
        model,
        event.position,
        event.received_at,
        event.source,
        repeat,
        "applied" if repeat is None else "repeat",
        model.operation,
        configuration.time_zone,
        configuration.working_days,
    )
    account = accounts.opened(context)
    job = _apply(context, said, account) if counts else None
    deliveries.record(context, event, job)
    if repeat is None:
        accounts.settle(context, account)


def _apply(context: Context, reading: Said, account: accounts.Account) -> str | None:
    """Apply what an event says; the key of the job that it is about, if it is about one."""
    match reading:
        case JobCallback():
            return jobs.fold(context, reading)
        case Notification():
            _notification(context, reading, account)
        case Unrecognised():
            files.keep(context, reading.files)
        case Correction():
            correct.fold(context, reading, account)
        case Unreadable():
            pass
    return None


def _notification(context: Context, reading: Notification, account: accounts.Account) -> None:
    files.keep(context, reading.files)
    if reading.type == "msu_lock" or reading.type == "package_empty":  # noqa: PLR1714 - narrows the type
        for item, card in enumerate(reading.sims):
            sims.touch(context, item, card, Touch(reading.type))
        return
    if reading.type == "unpaid_bill_6" and context.repeat is None:
        # The notice restricts the account even where it names no bill that can be read.
        context.restricting = not reading.bills
    for item, bill in enumerate(reading.bills):
        bills.notice(context, item, bill, reading.type, account)
