"""Readiness: whether deliveries can be recorded now, and if not, why."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeAlias

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from ingest.limits import UNAVAILABLE_RETRY_S
from schema.errors import SimtrailError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request

    from ingest.writer import Writer


Tell: TypeAlias = "Callable[[], Mapping[str, object]]"
"""Finds something out about the installation, to be shown as JSON. Called in a thread; may raise `SimtrailError`."""


@dataclass(frozen=True)
class Lag:
    """How far the read model is behind the log: its position, and the events and seconds from there to now.

    ``seconds`` is the age of the oldest event that it has not read; 0 where it has read all. ``standstill``
    says why it is not brought forward, and what mends that; None where nothing keeps it.
    """

    projected: int
    events: int
    seconds: float
    standstill: str | None = None


class Readiness:
    """`/readyz`: 200 where deliveries can be recorded, 503 where they can't; JSON says why.

    ``lag`` finds out how far the read model is behind, ``seals`` how the log is sealed. A receiver is
    ready whatever these say: what it records is read and sealed later. None where nobody can tell.
    """

    def __init__(self, writer: Writer, lag: Callable[[], Lag] | None, seals: Tell | None = None) -> None:
        self._writer = writer
        self._tells: dict[str, Tell] = {}
        if lag is not None:
            self._tells["projection"] = lambda: _told(lag())
        if seals is not None:
            self._tells["seals"] = seals

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
        for name, tell in self._tells.items():
            told[name] = await run_in_threadpool(_found, tell)
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


def _found(tell: Tell) -> Mapping[str, object]:
    try:
        return tell()
    except SimtrailError as error:
        return {"reason": str(error)}


def _told(lag: Lag) -> Mapping[str, object]:
    return {
        "position": lag.projected,
        "lag_events": lag.events,
        "lag_seconds": round(lag.seconds, 3),
        "reason": lag.standstill,
    }
