"""The receiver itself, storage left out: the same command, server, route and answer, and no thread, commit or disk.

python -m bench.peers.no_storage receive --data FOLDER --port 0
"""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING

from audit.command import main
from ingest import server
from ingest.writer import Writer

if TYPE_CHECKING:
    from schema.event import Delivery

_positions = count(1)


class Forgetful(Writer):
    """Gives each delivery a position at once, and forgets it."""

    def record(self, _delivery: Delivery) -> asyncio.Future[int]:
        """Called by the route."""
        position: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        position.set_result(next(_positions))
        return position


if __name__ == "__main__":
    server.Writer = Forgetful  # type: ignore[attr-defined]
    main()
