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
from schema import correction as corrections
from schema.correction import Correction
from schema.event import CORRECTION
from schema.readings import JobCallback, Notification, Unreadable, Unrecognised

if TYPE_CHECKING:
    from collections.abc import Sequence

    from projections.read_model import ReadModel
    from schema.decode import Decoder
    from schema.event import Event
    from schema.readings import Reading


def read(event: Event, decoder: Decoder) -> Reading | Correction:
    """What an event says: total for a delivery; for a correction, which is ours, `LogError` if it is damaged."""
    if event.topic == CORRECTION:
        return corrections.decode(event.delivery.body)
    return decoder.decode(event.delivery.body)


def fold(model: ReadModel, decoder: Decoder, page: Sequence[Event]) -> None:
    """Bring the read model, in memory, from before a page of events to after it."""
    readings = [read(event, decoder) for event in page]
    digests = [deliveries.digest(event.delivery) for event in page]
    model.first_deliveries.ask(digests)
    jobs.ask(model, page, readings)
    sims.ask(model, page, readings)
    for event, reading, sha256 in zip(page, readings, digests, strict=True):
        _fold(model, event, reading, sha256)


def _fold(model: ReadModel, event: Event, reading: Reading | Correction, sha256: str) -> None:
    delivery = event.delivery
    configuration = model.configuration
    counts = event.position not in model.voided
    repeat = None
    if counts and not isinstance(reading, Correction):
        repeat = deliveries.repeat_of(model, delivery, sha256, configuration.redelivery_window_s)
    context = Context(
        model,
        event.position,
        delivery.received_at,
        delivery.source,
        repeat,
        "applied" if repeat is None else "repeat",
        model.operation,
        configuration.time_zone,
        configuration.working_days,
    )
    account = accounts.opened(context)
    job = _apply(context, reading, account) if counts else None
    deliveries.record(context, event, reading, sha256, job)
    if repeat is None:
        accounts.settle(context, account)


def _apply(context: Context, reading: Reading | Correction, account: accounts.Account) -> str | None:
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
