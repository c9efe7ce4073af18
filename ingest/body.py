"""A request's body, read within bounds: those of one body, and those of all in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from ingest.problems import BODY_READ, BUSY, Problem, body_too_large

if TYPE_CHECKING:
    from types import TracebackType

    from starlette.types import Receive, Scope

    from ingest.limits import Limits


class Room:
    """How many deliveries, and bytes of them, one event loop has in memory, and may have."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.deliveries = 0
        self.bytes = 0

    def has(self, size: int) -> bool:
        """Whether one more, of so many bytes, has a place."""
        limits = self.limits
        return (
            self.deliveries < limits.held_deliveries
            and size <= limits.body_bytes
            and self.bytes + size <= limits.held_bytes
        )


class Place:
    """One delivery's place in the room, from its first byte to the end of a ``with`` block."""

    __slots__ = ("_bytes", "_deliveries", "_room")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._deliveries = 0
        self._bytes = 0

    async def read(self, scope: Scope, receive: Receive) -> bytes | Problem | None:
        """The whole body; or why it is not taken; or None, where the sender has gone.

        Bytes count as they come, whatever the headers say of them.
        """
        room, limits = self._room, self._room.limits
        if room.deliveries >= limits.held_deliveries:
            return BUSY
        self._deliveries = 1
        room.deliveries += 1
        # Not a list of what came: two bytes a packet would take forty in memory.
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            chunk: bytes = message.get("body", b"")
            more = message.get("more_body", False)
            if not more:
                scope[BODY_READ] = True
            if self._bytes + len(chunk) > limits.body_bytes:
                return body_too_large(limits.body_bytes)
            if room.bytes + len(chunk) > limits.held_bytes:
                return BUSY
            self._bytes += len(chunk)
            room.bytes += len(chunk)
            if not more and not body:
                return chunk
            body += chunk
            if not more:
                return bytes(body)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._room.deliveries -= self._deliveries
        self._room.bytes -= self._bytes
