"""An event as it was read: what folding needs of it, without its bytes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from schema import correction as corrections
from schema.correction import Correction
from schema.event import CORRECTION
from schema.readings import JobCallback, Notification, Unreadable, Unrecognised

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schema.decode import Decoder
    from schema.event import Event

Said = JobCallback | Notification | Unrecognised | Unreadable | Correction
"""What an event says."""

_encode = msgspec.json.Encoder().encode


class Read(msgspec.Struct, frozen=True, gc=False):
    """An event that was read.

    ``headers`` is JSON; ``body_bytes`` and ``sha256`` (lower-case hex) are those of the body as received.
    """

    position: int
    received_at: str
    source: str
    remote: str
    headers: str
    body_bytes: int
    sha256: str
    said: Said

    @property
    def makes_void(self) -> bool:
        """Whether it makes another event void, so that what it means is told by folding anew."""
        return isinstance(self.said, Correction) and self.said.subject == "void"


def read(events: Iterable[Event], decoder: Decoder) -> list[Read]:
    """Events as they read: total for a delivery; for a correction, which is ours, `LogError` if it is damaged."""
    return [_read(event, decoder) for event in events]


def _read(event: Event, decoder: Decoder) -> Read:
    delivery = event.delivery
    body = delivery.body
    return Read(
        event.position,
        delivery.received_at,
        delivery.source,
        delivery.remote,
        _encode(delivery.headers).decode(),
        len(body),
        hashlib.sha256(body).hexdigest(),
        corrections.decode(body) if event.topic == CORRECTION else decoder.decode(body),
    )
