"""The writer: the event loop's side of appending. It hands deliveries to the appender, and takes back what became of them.

Deliveries that come in one turn of the loop are handed over together, at its end. What
becomes of those whose commit fails is told in `ingest.appender`.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from contextlib import suppress
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING, Self, TypeAlias

import structlog

from ingest import channel
from ingest.channel import Behind, Kept, Refused, Sayings
from ingest.limits import APPENDER_S, GROUP_BYTES, GROUP_DELIVERIES, LARGE_BODY_BYTES
from schema.errors import LogUnavailable
from schema.event import encode, front

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from types import TracebackType

    from ingest.counts import Counts
    from ingest.ring import Ring
    from schema.event import Delivery

READ_BYTES = 64 * 1024
"""Taken from the channel at once: the answers to several groups of the largest."""

TRIAL_EVERY = timedelta(seconds=1)
"""A trial costs an fsync, and anyone may ask for one: so many a second at most."""

TRIAL_WAIT_S = 2
"""How long whoever asks waits for it: the log may be locked, or its disk hang, for longer."""

ENDED = "the process that appends to the log has ended by itself; the receiver must be started again"

SILENT = f"the process that appends to the log did not answer a stopping receiver for {APPENDER_S} s"

_lines = structlog.get_logger("simtrail.writer")


Answer: TypeAlias = "Callable[[int | LogUnavailable], None]"
"""Called on the event loop, once: with a delivery's position, now that it is on disk, or with why it was not recorded."""

_Waiting: TypeAlias = "tuple[Delivery, Answer]"


class Writer:
    """Has deliveries appended to the log by the appender at the other end of a channel, which has the same ring.

    Used on an event loop, between the beginning and the end of a ``with`` block; at the end, when
    the loop has none more to give, all that waits is appended first, unless the appender is silent for `APPENDER_S`.
    """

    def __init__(self, connection: socket.socket, ring: Ring, *, counts: Counts, clock: Callable[[], datetime]) -> None:
        self._connection = connection
        self._ring = ring
        self._counts = counts
        self._clock = clock
        self._sayings = Sayings()
        self._loop: asyncio.AbstractEventLoop | None = None
        # Who waits, in order: the groups that are handed over, and those that are to be.
        self._handed: deque[list[_Waiting]] = deque()
        self._brought: deque[_Waiting] = deque()
        self._unsent = bytearray()
        self._watched = False
        self._ended = False
        self._failure: str | None = None
        self._refusal: str | None = None
        self._tried_at = clock()
        self._trial: asyncio.Future[None] | None = None

    @property
    def failure(self) -> str | None:
        """Why nothing is recorded any more until the receiver is started again; None while that is not so."""
        return self._failure

    @property
    def bereft(self) -> bool:
        """Whether the appender has ended without a word, as one that was killed does."""
        return self._failure == ENDED

    async def trouble(self) -> str | None:
        """Why nothing can be recorded now; None where it can. Called on the event loop.

        Found out by a commit that records nothing, unless another was tried within `TRIAL_EVERY`.
        """
        trial = self._begin_trial()
        if trial is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(TRIAL_WAIT_S):
                    await asyncio.shield(trial)
            if not trial.done():
                return self._failure or self._refusal or f"the log did not answer within {TRIAL_WAIT_S} s"
        return self._failure or self._refusal

    def record(self, delivery: Delivery, answer: Answer) -> None:
        """Record the delivery; ``answer`` is told. Called on the event loop.

        Raises `LogUnavailable`, and never calls ``answer``, where nothing is recorded any more.
        """
        if self._failure is not None:
            raise LogUnavailable(self._failure)
        if not self._brought:
            # Not now: what the loop reads in this same turn joins the group. Where some wait for room
            # in the ring, it is handed over with them.
            self.attach().call_soon(self._hand_over)
        self._brought.append((delivery, answer))

    def recorded(self, delivery: Delivery) -> asyncio.Future[int]:
        """The delivery's position, once it is on disk. Called on the event loop.

        The future, or this call, raises `LogUnavailable` if it was not recorded.
        """
        position: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def answer(outcome: int | LogUnavailable) -> None:
            # Done already where the request was cancelled by a stop that took too long.
            if position.done():
                return
            if isinstance(outcome, LogUnavailable):
                position.set_exception(outcome)
            else:
                position.set_result(outcome)

        self.record(delivery, answer)
        return position

    def attach(self) -> asyncio.AbstractEventLoop:
        """Have the running event loop, which is given back, tell what comes by the channel. Done by whatever needs it.

        Called on the loop before that, it is noticed also of an idle receiver that its appender has ended.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            loop.add_reader(self._connection, self._read)
        return loop

    def _begin_trial(self) -> asyncio.Future[None] | None:
        """The trial under way, begun if need be; None where what is known is enough."""
        known = self._failure is not None or self._clock() - self._tried_at < TRIAL_EVERY
        if self._trial is None and not known:
            self._trial = self.attach().create_future()
            self._send(channel.group(0, ()))
        return self._trial

    def __enter__(self) -> Self:
        self._connection.setblocking(False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop = None
        self._connection.settimeout(APPENDER_S)
        self._flush()
        self._hand_over()
        while (self._handed or self._brought) and not self._ended:
            self._read()
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)

    def _hand_over(self) -> None:
        """Hand over those who were brought, as far as there is room; the others when there is again."""
        while self._brought:
            group: list[_Waiting] = []
            parts: list[bytes] = []
            lengths: list[int] = []
            size, most = 0, self._ring.room()
            while self._brought and len(group) < GROUP_DELIVERIES:
                envelope = _envelope(self._brought[0][0])
                length = sum(map(len, envelope))
                if size + length > (min(most, GROUP_BYTES) if group else most):
                    break
                group.append(self._brought.popleft())
                parts += envelope
                lengths.append(length)
                size += length
            if not group:
                return
            self._handed.append(group)
            self._send(channel.group(self._ring.put(parts, size), lengths))

    def _send(self, data: bytes) -> None:
        self._unsent += data
        self._flush()

    def _flush(self) -> None:
        """Send what the channel takes, and the rest when it takes more."""
        try:
            while self._unsent:
                del self._unsent[: self._connection.send(self._unsent)]
        except BlockingIOError:
            pass
        except TimeoutError:
            self._end(SILENT)
        except OSError:
            # Nothing may follow what is lost. Reading finds out what has become of the appender.
            self._unsent.clear()
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_WR)
        if self._loop is None or self._watched == bool(self._unsent):
            return
        self._watched = not self._watched
        if self._watched:
            self._loop.add_writer(self._connection, self._flush)
        else:
            self._loop.remove_writer(self._connection)

    def _read(self) -> None:
        """Take in what was said; while the loop runs, all of it.

        Where the appender has ended with something unread, libuv says once that there is something, and never again.
        """
        while not self._ended:
            try:
                data = self._connection.recv(READ_BYTES)
            except BlockingIOError:
                break
            except TimeoutError:
                self._end(SILENT)
                break
            except OSError:
                data = b""
            if data:
                self._take_in(data)
            else:
                self._end(ENDED)
            if self._loop is None:
                break
        self._hand_over()

    def _take_in(self, data: bytes) -> None:
        self._sayings.add(data)
        for what in self._sayings.whole():
            match what:
                case Kept():
                    self._kept(what)
                case Refused():
                    self._refused(what)
                case Behind(reason):
                    _lines.warning("the log is behind its WAL", reason=reason)

    def _kept(self, what: Kept) -> None:
        if self._refusal is not None:
            _lines.info("deliveries are recorded again", after=self._refusal)
        self._tried(None)
        if not what.positions:
            return
        group = self._taken(len(what.positions))
        self._counts.committed([delivery for delivery, _ in group], what.positions, what.seconds)
        for (_, answer), position in zip(group, what.positions, strict=True):
            self._answer(answer, position)

    def _refused(self, what: Refused) -> None:
        if what.passing:
            _lines.warning("deliveries refused", deliveries=what.count, reason=what.reason)
        else:
            self._failure = f"the writer has stopped, the receiver must be started again: {what.reason}"
            _lines.error("the writer has stopped", deliveries=what.count, reason=what.reason, remedy="restart")
        self._tried(what.reason)
        if what.count:
            self._counts.failed_commits += 1
        for _, answer in self._taken(what.count):
            self._answer(answer, LogUnavailable(self._failure or what.reason))
        if self._failure is not None:
            self._end(self._failure)

    def _taken(self, count: int) -> list[_Waiting]:
        """The next so many who were handed over: one group or several, which lie in the ring no more."""
        taken: list[_Waiting] = []
        while len(taken) < count:
            taken += self._handed.popleft()
            self._ring.take()
        return taken

    def _end(self, why: str) -> None:
        """Nothing more will be said: refuse all who wait."""
        self._ended = True
        self._unsent.clear()
        waiting = [*chain.from_iterable(self._handed), *self._brought]
        if self._failure is None:
            self._failure = why
            _lines.error("the appender says nothing more", deliveries=len(waiting), reason=why)
        if self._loop is not None:
            self._loop.remove_reader(self._connection)
        self._tried(self._failure)
        self._handed.clear()
        self._brought.clear()
        for _, answer in waiting:
            self._answer(answer, LogUnavailable(why))

    def _tried(self, refusal: str | None) -> None:
        self._refusal = refusal
        self._tried_at = self._clock()
        trial, self._trial = self._trial, None
        if trial is not None and not trial.done() and self._loop is not None:
            trial.set_result(None)

    def _answer(self, answer: Answer, outcome: int | LogUnavailable) -> None:
        # A loop that has ended has nobody left who waits.
        if self._loop is None:
            return
        try:
            answer(outcome)
        except Exception:  # noqa: BLE001 - and so must not cost the others theirs
            _lines.exception("a delivery could not be answered")


def _envelope(delivery: Delivery) -> tuple[bytes, ...]:
    """The envelope, in parts: a large body is not copied to make it."""
    return (front(delivery), delivery.body) if len(delivery.body) > LARGE_BODY_BYTES else (encode(delivery),)
