"""A pipe between two processes of ours: messages, each with its length before it."""

from __future__ import annotations

import fcntl
import struct
import sys
from contextlib import suppress
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH_BYTES = 1024 * 1024
"""What a pipe holds before its writer waits: the most that Linux lets any process ask for, unless told otherwise."""

_LENGTH = struct.Struct(">Q")


def widen(pipe: IO[bytes]) -> None:
    """Let both ends of a pipe work on while the other is busy: as it is made, it holds 64 KB, a fraction of a page of events."""
    if sys.platform == "linux":
        with suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, WIDTH_BYTES)


def write(pipe: IO[bytes], message: bytes) -> None:
    """Send a message."""
    pipe.write(_LENGTH.pack(len(message)))
    pipe.write(message)
    pipe.flush()


def read(pipe: IO[bytes]) -> Iterator[bytes]:
    """The messages of a pipe, as far as they come whole."""
    while len(head := pipe.read(_LENGTH.size)) == _LENGTH.size:
        (length,) = _LENGTH.unpack(head)
        message = pipe.read(length)
        if len(message) < length:
            return
        yield message
