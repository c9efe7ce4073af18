"""The receiver itself, storage left out: the same command, server, route and answer, and no appender, commit or disk.

python -m bench.peers.no_storage receive --data FOLDER --port 0
"""

from __future__ import annotations

import socket
from contextlib import closing, contextmanager
from itertools import count
from mmap import PAGESIZE
from typing import TYPE_CHECKING

from audit.command import main
from ingest import appender, server
from ingest.ring import Ring
from ingest.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.writer import Answer
    from schema.event import Delivery

_positions = count(1)


class Forgetful(Writer):
    """Gives each delivery a position at once, and forgets it."""

    def record(self, _delivery: Delivery, answer: Answer) -> None:
        """Called by the route."""
        answer(next(_positions))

    def __exit__(self, *_error: object) -> None:
        """Nothing waits."""


@contextmanager
def no_appender(*_asked: object) -> Iterator[tuple[socket.socket, Ring]]:
    """The end of a channel that nobody listens to."""
    ours, its = socket.socketpair()
    with ours, its, closing(Ring(PAGESIZE)) as ring:
        yield ours, ring


if __name__ == "__main__":
    server.Writer = Forgetful  # type: ignore[attr-defined]
    appender.started = no_appender  # type: ignore[assignment]
    main()
