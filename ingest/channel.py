"""The channel between a receiver and its appender: what each says to the other, and its form in bytes.

The receiver hands over groups of envelopes, which lie in the ring that both have (`ingest.ring`), and the appender tells what
became of them, both in order; the answer to several groups may be one. An empty group asks whether the log can be written.

An answer names no group: it is the answer to the next ones. So what can't be sent whole is the last that is sent on that side.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_HEAD = struct.Struct(">IQ")
"""Of a group: how many envelopes, and where in the ring the first one begins; the others follow it."""

_LENGTH = struct.Struct(">I")


class Group(msgspec.Struct, frozen=True):
    """A group that was handed over: where in the ring it begins, and how long each of its envelopes is."""

    begin: int
    lengths: tuple[int, ...]


class Opened(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """The log is open."""


class NotOpened(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """The log can't be opened: the name of the error's class, and its message."""

    kind: str
    message: str


class Kept(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """The next so many envelopes are on disk, at these positions; the commit took so long.

    None are the answer to an empty group: the log can be written.
    """

    positions: list[int]
    seconds: float


class Refused(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """The next so many envelopes were not kept, or it can't be said; none are the answer to an empty group.

    Unless that is ``passing``, it is the last that the appender says.
    """

    count: int
    reason: str
    passing: bool


class Behind(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """What commits leave for later can't be done now; nothing is lost by that."""

    reason: str


Said: TypeAlias = Opened | NotOpened | Kept | Refused | Behind

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Said)


def group(begin: int, lengths: Sequence[int]) -> bytes:
    """A group, on its way to the appender."""
    return struct.pack(f">IQ{len(lengths)}I", len(lengths), begin, *lengths)


def said(what: Said) -> bytes:
    """What the appender says, on its way to the receiver."""
    content = _encoder.encode(what)
    return _LENGTH.pack(len(content)) + content


class Groups:
    """What has come of groups."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def add(self, data: bytes) -> None:
        """Take what has come."""
        self._bytes += data

    def whole(self) -> Iterator[Group]:
        """The groups that have come whole, each once."""
        at = 0
        while len(self._bytes) >= at + _HEAD.size:
            count, begin = _HEAD.unpack_from(self._bytes, at)
            lengths = at + _HEAD.size
            if len(self._bytes) < lengths + count * _LENGTH.size:
                break
            at = lengths + count * _LENGTH.size
            yield Group(begin, struct.unpack_from(f">{count}I", self._bytes, lengths))
        del self._bytes[:at]


class Sayings:
    """What has come of what the appender says."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def add(self, data: bytes) -> None:
        """Take what has come."""
        self._bytes += data

    def whole(self) -> Iterator[Said]:
        """What has come whole, each once, whatever becomes of it."""
        while len(self._bytes) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._bytes)
            end = _LENGTH.size + length
            if len(self._bytes) < end:
                break
            content = self._bytes[_LENGTH.size : end]
            # Before it is given: if whoever takes it fails, it must not come again as the answer to the next group.
            del self._bytes[:end]
            yield _decoder.decode(content)
