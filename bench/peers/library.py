"""The `eventsourcing` library as its documentation shows it: an aggregate and a `save` for each delivery.

Run as `python -m bench.peers.library FOLDER`.

The library's JSON can't hold bytes, so a body is stored as text.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.routing import Route

from bench.peers.serving import serve

if TYPE_CHECKING:
    from starlette.requests import Request


class Delivery(Aggregate):
    """One delivery."""

    def __init__(self, source: str, body: str) -> None:
        self.source = source
        self.body = body


class Deliveries(Application[UUID]):
    """The library's application. Its SQLite has WAL, and `synchronous` as SQLite has it by default: FULL."""

    def record(self, source: str, body: str) -> int:
        """The position of a delivery, once it is saved."""
        return self.save(Delivery(source, body))[0].notification.id


def make_app(path: Path) -> Starlette:
    """The application, on a database of its own."""
    os.environ |= {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(path)}
    deliveries = Deliveries()

    async def webhook(request: Request) -> JSONResponse:
        body = await request.body()
        position = await run_in_threadpool(deliveries.record, request.path_params["source"], body.decode())
        return JSONResponse({"position": position, "sha256": hashlib.sha256(body).hexdigest()})

    return Starlette(routes=[Route("/webhooks/{source}/{secret}", webhook, methods=["POST"])])


if __name__ == "__main__":
    serve(make_app(Path(sys.argv[1]) / "deliveries.db"))
