"""The application: its routes, and the one that webhooks come in by."""

from __future__ import annotations

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeAlias

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from ingest import openapi, problems
from ingest.body import Place, Room
from ingest.counts import Counts
from ingest.headers import harmless, kept, secret_of
from ingest.limits import LARGE_BODY_BYTES, Limits
from ingest.metrics import Metrics
from ingest.readiness import Readiness
from ingest.receipts import Receipts
from schema.errors import LogUnavailable
from schema.event import Delivery, instant

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from ingest.problems import Problem
    from ingest.readiness import Lag, Tell
    from ingest.receipts import FindReceipt
    from ingest.sources import Sources
    from ingest.writer import Writer

Take: TypeAlias = "Callable[[Scope, bytes, Callable[[bytes | Problem], None]], bool]"

RECORDED = b'{"position": %d, "received_at": "%b", "sha256": "%b"}'

RECEIPT_PATH = "/receipts/%d"

WITH_RECEIPT = RECORDED.replace(b"}", b', "receipt": "%b"}' % RECEIPT_PATH.encode())
"""Where there are receipts, the answer names where the event's will be."""

WEBHOOK = "/webhooks/{source}/{secret}"
WEBHOOK_PARTS = ("", "webhooks")
"""What comes before source and secret when that path is split."""


class Webhooks:
    """Takes deliveries.

    An ASGI application of its own under Starlette's routing: a `Request` and a `Response`
    for each delivery would halve the rate. ``not_json`` gives the reason why a body is not JSON, or None where it is.
    """

    def __init__(  # noqa: PLR0913 - what it needs, each by its name
        self,
        sources: Sources,
        writer: Writer,
        *,
        clock: Callable[[], datetime],
        not_json: Callable[[bytes], str | None],
        room: Room,
        receipts: bool,
        counts: Counts,
    ) -> None:
        self._receipts = receipts
        self._sources = sources
        self._writer = writer
        self._clock = clock
        self._not_json = not_json
        self._limits = room.limits
        self._room = room
        self._counts = counts
        # One thread: a large body is checked at the cost of many times its memory.
        self._large = ThreadPoolExecutor(max_workers=1, thread_name_prefix="large-bodies")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one POST; called by Starlette's router."""
        parameters = scope["path_params"]
        secret = parameters["secret"] if "secret" in parameters else secret_of(scope["headers"])
        if not self._sources.authenticate(parameters["source"], secret):
            self._counts.refuse("no_such_webhook")
            await problems.NO_SUCH_WEBHOOK(scope, receive, send)
            return
        source = parameters["source"]
        client = scope["client"]
        remote = harmless(client[0]) if client else ""
        if (refusal := self._bounded(source, remote)) is not None:
            await refusal(scope, receive, send)
            return
        headers = kept(scope["headers"])
        if _declared(headers) > self._limits.body_bytes:
            self._counts.refuse("body_too_large", source)
            await problems.body_too_large(self._limits.body_bytes)(scope, receive, send)
            return
        with Place(self._room) as place:
            body = await place.read(scope, receive)
            if isinstance(body, bytes):
                delivery = Delivery(instant(self._clock()), source, remote, headers, body)
                await self._record(delivery, scope, receive, send)
                return
        if body is None:
            self._counts.refuse("gone", source)
            return
        self._counts.refuse("too_many_waiting" if body is problems.BUSY else "body_too_large", source)
        await body(scope, receive, send)

    def _bounded(self, source: str, remote: str) -> Problem | None:
        """What to answer where the source may not deliver from there, or not so often."""
        bound = self._sources.bound(source)
        if bound is None:
            return None
        if not bound.admits(remote):
            self._counts.refuse("address_not_allowed", source)
            return problems.ADDRESS_NOT_ALLOWED
        if not bound.takes(self._clock().timestamp()):
            self._counts.refuse("too_much_for_source", source)
            return problems.TOO_MUCH
        return None

    async def _record(self, delivery: Delivery, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            position, sha256, reason = await self._recorded(delivery)
        except LogUnavailable:
            self._counts.refuse("log_unavailable", delivery.source)
            await problems.LOG_UNAVAILABLE(scope, receive, send)
            return
        answer = self._answer(delivery, position, sha256, reason)
        if not isinstance(answer, bytes):
            await answer(scope, receive, send)
            return
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _recorded(self, delivery: Delivery) -> tuple[int, str, str | None]:
        """Position, SHA-256, and why the body is not JSON."""
        if len(delivery.body) <= LARGE_BODY_BYTES:
            recorded = self._writer.recorded(delivery)
            # While the commit is under way.
            sha256, reason = self._examine(delivery.body)
            return await recorded, sha256, reason
        # Before it is recorded: others wait for that too, which then has the processor for itself.
        examined = asyncio.get_running_loop().run_in_executor(self._large, self._examine, delivery.body)
        sha256, reason = await examined
        return await self._writer.recorded(delivery), sha256, reason

    def take(self, scope: Scope, body: bytes, answer: Callable[[bytes | Problem], None]) -> bool:
        """Take a delivery that came whole, and call ``answer`` later, once; or be False, and leave it to `__call__`.

        It takes what `__call__` would record and acknowledge as a matter of course, at a third of the cost: there
        is neither a task nor a future to it. ``answer`` is given the content of a 200, or the problem to answer with.
        """
        parts = scope["path"].split("/")
        if len(parts) != len(WEBHOOK_PARTS) + 2 or (parts[0], parts[1]) != WEBHOOK_PARTS or scope["method"] != "POST":
            return False
        size = len(body)
        if size > LARGE_BODY_BYTES or not self._room.has(size) or not self._sources.authenticate(parts[2], parts[3]):
            return False
        if self._sources.bound(parts[2]) is not None:
            return False
        sha256, reason = self._examine(body)
        client = scope["client"]
        remote = harmless(client[0]) if client else ""
        delivery = Delivery(instant(self._clock()), parts[2], remote, kept(scope["headers"]), body)

        def recorded(outcome: int | LogUnavailable) -> None:
            self._room.deliveries -= 1
            self._room.bytes -= size
            if isinstance(outcome, LogUnavailable):
                self._counts.refuse("log_unavailable", delivery.source)
                answer(problems.LOG_UNAVAILABLE)
            else:
                answer(self._answer(delivery, outcome, sha256, reason))

        self._room.deliveries += 1
        self._room.bytes += size
        try:
            self._writer.record(delivery, recorded)
        except LogUnavailable as unavailable:
            recorded(unavailable)
        return True

    def _answer(self, delivery: Delivery, position: int, sha256: str, reason: str | None) -> bytes | Problem:
        """What a delivery that was recorded is answered: the content of a 200, or why its body is not JSON."""
        if reason is not None:
            self._counts.not_json[delivery.source] += 1
            return problems.not_json(
                reason,
                position=position,
                received_at=delivery.received_at,
                sha256=sha256,
                receipt=RECEIPT_PATH % position if self._receipts else None,
            )
        fields = position, delivery.received_at.encode(), sha256.encode()
        return WITH_RECEIPT % (*fields, position) if self._receipts else RECORDED % fields

    def _examine(self, body: bytes) -> tuple[str, str | None]:
        return hashlib.sha256(body).hexdigest(), self._not_json(body)


class Receiver(Starlette):
    """The application; ``take`` is `Webhooks.take`, for a server that has a request whole."""

    take: Take


def create_app(  # noqa: PLR0913 - what it is made of, each by its name
    sources: Sources,
    writer: Writer,
    *,
    clock: Callable[[], datetime],
    not_json: Callable[[bytes], str | None],
    limits: Limits | None = None,
    lag: Callable[[], Lag] | None = None,
    seals: Tell | None = None,
    receipts: FindReceipt | None = None,
    counts: Counts | None = None,
) -> Receiver:
    """The receiver's application. The writer must be running while it answers.

    ``lag`` tells how far the read model is behind, ``seals`` how the log is sealed; both are called in
    a thread, and may raise `SimtrailError`. ``receipts`` finds an event's receipt.
    ``counts`` are the writer's too.
    """
    room, counts = Room(limits or Limits()), counts or Counts()
    webhooks = Webhooks(
        sources,
        writer,
        clock=clock,
        not_json=not_json,
        room=room,
        receipts=receipts is not None,
        counts=counts,
    )
    app = Receiver(
        routes=[
            Route(WEBHOOK, webhooks, methods=["POST"]),
            Route("/webhooks/{source}", webhooks, methods=["POST"]),
            Route("/livez", livez),
            Route("/readyz", Readiness(writer, lag, seals).answer),
            Route("/metrics", Metrics(counts, room, writer, lag).answer),
            Route("/openapi.json", openapi.document),
            *([Route("/receipts/{position}", Receipts(sources, receipts).answer)] if receipts else []),
        ],
        exception_handlers={
            HTTPException: problems.of_exception,
            Exception: problems.of_exception,
        },
    )
    app.take = webhooks.take
    app.state.counts = counts
    # A redirect to the same path without its slash would repeat the secret in a header.
    app.router.redirect_slashes = False
    return app


async def livez(_request: Request) -> PlainTextResponse:
    """The process answers; whether it can also record is another question."""
    return PlainTextResponse("alive\n")


def _declared(headers: dict[str, str]) -> int:
    """The Content-Length, only to refuse early: what counts is what comes."""
    length = headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() else 0
