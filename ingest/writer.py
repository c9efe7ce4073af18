"""The writer: the one thread that appends to the log, many deliveries to a commit.

Deliveries wait in a queue. The thread takes all that wait, within the bounds of a group,
appends them in one commit, and then wakes the event loop once for all of them.

**When a commit fails.** The deliveries of that group are refused; none of them is ever
tried again, since the sender was told to. Whether the writer goes on depends on what
can be known about the disk:

- It goes on where SQLite says that it had not come to writing, or that the file system
  took none of a write: the log is locked by another process, is read-only, has no
  file descriptor to open, or the disk is full. Nothing that the page cache once accepted
  can be missing then, so the next commit's fsync vouches for all that came before it.
- It stops for good on anything else: a failed fsync, any other I/O error, a damaged file,
  an error that this module does not know. After a failed fsync the kernel may have
  dropped the pages and call the next fsync a success, so a later commit proves nothing
  about this file. A writer that has stopped refuses every delivery until the receiver is
  started again, when SQLite reads what is really there.

A refused delivery may still turn out to be in the log, where its commit record reached
the disk but the fsync failed. The sender sends it again, and it is recorded twice, which
every projection stands; an acknowledged one is never missing.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import suppress
from io import BytesIO
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Self, TypeAlias, TypeVar

import structlog

from ingest.limits import GROUP_BYTES, GROUP_DELIVERIES
from schema.errors import LogError, LogUnavailable
from schema.event import WebhookReceived, uuid7

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from types import TracebackType

    from schema.event import Delivery

PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        # Only this code: its extended ones tell of a file that was moved, or can't be recovered.
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_TOOBIG,
    },
)
"""Result codes of SQLite after which the writer goes on; the only ones."""

_T = TypeVar("_T")

UUID_BYTES = 10
"""Random bytes that `uuid7` takes for one id."""

_lines = structlog.get_logger("simtrail.writer")


_Waiting: TypeAlias = "tuple[Delivery, asyncio.Future[int]]"


class Writer:
    """Appends deliveries from one event loop to the log, in a thread of its own.

    ``append`` is the log's: it stores a batch in one durable commit and gives the
    positions. Only the writer's thread calls it, between the beginning and the end
    of a ``with`` block; at the end, all that waits is committed first.
    """

    def __init__(
        self,
        append: Callable[[Sequence[WebhookReceived]], Sequence[int]],
        *,
        clock: Callable[[], datetime],
        entropy: Callable[[int], bytes],
    ) -> None:
        self._append = append
        self._clock = clock
        self._entropy = entropy
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        # Nothing may enter the queue behind the None that ends it.
        self._door = threading.Lock()
        self._closed = False
        self._failure: str | None = None
        # A process that ends by an error must not hang on this thread: a commit cut
        # off there is what any crash is to it.
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    @property
    def failure(self) -> str | None:
        """Why the writer has stopped for good; None while it has not."""
        return self._failure

    def record(self, delivery: Delivery) -> asyncio.Future[int]:
        """The delivery's position, once it is on disk. Called on the event loop.

        The future, or this call, raises `LogUnavailable` if it was not recorded.
        """
        position: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        with self._door:
            if self._closed:
                msg = "the receiver is stopping"
                raise LogUnavailable(msg)
            self._queue.put((delivery, position))
        return position

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
            self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while group := self._next_group():
            self._commit(group)

    def _next_group(self) -> list[_Waiting]:
        """All that waits, within the bounds; empty when no more will come."""
        group: list[_Waiting] = []
        size = 0
        waiting = self._queue.get()
        while waiting is not None:
            group.append(waiting)
            size += len(waiting[0].body)
            if len(group) >= GROUP_DELIVERIES or size >= GROUP_BYTES:
                return group
            try:
                waiting = self._queue.get_nowait()
            except Empty:
                return group
        self._queue.put(None)  # for the next call
        return group

    def _commit(self, group: list[_Waiting]) -> None:
        if self._failure is not None:
            _wake(group, _refuse, self._failure)
            return
        now = self._clock()
        # Drawn once for all: each call to the system lets go of the interpreter, and the loop takes it.
        entropy = BytesIO(self._entropy(UUID_BYTES * len(group))).read
        try:
            positions = self._append([WebhookReceived(uuid7(now, entropy), 1, one[0]) for one in group])
            if len(positions) != len(group):
                msg = f"{len(group)} deliveries were given {len(positions)} positions"
                raise LogError(msg)
        except Exception as error:  # noqa: BLE001 - whatever it is, everyone who waits gets an answer
            if is_passing(error):
                _lines.warning("deliveries refused", deliveries=len(group), reason=str(error))
            else:
                self._failure = f"the writer has stopped, the receiver must be started again: {error}"
                _lines.error("the writer has stopped", deliveries=len(group), reason=str(error), remedy="restart")
            _wake(group, _refuse, str(error))
        else:
            _wake(group, _acknowledge, positions)


def is_passing(error: BaseException | None) -> bool:
    """Whether another append may follow one that raised this; False unless that is certain."""
    while error is not None:
        if isinstance(error, sqlite3.Error):
            return getattr(error, "sqlite_errorcode", None) in PASSING
        error = error.__cause__
    return False


def _wake(group: list[_Waiting], answer: Callable[[list[_Waiting], _T], None], outcome: _T) -> None:
    """One wake-up of the loop for a whole group."""
    # A loop that is closed has nobody left who waits.
    with suppress(RuntimeError):
        group[0][1].get_loop().call_soon_threadsafe(answer, group, outcome)


def _acknowledge(group: list[_Waiting], positions: Sequence[int]) -> None:
    for (_, future), position in zip(group, positions, strict=True):
        # Done already where the request was cancelled by a stop that took too long.
        if not future.done():
            future.set_result(position)


def _refuse(group: list[_Waiting], reason: str) -> None:
    for _, future in group:
        if not future.done():
            future.set_exception(LogUnavailable(reason))
