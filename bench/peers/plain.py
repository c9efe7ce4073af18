"""Starlette as its documentation shows it, without storage: what `Request` and `JSONResponse` cost.

python -m bench.peers.plain
"""

from __future__ import annotations

import hashlib
from itertools import count
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from bench.peers.serving import serve

if TYPE_CHECKING:
    from starlette.requests import Request

_positions = count(1)


async def webhook(request: Request) -> JSONResponse:
    """Answer a delivery, and forget it."""
    body = await request.body()
    return JSONResponse({"position": next(_positions), "sha256": hashlib.sha256(body).hexdigest()})


if __name__ == "__main__":
    serve(Starlette(routes=[Route("/webhooks/{source}/{secret}", webhook, methods=["POST"])]))
