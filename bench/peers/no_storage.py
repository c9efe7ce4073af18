"""The receiver itself, storage left out: the same command, server, route and answer, and no thread, commit or disk.

python -m bench.peers.no_storage receive --data FOLDER --port 0
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from audit.command import main
from ingest import server
from ingest.writer import Writer

if TYPE_CHECKING:
    from ingest.writer import Answer
    from schema.event import Delivery

_positions = count(1)


class Forgetful(Writer):
    """Gives each delivery a position at once, and forgets it."""

    def record(self, _delivery: Delivery, answer: Answer) -> None:
        """Called by the route."""
        answer(next(_positions))


if __name__ == "__main__":
    server.Writer = Forgetful  # type: ignore[attr-defined]
    main()
