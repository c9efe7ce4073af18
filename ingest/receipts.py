"""Receipts: `GET /receipts/{position}`, for whoever knows a secret of the event's source.

What a receipt is and how it is made is not the receiver's business: it is handed a
function that finds it.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeAlias

from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, Response

from ingest.headers import secret_of
from ingest.limits import RECEIPT_RETRY_S, UNAVAILABLE_RETRY_S
from ingest.problems import TYPES, Problem
from schema.errors import NotSealed, SimtrailError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from ingest.sources import Sources

FindReceipt: TypeAlias = "Callable[[int, Callable[[str], bool]], str | None]"
"""Gives the receipt of a position, as text, if there is an event and a question whether its source
is asking is answered by True; else None. Raises `NotSealed` where it has to be waited for, another `SimtrailError`
where there can't be one. Called in a thread."""

NO_SUCH_RECEIPT = Problem(
    HTTPStatus.NOT_FOUND,
    "There is no event at this position, or the secret is not one of its source's.",
)
"""One answer for both: it must not tell which."""

NO_SECRET = Problem(
    HTTPStatus.UNAUTHORIZED,
    "A receipt is for the event's source: send its secret with Authorization: Bearer, or as the password of Basic.",
    headers={"WWW-Authenticate": 'Basic realm="simtrail receipts", charset="UTF-8"'},
)

NOT_YET = Problem(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "The event is recorded, but not sealed yet: ask again.",
    {"type": f"{TYPES}receipt-not-yet", "title": "The receipt is not there yet"},
    {"Retry-After": str(RECEIPT_RETRY_S)},
)

UNPROVABLE = Problem(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "There is no receipt of this event now; `simtrail status` and `simtrail verify` tell the operator why.",
    {"type": f"{TYPES}receipt-unavailable", "title": "There is no receipt now"},
    {"Retry-After": str(UNAVAILABLE_RETRY_S)},
)


class Receipts:
    """Answers requests for receipts."""

    def __init__(self, sources: Sources, find: FindReceipt) -> None:
        self._sources = sources
        self._find = find

    async def answer(self, request: Request) -> Response:
        """Answer; called by Starlette."""
        secret = secret_of(request.scope["headers"])
        if not secret:
            return NO_SECRET
        position = request.path_params["position"]
        if not re.fullmatch("[1-9][0-9]{0,17}", position, re.ASCII):
            return NO_SUCH_RECEIPT
        try:
            receipt = await run_in_threadpool(
                self._find, int(position), lambda source: self._sources.authenticate(source, secret)
            )
        except NotSealed:
            return NOT_YET
        except SimtrailError:
            return UNPROVABLE
        if receipt is None:
            return NO_SUCH_RECEIPT
        # A later one may have more cosignatures.
        headers = {
            "cache-control": "no-store",
            "content-disposition": f'inline; filename="{position}.tlog-proof"',
        }
        return PlainTextResponse(receipt, headers=headers)
