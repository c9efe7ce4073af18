"""Readiness: whether deliveries can be recorded now, and if not, why."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from ingest.limits import UNAVAILABLE_RETRY_S
from schema.errors import SimtrailError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from ingest.writer import Writer


@dataclass(frozen=True)
class Lag:
    """How far the read model is behind the log: its position, and the events and seconds from there to now.

    ``seconds`` is the age of the oldest event that it has not read; 0 where it has read all.
    """

    projected: int
    events: int
    seconds: float


class Readiness:
    """`/readyz`: 200 where deliveries can be recorded, 503 where they can't; JSON says why.

    ``lag`` finds out how far the read model is behind. A receiver is ready however far that is: what
    it records is read later. None where nobody can tell.
    """

    def __init__(self, writer: Writer, lag: Callable[[], Lag] | None) -> None:
        self._writer = writer
        self._lag = lag

    async def answer(self, _request: Request) -> Response:
        """Answer; called by Starlette."""
        trouble, connections = await self._writer.trouble(), out_of_descriptors()
        stopped = self._writer.failure is not None
        told: dict[str, object] = {
            "ready": trouble is None and connections is None,
            "log": {"writable": trouble is None, "reason": trouble},
            "writer": {"running": not stopped, "remedy": "start the receiver again" if stopped else None},
            "connections": {"accepted": connections is None, "reason": connections},
        }
        if self._lag is not None:
            told["projection"] = await run_in_threadpool(_told, self._lag)
        return Response(
            msgspec.json.encode(told),
            HTTPStatus.OK if told["ready"] else HTTPStatus.SERVICE_UNAVAILABLE,
            {"cache-control": "no-store"} | ({} if told["ready"] else {"retry-after": str(UNAVAILABLE_RETRY_S)}),
            "application/json",
        )


def out_of_descriptors() -> str | None:
    """Why no connection can be accepted now: no file descriptor is left for it. None where one is."""
    try:
        os.close(os.dup(0))
    except OSError as error:
        return None if error.errno == errno.EBADF else f"new connections are closed unanswered: {error.strerror}"
    return None


def _told(lag: Callable[[], Lag]) -> dict[str, object]:
    try:
        found = lag()
    except SimtrailError as error:
        return {"reason": str(error)}
    return {"position": found.projected, "lag_events": found.events, "lag_seconds": round(found.seconds, 3)}
