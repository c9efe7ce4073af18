"""The leaf: what the tree holds of one event, in bytes that never change.

A leaf is an envelope of fixed form, about 150 bytes, not the event itself: it binds the
event by the SHA-256 of its stored state, so that a content can one day be destroyed and
every proof still stands. docs/proof-format.md gives the bytes, with vectors.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec

from audit.merkle import leaf_hash
from schema.errors import LogError, ProofError
from schema.event import ENVELOPE_VERSION
from schema.event import decode as delivery_in

if TYPE_CHECKING:
    from schema.log import Stored

LABEL = b"simtrail-leaf/v1"
"""What every leaf begins with: its format and version, and that it is nothing else."""

POSITION_BYTES = 8
LENGTH_BYTES = 2
DIGEST_BYTES = 32

TEXT_BYTES = (1 << 8 * LENGTH_BYTES) - 1
"""Bytes of a text in a leaf at most. Times and topics are ours, and a source's name fits a URL."""


class Leaf(msgspec.Struct, frozen=True):
    """What the tree holds of one event. The digests are 32 bytes."""

    position: int
    received_at: str
    source: str
    topic: str
    state_sha256: bytes
    body_sha256: bytes


class _Bound(msgspec.Struct, gc=False):
    """As much of an event's envelope as its leaf binds by itself."""

    v: int
    received_at: str
    source: str
    body: bytes


_bound_in = msgspec.msgpack.Decoder(_Bound).decode

_HASHED_LABEL = b"\x00" + LABEL


def of(row: Stored) -> Leaf:
    """The leaf of a stored event. Raises `LogError` for a state that can't be one."""
    position, topic, state = row
    delivery = delivery_in(state)
    try:
        named = topic.decode()
    except UnicodeDecodeError as error:
        msg = f"the topic of the event at position {position} is no UTF-8: {error}; check the log's storage"
        raise LogError(msg) from error
    return Leaf(
        position,
        delivery.received_at,
        delivery.source,
        named,
        sha256(state).digest(),
        sha256(delivery.body).digest(),
    )


def encode(leaf: Leaf) -> bytes:
    """The bytes of a leaf. The one encoding that there is; raises `LogError` for a text that has no room."""
    return b"".join(
        (
            LABEL,
            leaf.position.to_bytes(POSITION_BYTES, "big"),
            _text(leaf.received_at.encode()),
            _names(leaf.source, leaf.topic.encode()),
            leaf.state_sha256,
            leaf.body_sha256,
        ),
    )


def hash_of(row: Stored) -> bytes:
    """The leaf's hash, as the tree has it, of a stored event. Raises `LogError`."""
    # As `merkle.leaf_hash(encode(of(row)))`, at half the time: it is run for every event, and again by each check.
    position, topic, state = row
    try:
        bound = _bound_in(state)
    except (msgspec.DecodeError, UnicodeDecodeError):
        bound = None
    received_at = b"" if bound is None else bound.received_at.encode()
    if bound is None or bound.v != ENVELOPE_VERSION or len(received_at) > TEXT_BYTES:
        return leaf_hash(encode(of(row)))
    return sha256(
        b"".join(
            (
                _HASHED_LABEL,
                position.to_bytes(POSITION_BYTES, "big"),
                len(received_at).to_bytes(LENGTH_BYTES, "big"),
                received_at,
                _names(bound.source, topic),
                sha256(state).digest(),
                sha256(bound.body).digest(),
            ),
        ),
    ).digest()


def decode(data: bytes) -> Leaf:
    """The leaf in bytes. Raises `ProofError` for any bytes that `encode` does not give."""
    try:
        label, data = data[: len(LABEL)], data[len(LABEL) :]
        position, data = int.from_bytes(data[:POSITION_BYTES], "big"), data[POSITION_BYTES:]
        received_at, data = _cut(data)
        source, data = _cut(data)
        topic, data = _cut(data)
    except UnicodeDecodeError as error:
        msg = f"a leaf's text is no UTF-8: {error}"
        raise ProofError(msg) from error
    if label != LABEL or len(data) != 2 * DIGEST_BYTES:
        msg = f"{len(data)} bytes are left of a leaf that begins with {label!r}; it is none of {LABEL.decode()}"
        raise ProofError(msg)
    return Leaf(position, received_at, source, topic, data[:DIGEST_BYTES], data[DIGEST_BYTES:])


def _cut(data: bytes) -> tuple[str, bytes]:
    """The text that bytes begin with, and what follows it."""
    end = LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "big")
    return data[LENGTH_BYTES:end].decode(), data[end:]


def _text(data: bytes) -> bytes:
    if len(data) > TEXT_BYTES:
        msg = f"a text of {len(data)} bytes has no room in a leaf, which takes {TEXT_BYTES}: {data[:40]!r}…"
        raise LogError(msg)
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


@lru_cache(maxsize=256)
def _names(source: str, topic: bytes) -> bytes:
    """Source and topic in a leaf: the same for many events."""
    return _text(source.encode()) + _text(topic)
