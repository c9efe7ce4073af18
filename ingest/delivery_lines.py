"""A line of JSON for each delivery in the receiver's log: what became of it, and nothing of what it says.

The lines look like structlog's, but are made many at a time in a thread of their own: a structlog event and a
write for each would hold up the event loop. Whoever reads the lines can't hold up the receiver: when
they are not taken, lines are left out, and the next one says how many.
"""

from __future__ import annotations

import threading
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING, BinaryIO, Self

import msgspec

from schema.event import instant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from types import TracebackType

    from schema.event import WebhookReceived

WAITING = 100
"""Groups and refusals that may wait to be written: of full groups some 20 MB, without their bodies."""

REFUSALS_PER_S = 10
"""Lines of refusals a second at most: who guesses secrets must not fill the disk. The metrics count all."""


class Recorded(msgspec.Struct, frozen=True):
    """One delivery that was recorded; field for field as the line has it."""

    source: str
    position: int
    bytes: int
    group: int
    commit_ms: float
    event: str
    logger: str
    level: str
    timestamp: str


class Refused(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request that was refused; ``source`` is null where it is not known whose it was."""

    source: str | None
    cause: str
    event: str
    logger: str
    level: str
    timestamp: str
    left_out: int = 0


class DeliveryLines:
    """Writes the lines to a binary stream, between the beginning and the end of a ``with`` block."""

    def __init__(self, out: BinaryIO, clock: Callable[[], datetime]) -> None:
        self._out = out
        self._clock = clock
        self._queue: Queue[list[Recorded | Refused] | None] = Queue(WAITING)
        self._left_out = 0
        self._second = ""
        self._refusals = 0
        self._thread = threading.Thread(target=self._run, name="delivery-lines", daemon=True)

    def recorded(self, batch: Sequence[WebhookReceived], positions: Sequence[int], seconds: float) -> None:
        """A group was recorded. Called by the writer's thread."""
        group, commit_ms = len(batch), round(seconds * 1_000, 3)
        self._put(
            [
                Recorded(
                    event.delivery.source,
                    position,
                    len(event.delivery.body),
                    group,
                    commit_ms,
                    "recorded",
                    "simtrail.deliveries",
                    "info",
                    event.delivery.received_at,
                )
                for event, position in zip(batch, positions, strict=False)
            ]
        )

    def refused(self, cause: str, source: str) -> None:
        """A request was refused. Called on the event loop."""
        at = instant(self._clock())
        second = at[:19]
        if second != self._second:
            self._second, self._refusals = second, 0
        self._refusals += 1
        if self._refusals > REFUSALS_PER_S:
            self._left_out += 1
            return
        left_out, self._left_out = self._left_out, 0
        self._put([Refused(source or None, cause, "refused", "simtrail.deliveries", "warning", at, left_out)])

    def _put(self, lines: list[Recorded | Refused]) -> None:
        try:
            self._queue.put_nowait(lines)
        except Full:
            self._left_out += len(lines)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Behind what waits; where nobody takes that, the process must end all the same.
        try:
            self._queue.put(None, timeout=1)
        except Full:
            return
        self._thread.join(timeout=1)

    def _run(self) -> None:
        encode = msgspec.json.Encoder().encode
        while (lines := self._queue.get()) is not None:
            ended = False
            while True:
                try:
                    more = self._queue.get_nowait()
                except Empty:
                    break
                if more is None:
                    ended = True
                    break
                lines += more
            try:
                self._out.write(b"".join([encode(line) + b"\n" for line in lines]))
                self._out.flush()
            except (OSError, ValueError):  # Nobody reads any more, or the disk is full: receiving goes on.
                self._left_out += len(lines)
            if ended:
                return
