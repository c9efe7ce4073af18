"""The writer: the one thread that appends to the log, many deliveries to a commit.

Deliveries wait on the event loop. All that wait, within the bounds of a group, are handed to
the thread at once, which appends them in one commit, takes those that came meanwhile as its
next group if they are many, and wakes the loop once, which answers. So the busier the receiver, the
larger its groups, and nothing is waited for when it is not.

**When a commit fails.** The deliveries of that group are refused; none of them is ever
tried again, since the sender was told to. Whether the writer goes on depends on what
can be known about the disk:

- It goes on where a later commit can't vouch falsely for what this one lost, which the log knows
  (`LogUnavailable.passing`): of a file, where it had not come to writing, or the file system
  did not take a write (`schema.log_sqlite.PASSING`); of a server, whatever happened, since
  that one answers for its own disk.
- It stops for good on anything else: a failed fsync, any other I/O error, a damaged file,
  an error that nobody knows. A writer that has stopped refuses every delivery until the
  receiver is started again.

A refused delivery may still turn out to be in the log, where its commit record reached
the disk but the fsync failed, or the server's answer did not reach us. The sender sends it again, and it is recorded twice, which
every projection stands; an acknowledged one is never missing.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import suppress
from datetime import timedelta
from queue import SimpleQueue
from typing import TYPE_CHECKING, Self, TypeAlias

import structlog

from ingest.limits import GROUP_BYTES, GROUP_DELIVERIES
from schema.errors import LogError, LogUnavailable
from schema.event import WebhookReceived, uuid7s

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from types import TracebackType

    from schema.event import Delivery

TAKEN_AT_ONCE = 16
"""So many that wait are the next group as soon as a commit is done. Fewer are left to the loop, which hands them over
with all that it reads in its turn: two small groups cost more than the one that they could have been."""

DRAWN_BYTES = 16 * 1024
"""Randomness that is drawn at once: for some 1,600 ids."""

TRIAL_EVERY = timedelta(seconds=1)
"""A trial costs an fsync, and anyone may ask for one: so many a second at most."""

TRIAL_WAIT_S = 2
"""How long whoever asks waits for it: the log may be locked, or its disk hang, for longer."""

_lines = structlog.get_logger("simtrail.writer")


Answer: TypeAlias = "Callable[[int | LogUnavailable], None]"
"""Called on the event loop, once: with a delivery's position, now that it is on disk, or with why it was not recorded."""

_Waiting: TypeAlias = "tuple[Delivery, Answer]"


class Writer:
    """Appends deliveries from one event loop to the log, in a thread of its own.

    ``append`` and ``checkpoint`` are the log's: the one stores a batch in one durable commit and gives the
    positions, the other does what commits leave for later. Only the writer's thread calls them, between the beginning and
    the end of a ``with`` block; at the end, all that waits is committed first.
    """

    def __init__(
        self,
        append: Callable[[Sequence[WebhookReceived]], Sequence[int]],
        *,
        checkpoint: Callable[[], None],
        clock: Callable[[], datetime],
        entropy: Callable[[int], bytes],
    ) -> None:
        self._append = append
        self._checkpoint = checkpoint
        self._clock = clock
        self._entropy = entropy
        self._drawn = b""
        # The door guards what the loop and the end of the block both touch: who waits,
        # whether more may, and that no group enters the queue behind the None that ends it.
        self._door = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._groups: SimpleQueue[list[_Waiting] | asyncio.Future[None] | None] = SimpleQueue()
        self._busy = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._failure: str | None = None
        self._refusal: str | None = None
        self._tried_at = clock()
        self._trial: asyncio.Future[None] | None = None
        # A process that ends by an error must not hang on this thread: a commit cut
        # off there is what any crash is to it.
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    @property
    def failure(self) -> str | None:
        """Why the writer has stopped for good; None while it has not."""
        return self._failure

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
        with self._door:
            if self._closed:
                msg = "the receiver is stopping"
                raise LogUnavailable(msg)
            self._waiting.append((delivery, answer))
            if not self._busy:
                self._busy = True
                self._loop = asyncio.get_running_loop()
                # Not now: what the loop reads in this same turn joins the group.
                self._loop.call_soon(self._hand_over)

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

    def _begin_trial(self) -> asyncio.Future[None] | None:
        """The trial under way, begun if need be; None where what is known is enough."""
        with self._door:
            if self._trial is None or self._trial.done():
                self._trial = None
                known = self._failure is not None or self._clock() - self._tried_at < TRIAL_EVERY
                if not known and not self._closed:
                    self._trial = asyncio.get_running_loop().create_future()
                    self._groups.put(self._trial)
            return self._trial

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._door:
            self._closed = True
            while group := self._next_group():
                self._groups.put(group)
            self._groups.put(None)
        self._thread.join()

    def _hand_over(self) -> None:
        with self._door:
            group = self._next_group()
            self._busy = bool(group)
            if group:
                self._groups.put(group)

    def _next_group(self) -> list[_Waiting]:
        """The first of those who wait, within the bounds; empty where nobody does."""
        group: list[_Waiting] = []
        size = 0
        while self._waiting and len(group) < GROUP_DELIVERIES and size < GROUP_BYTES:
            one = self._waiting.popleft()
            group.append(one)
            size += len(one[0].body)
        return group

    def _run(self) -> None:
        while (work := self._groups.get()) is not None:
            if isinstance(work, asyncio.Future):
                self._try([])
                _call(work.get_loop(), _end_trial, work)
                continue
            self._commit(work)
            # Who waited for a commit as large as that is not to wait for the copying as well.
            others_wait = self._waiting or not self._groups.empty()
            if not others_wait or sum(len(delivery.body) for delivery, _ in work) < GROUP_BYTES:
                self._copy()

    def _copy(self) -> None:
        try:
            self._checkpoint()
        except LogUnavailable as error:
            _lines.warning("the log is behind its WAL", reason=str(error))

    def _commit(self, group: list[_Waiting]) -> None:
        ids = uuid7s(self._clock(), len(group), self._draw)
        positions = self._try([WebhookReceived(each, 1, one[0]) for each, one in zip(ids, group, strict=True)])
        many = len(self._waiting) >= TAKEN_AT_ONCE
        if many:
            self._hand_over()
        if self._loop is not None:
            _call(self._loop, self._answer, group, positions, self._failure or self._refusal or "", not many)

    def _draw(self, size: int) -> bytes:
        """Randomness for ids, of a stock: each call to the system lets go of the interpreter, and the loop takes it."""
        if len(self._drawn) < size:
            self._drawn = self._entropy(max(size, DRAWN_BYTES))
        taken, self._drawn = self._drawn[:size], self._drawn[size:]
        return taken

    def _try(self, batch: list[WebhookReceived]) -> Sequence[int] | None:
        """The positions of a batch; None, and it is known why, where it was not appended."""
        if self._failure is not None:
            return None
        try:
            positions = self._append(batch)
            if len(positions) != len(batch):
                msg = f"{len(batch)} deliveries were given {len(positions)} positions"
                raise LogError(msg)
        except Exception as error:  # noqa: BLE001 - whatever it is, everyone who waits gets an answer
            positions, self._refusal = None, str(error)
            if isinstance(error, LogUnavailable) and error.passing:
                _lines.warning("deliveries refused", deliveries=len(batch), reason=str(error))
            else:
                self._failure = f"the writer has stopped, the receiver must be started again: {error}"
                _lines.error("the writer has stopped", deliveries=len(batch), reason=str(error), remedy="restart")
        else:
            if self._refusal is not None:
                _lines.info("deliveries are recorded again", after=self._refusal)
            self._refusal = None
        self._tried_at = self._clock()
        return positions

    def _answer(self, group: list[_Waiting], positions: Sequence[int] | None, reason: str, hand_over: bool) -> None:  # noqa: FBT001 - called by the loop
        if hand_over:
            self._hand_over()
        outcomes: Sequence[int | LogUnavailable] = positions or [LogUnavailable(reason) for _ in group]
        for (_, answer), outcome in zip(group, outcomes, strict=True):
            try:
                answer(outcome)
            except Exception:  # noqa: BLE001 - and so must not cost the others theirs
                _lines.exception("a delivery could not be answered")


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: object) -> None:
    # A loop that is closed has nobody left who waits.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *arguments)


def _end_trial(trial: asyncio.Future[None]) -> None:
    if not trial.done():
        trial.set_result(None)
