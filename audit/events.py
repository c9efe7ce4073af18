"""The events of an export, from the log itself, as canonical NDJSON."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Final

from audit.extract import Chunk, Field
from audit.ndjson import encode_lines
from schema.errors import ReadModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from audit.selection import Selection
    from schema.event import Event
    from schema.log import Log

PAGE_BYTES: Final = 4 * 1024 * 1024
"""Bytes of bodies held at a time, apart from one that is larger alone: as JSON and in base64 they are held twice more."""

FIELDS: Final = (
    Field("body", "string", required=True),
    Field("body_encoding", "string", required=True),
    Field("headers", "object", required=True),
    Field("position", "integer", required=True),
    Field("received_at", "datetime", required=True),
    Field("remote", "string", required=True),
    Field("sha256", "string", required=True),
    Field("source", "string", required=True),
    Field("topic", "string", required=True),
)

KEY: Final = ("position",)

TITLE: Final = "Events"

DESCRIPTION: Final = (
    "Every event of the range, its body byte for byte as it was received: what every table is made from. Bodies hold personal "
    "data, and secrets that no table shows."
)

DESCRIPTIONS: Final = {
    "body": "The body as received: as text if it is UTF-8, else in base64 (RFC 4648, section 4).",
    "body_encoding": "utf-8 or base64: how body stands for the bytes received.",
    "headers": "The request headers that are kept; never a credential.",
    "position": "The event's number in the log, from 1. Gaps are normal.",
    "received_at": "When it was received (UTC), by the receiver's clock.",
    "remote": "Network address that it came from.",
    "sha256": "SHA-256 of the body's bytes, in lower-case hexadecimal.",
    "source": "The source whose URL it came to.",
    "topic": "webhook.received: a delivery; any other: what a person recorded.",
}


def write(log: Log, selection: Selection, first: int, last: int) -> Iterator[Chunk]:
    """The events from one position to another that a selection takes, as lines, a page at a time."""
    position = first - 1
    while position < last and (page := log.after(position, max_bytes=PAGE_BYTES)):
        position = page[-1].position
        taken = [event for event in page if event.position <= last and _takes(selection, event)]
        yield Chunk(encode_lines([record(event) for event in taken]), len(taken))


def record(event: Event) -> dict[str, object]:
    """An event as an object of JSON."""
    delivery = event.delivery
    try:
        body, encoding = delivery.body.decode(), "utf-8"
    except UnicodeDecodeError:
        body, encoding = base64.b64encode(delivery.body).decode(), "base64"
    return {
        "body": body,
        "body_encoding": encoding,
        "headers": delivery.headers,
        "position": event.position,
        "received_at": delivery.received_at,
        "remote": delivery.remote,
        "sha256": hashlib.sha256(delivery.body).hexdigest(),
        "source": delivery.source,
        "topic": event.topic,
    }


def require_projected(log: Log, selection: Selection, position: int) -> None:
    """Raise `ReadModelError` where the log holds events that the selection takes, past the read model's position.

    For a range that has ended: of one that goes on, what comes after the snapshot is not meant.
    """
    after = position
    while page := log.after(after):
        after = page[-1].position
        missing = next((event for event in page if _takes(selection, event)), None)
        if missing is not None:
            msg = (
                f"the read model is at position {position}, and the log holds more of that range, from position "
                f"{missing.position} on: `simtrail project --once` brings it up, or says why it can't"
            )
            raise ReadModelError(msg)


def _takes(selection: Selection, event: Event) -> bool:
    return selection.takes(event.delivery.received_at, event.delivery.source)
