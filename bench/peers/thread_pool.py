"""A plain receiver: Starlette, its thread pool, and a commit of SQLite for each delivery.

Run as `python -m bench.peers.thread_pool FOLDER`.

One connection behind a lock: with a connection a thread, writers would sleep in SQLite's busy handler.
"""

from __future__ import annotations

import hashlib
import sqlite3
import sys
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.routing import Route

from bench.peers.serving import serve

if TYPE_CHECKING:
    from starlette.requests import Request


def make_app(path: Path) -> Starlette:
    """The application, on a database of its own."""
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(
        "CREATE TABLE deliveries (position INTEGER PRIMARY KEY, received_at TEXT, source TEXT, body BLOB)"
    )
    turn = Lock()

    def insert(source: str, body: bytes) -> int | None:
        row = (datetime.now(UTC).isoformat(), source, body)
        with turn:
            sql = "INSERT INTO deliveries (received_at, source, body) VALUES (?, ?, ?)"
            return connection.execute(sql, row).lastrowid

    async def webhook(request: Request) -> JSONResponse:
        body = await request.body()
        position = await run_in_threadpool(insert, request.path_params["source"], body)
        return JSONResponse({"position": position, "sha256": hashlib.sha256(body).hexdigest()})

    return Starlette(routes=[Route("/webhooks/{source}/{secret}", webhook, methods=["POST"])])


if __name__ == "__main__":
    serve(make_app(Path(sys.argv[1]) / "deliveries.db"))
