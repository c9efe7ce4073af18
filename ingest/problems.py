"""Refusals and failures, told to a sender: problem documents (RFC 9457).

A problem never repeats anything of the request: its path may hold a secret.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response

from ingest.limits import BUSY_RETRY_S, HEAD_BYTES, LINGER_BYTES, LINGER_S, UNAVAILABLE_RETRY_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

TYPES = "urn:problem-type:simtrail:"
"""What the types of our own problems begin with; where the status says it all, it is `about:blank`."""

BODY_READ = "simtrail.body_read"
"""Set in a request's scope once its body has been read to the end."""


class Problem(Response):
    """A problem document with members of its own, and the right way to end the request that it answers.

    Where the request has a body that was not read, the connection is closed after
    the answer, and a bounded part of the body is read first (see `LINGER_BYTES`).
    """

    media_type = "application/problem+json"

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        members: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        document = {
            "type": "about:blank",
            "title": status.phrase,
            "status": int(status),
            # What an error says of a sender's bytes need not be text that can be encoded.
            "detail": detail.encode("utf-8", "backslashreplace").decode(),
            **(members or {}),
        }
        super().__init__(msgspec.json.encode(document), status_code=status, headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; called by the server."""
        if BODY_READ in scope or not _has_body(scope):
            await super().__call__(scope, receive, send)
            return
        closing = [*self.raw_headers, (b"connection", b"close")]
        await send({"type": "http.response.start", "status": self.status_code, "headers": closing})
        # The whole answer is on its way with this; what remains open is the connection.
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        await _drop_rest(receive)
        await send({"type": "http.response.body"})

    def as_sent(self) -> bytes:
        """The answer's bytes, after which the connection is closed: for where there is no request to answer."""
        status = HTTPStatus(self.status_code)
        headers = [*self.raw_headers, (b"connection", b"close")]
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (status, status.phrase.encode(), lines, bytes(self.body))


def _has_body(scope: Scope) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    )


async def _drop_rest(receive: Receive) -> None:
    size = 0
    try:
        async with asyncio.timeout(LINGER_S):
            while size < LINGER_BYTES:
                message = await receive()
                size += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return


NO_SUCH_WEBHOOK = Problem(
    HTTPStatus.NOT_FOUND,
    "There is no such webhook, or its secret is not the right one.",
)
"""The one answer to a wrong source and to a wrong secret: it must not tell which."""

BUSY = Problem(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "The delivery was not recorded: too many are waiting to be. Send it again.",
    {"type": f"{TYPES}too-many-waiting", "title": "Too many deliveries are waiting"},
    {"Retry-After": str(BUSY_RETRY_S)},
)

LOG_UNAVAILABLE = Problem(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "The delivery was not acknowledged: the log can't be written now. Send it again later.",
    {"type": f"{TYPES}log-unavailable", "title": "The log can't be written"},
    {"Retry-After": str(UNAVAILABLE_RETRY_S)},
)

ADDRESS_NOT_ALLOWED = Problem(
    HTTPStatus.FORBIDDEN,
    "The source may not deliver from this address; nothing was recorded.",
    {"type": f"{TYPES}address-not-allowed", "title": "The address is not allowed"},
)
"""Told only to who knows the secret: an operator who forgot an address has to find out."""

TOO_MUCH = Problem(
    HTTPStatus.TOO_MANY_REQUESTS,
    "The source delivers more often than it may; nothing was recorded. Send it again.",
    {"type": f"{TYPES}too-much-for-source", "title": "The source delivers too often"},
    {"Retry-After": str(BUSY_RETRY_S)},
)

NOT_HTTP = Problem(HTTPStatus.BAD_REQUEST, "The request is not valid HTTP (RFC 9112); nothing was recorded.")

HEAD_TOO_LARGE = Problem(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    f"The request's line and headers, or its trailers, have more than {HEAD_BYTES} bytes; nothing was recorded.",
)

TOO_SLOW = Problem(
    HTTPStatus.REQUEST_TIMEOUT,
    "The request did not come fast enough; nothing was recorded. Send it again.",
)


def body_too_large(limit: int) -> Problem:
    """The body has more bytes than the limit; nothing was recorded."""
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"The delivery was not recorded: its body has more than {limit} bytes.",
        {"type": f"{TYPES}body-too-large", "title": "The body is too large", "limit_bytes": limit},
    )


def not_json(reason: str, *, position: int, received_at: str, sha256: str, receipt: str | None = None) -> Problem:
    """The body is recorded, at that position, but is no JSON; ``receipt`` is where there will be one, if there are any."""
    return Problem(
        HTTPStatus.BAD_REQUEST,
        f"The delivery was recorded, but its body is not JSON: {reason}",
        {
            "type": f"{TYPES}not-json",
            "title": "The body is not JSON",
            "position": position,
            "received_at": received_at,
            "sha256": sha256,
            **({"receipt": receipt} if receipt else {}),
        },
    )


async def of_exception(_request: Request, error: Exception) -> Problem:
    """What the routing raises (404, 405), or a defect of ours (500), as a problem."""
    if isinstance(error, HTTPException):
        status = HTTPStatus(error.status_code)
        return Problem(status, f"{status.description}.", headers=error.headers)
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "The receiver has failed; its log says where.")
