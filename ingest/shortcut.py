"""The shortcut from a connection to the writer and back, for deliveries that come whole.

What a request costs under ASGI is mostly a task, a middleware or two and messages to and fro. A delivery whose
head and body are there when a read of the socket is over needs none of them: the application takes it at once
(`ingest.app.Webhooks.take`), and its answer is written in one piece when it is on disk. What the
application does not take, and all that comes in pieces, goes the ordinary way, which is begun where it would have
been: a task runs no earlier than after the read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import structlog
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from ingest.app import Receiver
from ingest.problems import BODY_READ
from ingest.protocol import HttpProtocol

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Coroutine

    from starlette.types import Scope
    from uvicorn import Config
    from uvicorn._types import ASGI3Application
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
    from uvicorn.server import ServerState

    from ingest.problems import Problem

OK = b"HTTP/1.1 200 OK\r\n%scontent-type: application/json\r\ncontent-length: %d\r\n%s\r\n%s"

CLOSE = b"connection: close\r\n"

_lines = structlog.get_logger("simtrail.shortcut")


class ShortcutProtocol(HttpProtocol):
    """The receiver's protocol, with the shortcut."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._take = config.app.take if isinstance(config.app, Receiver) else None
        self._forwarded = ProxyHeadersMiddleware(_nothing, config.forwarded_allow_ips) if config.proxy_headers else None
        self._reading = False
        self._headers: list[tuple[bytes, bytes]] | None = None
        self._head = b""
        self._begun: tuple[RequestResponseCycle, ASGI3Application] | None = None

    def data_received(self, data: bytes) -> None:
        """Called by the transport."""
        self._reading = True
        try:
            super().data_received(data)
        finally:
            self._reading = False
            if self._begun is not None:
                cycle, app = self._begun
                self._begun = None
                if not self._taken(cycle):
                    super()._start_asgi_task(cycle, app)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        # Called by uvicorn, with the head of a request that no other is before.
        if self._reading:
            self._begun = cycle, app
        else:
            super()._start_asgi_task(cycle, app)

    def _taken(self, cycle: RequestResponseCycle) -> bool:
        if (
            self._take is None
            or cycle.more_body
            or cycle.waiting_for_100_continue
            or self.flow.write_paused
            or self.transport.is_closing()
        ):
            return False
        if self._forwarded is not None:
            _run(self._forwarded(cycle.scope, cycle.receive, cycle.send))
        try:
            return self._take(cast("Scope", cycle.scope), bytes(cycle.body), lambda answer: self._answer(cycle, answer))
        except Exception:  # noqa: BLE001 - nothing is recorded yet: the ordinary way answers, with a 500 if it must
            _lines.exception("the shortcut failed")
            return False

    def _answer(self, cycle: RequestResponseCycle, answer: bytes | Problem) -> None:
        if cycle.disconnected:
            return
        if not isinstance(answer, bytes):
            # A problem is an application that answers with itself.
            cast("Scope", cycle.scope)[BODY_READ] = True
            super()._start_asgi_task(cycle, cast("ASGI3Application", answer))
            return
        cycle.response_started = cycle.response_complete = True
        if cycle.default_headers is not self._headers:
            # uvicorn makes them anew each second, for the date.
            self._headers = cycle.default_headers
            self._head = b"".join([b"%s: %s\r\n" % header for header in cycle.default_headers])
        self.transport.write(OK % (self._head, len(answer), b"" if cycle.keep_alive else CLOSE, answer))
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()


async def _nothing(*_asgi: object) -> None:
    """The application behind a middleware of which only what it does to the scope is wanted."""


def _run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
