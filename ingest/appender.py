"""The appender: the one process that appends to the log, many deliveries to a commit.

    python -m ingest.appender <channel

All that the receiver has handed over while a commit was under way shares the next. So the busier
the receiver, the larger its groups, and nothing is waited for when it is not.
It is a process, so that it has an interpreter of its own: commits and the event loop never wait for each other's.

**When a commit fails.** The deliveries of that group are refused; none of them is ever
tried again, since the sender was told to. Whether the appender goes on depends on what
can be known about the disk:

- It goes on where a later commit can't vouch falsely for what this one lost, which the log knows
  (`LogUnavailable.passing`): of a file, where it had not come to writing, or the file system
  did not take a write (`schema.log_sqlite.PASSING`); of a server, whatever happened, since
  that one answers for its own disk.
- It ends on anything else: a failed fsync, any other I/O error, a damaged file,
  an error that nobody knows. The receiver then refuses every delivery until it is started again.

A refused delivery may still turn out to be in the log, where its commit record reached
the disk but the fsync failed, or the server's answer did not reach us. The sender sends it again, and it is recorded twice, which
every projection stands; an acknowledged one is never missing.

**When the receiver ends**, however it does, so does the channel: what has come whole is appended, and the appender ends.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from ingest import channel, memory
from ingest.channel import Behind, Groups, Kept, NotOpened, Opened, Refused, Sayings
from ingest.limits import GROUP_BYTES, GROUP_DELIVERIES, STOP_S
from ingest.ring import Ring, mapped
from schema import log_place
from schema.errors import ConfigurationError, LogError, LogNotThere, LogUnavailable, SimtrailError
from schema.event import TOPIC, uuid7s
from schema.log import open_to_append

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ingest.channel import Group, Said
    from schema.log import NewRow
    from schema.log_place import Place

PROGRAM = (sys.executable, "-P", "-m", "ingest.appender")

READ_BYTES = 64 * 1024
"""Taken from the channel at once: groups of some ten thousand envelopes."""

DRAWN_BYTES = 16 * 1024
"""Randomness that is drawn at once: for some 1,600 ids."""

ERRORS: dict[str, type[SimtrailError]] = {
    kind.__name__: kind for kind in (ConfigurationError, LogError, LogNotThere, LogUnavailable)
}
"""What opening a log may raise."""


class Appender:
    """Appends what is handed over through a channel and lies in a ring, and tells there what became of it.

    ``append`` and ``checkpoint`` are the log's: the one stores rows in one durable commit and gives the
    positions, the other does what commits leave for later. ``timer`` gives seconds of any origin.
    """

    def __init__(  # noqa: PLR0913 - what it works with, each by its name
        self,
        connection: socket.socket,
        ring: memoryview,
        append: Callable[[Sequence[NewRow]], Sequence[int]],
        *,
        checkpoint: Callable[[], None],
        clock: Callable[[], datetime],
        entropy: Callable[[int], bytes],
        timer: Callable[[], float],
    ) -> None:
        self._connection = connection
        self._ring = ring
        self._append = append
        self._checkpoint = checkpoint
        self._clock = clock
        self._entropy = entropy
        self._timer = timer
        self._drawn = b""
        self._groups = Groups()

    def run(self) -> None:
        """Append until nothing more can come, or until a commit has failed in a way that does not pass."""
        while data := self._handed():
            self._groups.add(data)
            for batch in _batches(self._envelopes(group) for group in self._groups.whole()):
                if not self._commit(batch):
                    return

    def _handed(self) -> bytes:
        try:
            return self._connection.recv(READ_BYTES)
        except ConnectionResetError:
            # The receiver has ended with answers unread; all that it handed over has come before this.
            return b""

    def _envelopes(self, group: Group) -> list[memoryview]:
        places = accumulate(group.lengths, initial=group.begin)
        return [self._ring[begin:end] for begin, end in pairwise(places)]

    def _commit(self, envelopes: list[memoryview]) -> bool:
        """Whether another commit may follow this one."""
        ids = uuid7s(self._clock(), len(envelopes), self._draw)
        rows = [(each, 1, TOPIC, envelope) for each, envelope in zip(ids, envelopes, strict=True)]
        begun = self._timer()
        try:
            positions = self._append(rows)
            if len(positions) != len(rows):
                msg = f"{len(rows)} deliveries were given {len(positions)} positions"
                raise LogError(msg)
        except Exception as error:  # noqa: BLE001 - whatever it is, everyone who waits gets an answer
            passing = isinstance(error, LogUnavailable) and error.passing
            self._say(Refused(len(rows), str(error) or repr(error), passing))
            return passing
        self._say(Kept(list(positions), self._timer() - begun))
        # Who waited for a commit as large as that is not to wait for the copying as well.
        if sum(map(len, envelopes)) < GROUP_BYTES or not self._more_waits():
            self._copy()
        return True

    def _more_waits(self) -> bool:
        return bool(select.select([self._connection], [], [], 0)[0])

    def _copy(self) -> None:
        try:
            self._checkpoint()
        except LogUnavailable as error:
            self._say(Behind(str(error)))

    def _say(self, what: Said) -> None:
        try:
            self._connection.sendall(channel.said(what))
        except OSError:
            # Most likely the receiver is gone, and nobody waits. If it is not, what came next would answer who waits for this.
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_WR)

    def _draw(self, size: int) -> bytes:
        """Randomness for ids, of a stock: a call to the system costs as much as ten ids."""
        if len(self._drawn) < size:
            self._drawn = self._entropy(max(size, DRAWN_BYTES))
        taken, self._drawn = self._drawn[:size], self._drawn[size:]
        return taken


def _batches(groups: Iterable[list[memoryview]]) -> Iterator[list[memoryview]]:
    """Groups together, as many as make a commit: what would make it too large is in the next. An empty one is by itself."""
    batch: list[memoryview] = []
    size = 0
    for group in groups:
        more = sum(map(len, group))
        if batch and (not group or len(batch) >= GROUP_DELIVERIES or size + more > GROUP_BYTES):
            yield batch
            batch, size = [], 0
        if group:
            batch += group
            size += more
        else:
            yield []
    if batch:
        yield batch


@contextmanager
def started(place: Place, ring_bytes: int, held: Sequence[int] = ()) -> Iterator[tuple[socket.socket, Ring]]:
    """An appender at work on the log at a place; the receiver's end of its channel, and their ring.

    It ends when that end is closed, or shut for writing, and the context waits for it. It keeps the
    descriptors ``held``, and so the locks that are on them, until then, however the receiver ends.
    Raises `LogNotThere`, `LogUnavailable` or `ConfigurationError` where the log can't be opened; `LogUnavailable`,
    when the context ends, where the appender has not ended `STOP_S` later.
    """
    with ExitStack() as stack:
        try:
            ring = stack.enter_context(closing(Ring(ring_bytes)))
            ours, its = map(stack.enter_context, socket.socketpair())
            with its:
                process = _process(its, ring, held)
        except OSError as error:
            msg = f"the log {place} can't be opened for appending: no process can be started that appends: {error}"
            raise LogUnavailable(msg) from error
        try:
            _open(ours, place)
            yield ours, ring
        finally:
            ours.close()
            _wait(process)


def _process(its: socket.socket, ring: Ring, held: Sequence[int]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own program
        [*PROGRAM, str(ring.descriptor)],
        stdin=its.fileno(),
        pass_fds=(ring.descriptor, *held),
        # A session of its own: the terminal's Ctrl-C is for the receiver, which decides.
        start_new_session=True,
    )


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired as error:
        msg = (
            f"the process that appends to the log ({process.pid}) has not ended within {STOP_S} s, so it is left at work: "
            f"the log's disk may not answer; no receiver can start again before it has ended, or was ended by `kill -KILL {process.pid}`"
        )
        raise LogUnavailable(msg) from error


def _open(connection: socket.socket, place: Place) -> None:
    # Through the channel: an argument could be seen by others, and there may be a password in it.
    sayings = Sayings()
    with suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(log_place.url(place).encode() + b"\n")
        while data := connection.recv(READ_BYTES):
            sayings.add(data)
            for what in sayings.whole():
                if isinstance(what, NotOpened):
                    raise ERRORS.get(what.kind, LogError)(what.message)
                return
    msg = f"the log {place} can't be opened for appending: the process that appends has ended by itself"
    raise LogUnavailable(msg)


def main(ring: int) -> int:
    """Append what comes by the channel that is standard input, and lies in the ring with this descriptor."""
    # Whoever stops all processes of a service at once stops the receiver, which has still something to hand over.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    memory.keep()
    with socket.socket(fileno=os.dup(sys.stdin.fileno())) as connection, ExitStack() as stack:
        try:
            with connection.makefile("r", encoding="utf-8") as lines:
                # Nothing follows it until it is answered.
                place = log_place.place(lines.readline().strip())
            log = stack.enter_context(open_to_append(place))
        except SimtrailError as error:
            connection.sendall(channel.said(NotOpened(type(error).__name__, str(error))))
            return 1
        connection.sendall(channel.said(Opened()))
        # What is loaded by now stays: the collector would go through it all, now and then, while deliveries wait.
        gc.collect()
        gc.freeze()
        Appender(
            connection,
            mapped(ring),
            log.append_rows,
            checkpoint=log.checkpoint,
            clock=lambda: datetime.now(UTC),
            entropy=os.urandom,
            timer=time.perf_counter,
        ).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
