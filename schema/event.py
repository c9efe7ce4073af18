"""The events: a delivery as it came, or a correction as a person made it; and their stored form.

The stored form (the *envelope*) is MessagePack: a map with ``v`` (1),
``received_at``, ``source``, ``remote``, ``headers`` and ``body``. It never
changes for an event once stored; what changes is how it is read.
"""

from __future__ import annotations

from datetime import UTC, datetime
from struct import Struct
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
from msgspec.structs import replace

from schema.errors import LogError

if TYPE_CHECKING:
    from collections.abc import Callable

TOPIC = "webhook.received"
"""The topic of a delivery; never the name of a class."""

CORRECTION = "correction.recorded"
"""The topic of a correction. Its body is ours (`schema.correction`): no sender can choose a topic."""

ENVELOPE_VERSION = 1


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """One POST received, whole.

    ``received_at`` is RFC 3339 in UTC with six decimals and ``Z``, so that
    text order is time order. ``headers`` has lower-case names and only those
    that the receiver allows: never a credential.
    """

    received_at: str
    source: str
    remote: str
    headers: dict[str, str]
    body: bytes


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """A delivery's stored form, version 1."""

    v: int
    received_at: str
    source: str
    remote: str
    headers: dict[str, str]
    body: bytes


class Event(msgspec.Struct, frozen=True, gc=False):
    """What was recorded: ``position`` is its number in the log, from 1.

    A correction has the form of a delivery, from nowhere, with its own topic.
    """

    position: int
    delivery: Delivery
    topic: str = TOPIC


class WebhookReceived(msgspec.Struct, frozen=True, gc=False):
    """The domain event of a delivery, as the `eventsourcing` library stores it.

    Each is the only event of an originator of its own, so any number of
    writers may append without asking each other for a version.
    """

    originator_id: UUID
    originator_version: int
    delivery: Delivery


class CorrectionRecorded(msgspec.Struct, frozen=True, gc=False):
    """The domain event of a correction; otherwise as `WebhookReceived`."""

    originator_id: UUID
    originator_version: int
    delivery: Delivery


DomainEvent = WebhookReceived | CorrectionRecorded

CLASSES: dict[str, type[DomainEvent]] = {TOPIC: WebhookReceived, CORRECTION: CorrectionRecorded}
"""The closed registry of topics: nothing else is ever stored, or taken for an event."""

TOPICS = {kind: topic for topic, kind in CLASSES.items()}


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Envelope)


def encode(delivery: Delivery) -> bytes:
    """The envelope of a delivery. The bytes are pinned by a test."""
    return _encoder.encode(
        Envelope(
            ENVELOPE_VERSION,
            delivery.received_at,
            delivery.source,
            delivery.remote,
            delivery.headers,
            delivery.body,
        ),
    )


def front(delivery: Delivery) -> bytes:
    """What stands before the body in the envelope of a delivery of 64 KiB or more: all the rest of it.

    So the body need not be copied to make the envelope. The two together are `encode`'s bytes.
    """
    return encode(replace(delivery, body=b""))[: -len(_NO_BODY)] + _BODY.pack(_BIN_32, len(delivery.body))


_NO_BODY = b"\xc4\x00"
_BIN_32 = 0xC6
_BODY = Struct(">BI")
"""How MessagePack begins bytes: none of them, and 65,536 or more."""


def decode(state: bytes) -> Delivery:
    """The delivery in an envelope.

    Raises `LogError` for bytes that this version can't have written: unlike a
    body, an envelope is ours, so damage here is damage to the log.
    """
    try:
        envelope = _decoder.decode(state)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        msg = f"an event's envelope can't be read: {error}; check the log's storage"
        raise LogError(msg) from error
    if envelope.v != ENVELOPE_VERSION:
        msg = f"an event's envelope has version {envelope.v}, this simtrail reads {ENVELOPE_VERSION}: upgrade"
        raise LogError(msg)
    return Delivery(envelope.received_at, envelope.source, envelope.remote, envelope.headers, envelope.body)


def instant(now: datetime) -> str:
    """An aware datetime as the log writes it: ``2026-05-01T00:00:00.000000Z``."""
    if now.tzinfo is not UTC:
        now = now.astimezone(UTC)
    return f"{now.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def uuid7(now: datetime, entropy: Callable[[int], bytes]) -> UUID:
    """A UUID version 7 (RFC 9562 §5.7) of that millisecond.

    Time-ordered keys keep the log's index append-mostly: with random ones an
    append at two million events costs ten times what it costs at zero.
    """
    return uuid7s(now, 1, entropy)[0]


def uuid7s(now: datetime, count: int, entropy: Callable[[int], bytes]) -> list[UUID]:
    """So many UUIDs of that millisecond, in no order; the entropy is drawn once for all."""
    front = int(now.timestamp() * 1000) << 80 | _VERSION_7
    random = entropy(_UUID_BYTES * count)
    return [
        UUID(int=front | int.from_bytes(random[at : at + _UUID_BYTES], "big") & _RANDOM)
        for at in range(0, len(random), _UUID_BYTES)
    ]


_UUID_BYTES = 10
"""Random bytes that are drawn for one."""

_VERSION_7 = 0x7 << 76 | 0x2 << 62
"""Version and variant of RFC 9562, where it has them."""

_RANDOM = (1 << 76) - 1 & ~(0x3 << 62)
"""The bits that neither time nor version nor variant take."""
