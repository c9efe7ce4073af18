"""A line of JSON for each delivery in the receiver's log: what became of it, and nothing of what it says.

The lines look like structlog's, but are made many at a time in a thread of their own: a structlog event and a
write for each would hold up the event loop. Whoever reads the lines can't hold up the receiver: when
they are not taken, lines are left out, and the next one says how many.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, BinaryIO, Self

import msgspec

from schema.event import instant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from types import TracebackType

    from schema.event import Delivery

WAITING_LINES = 100_000
"""Lines that may wait to be written: some 20 MB."""

GATHER_S = 0.1
"""From a first line to its writing, with all that have come until then: a thread that woke for each group would
cost the event loop a turn with the interpreter each time."""

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
        # Guards who waits. The events wake the thread: there is a line, there will be no more.
        self._door = threading.Lock()
        self._waiting: list[Recorded | Refused] = []
        self._some = threading.Event()
        self._ended = threading.Event()
        self._left_out = 0
        self._second = ""
        self._refusals = 0
        self._thread = threading.Thread(target=self._run, name="delivery-lines", daemon=True)

    def recorded(self, batch: Sequence[Delivery], positions: Sequence[int], seconds: float) -> None:
        """A group was recorded. Called on the event loop."""
        group, commit_ms = len(batch), round(seconds * 1_000, 3)
        self._put(
            [
                Recorded(
                    delivery.source,
                    position,
                    len(delivery.body),
                    group,
                    commit_ms,
                    "recorded",
                    "simtrail.deliveries",
                    "info",
                    delivery.received_at,
                )
                for delivery, position in zip(batch, positions, strict=False)
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
        with self._door:
            if len(self._waiting) + len(lines) > WAITING_LINES:
                self._left_out += len(lines)
                return
            self._waiting += lines
        if not self._some.is_set():
            self._some.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._some.set()
        # What waits is written first; where nobody takes that, the process must end all the same.
        self._thread.join(timeout=1)

    def _run(self) -> None:
        encode_lines = msgspec.json.Encoder().encode_lines
        ended = False
        while not ended:
            self._some.wait()
            ended = self._ended.wait(GATHER_S)
            self._some.clear()
            with self._door:
                lines, self._waiting = self._waiting, []
            try:
                self._out.write(encode_lines(lines))
                self._out.flush()
            except (OSError, ValueError):  # Nobody reads any more, or the disk is full: receiving goes on.
                self._left_out += len(lines)
