"""The deliveries: one row for each event, understood or not; and one apart for what came, as it came."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from schema.correction import Correction, Evidence
from schema.event import instant
from schema.readings import JobCallback, Notification, Unreadable, Unrecognised

if TYPE_CHECKING:
    from projections.context import Context
    from projections.read_model import ReadModel
    from projections.reading import Read, Said

KIND: dict[type, str] = {
    JobCallback: "job_callback",
    Notification: "notification",
    Unrecognised: "unrecognised",
    Unreadable: "unreadable",
    Correction: "correction",
}

SUMMARY_CHARACTERS = 200
"""A summary is one line of a table; what is longer is on the delivery's own page."""

_encode = msgspec.json.Encoder().encode


def repeat_of(model: ReadModel, event: Read, window_s: int) -> int | None:
    """The first delivery that this one repeats: same source, same body, within the window.

    The window is counted from that first one, so a body that keeps coming is a new
    fact once in each window and can't be hidden by its own repeats.
    """
    first = model.first_deliveries.get(event.source, event.sha256)
    if first is None:
        return None
    position, received_at = first
    until = instant(datetime.fromisoformat(received_at) + timedelta(seconds=window_s))
    return position if event.received_at <= until else None


def record(context: Context, event: Read, job: str | None) -> None:
    """Add the event's rows."""
    model, repeat, reading = context.model, context.repeat, event.said
    kind = KIND[type(reading)]
    voided_by = model.voided.get(event.position)
    if repeat is None and voided_by is None and not isinstance(reading, Correction):
        model.first_deliveries.note(event.source, event.sha256, event.position, event.received_at)
    model.deliveries.rows.append(
        (
            event.position,
            event.received_at,
            event.source,
            kind,
            reading.type if isinstance(reading, Notification | Unrecognised) else None,
            reading.queue if isinstance(reading, JobCallback) else None,
            summary(reading)[:SUMMARY_CHARACTERS],
            kind if isinstance(reading, Unrecognised | Unreadable) else "read",
            _anomalies(reading),
            repeat,
            voided_by,
            job,
            _items(reading),
            len(reading.files) if isinstance(reading, Notification | Unrecognised) else 0,
            event.body_bytes,
            event.sha256,
        ),
    )
    model.delivery_contents.rows.append((event.position, event.remote, event.headers, _published(reading)))


def _anomalies(reading: Said) -> str:
    if isinstance(reading, Unreadable | Correction) or not reading.anomalies:
        return "[]"
    return _encode(reading.anomalies).decode()


def _published(reading: Said) -> str:
    if not isinstance(reading, Correction):
        return reading.body
    if reading.evidence is None:
        return _encode(reading).decode()
    # The evidence is in `files`, as a bill's file is.
    return _encode(replace(reading, evidence=Evidence(reading.evidence.name, b""))).decode()


def summary(reading: Said) -> str:
    """A reading in one line."""
    match reading:
        case JobCallback():
            done = f"{_shown(reading.process)} of {_shown(reading.count)}"
            return f"{reading.queue or 'job'} {reading.qid}: {done}{' done' if reading.complete else ''}"
        case Notification(bills=bills, sims=cards):
            named = ", ".join(bill.number or bill.bill_id or "unidentified" for bill in bills)
            return f"{reading.type}: {named or f'{len(cards)} SIM card' + 's' * (len(cards) != 1)}"
        case Unrecognised():
            return "not recognised" if reading.type is None else f"not recognised: type {reading.type}"
        case Unreadable():
            return f"not readable: {reading.reason}"
        case Correction():
            said = "is void" if reading.subject == "void" else reading.value or "is not paid"
            return f"correction by {reading.by}: {reading.subject} {reading.key} {said}"


def _shown(number: int | None) -> str:
    return "?" if number is None else str(number)


def _items(reading: Said) -> int:
    match reading:
        case JobCallback():
            return len(reading.sims)
        case Notification():
            return len(reading.sims) + len(reading.bills)
        case _:
            return 0
