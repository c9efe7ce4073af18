"""HTTP/1.1 as the receiver speaks it: uvicorn's, less one way to lose a body, and with bounds of bytes and time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import httptools
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ingest.limits import ANSWER_S, BODY_WINDOW_BYTES, BODY_WINDOW_S, HEAD_BYTES, HEAD_S
from ingest.problems import HEAD_TOO_LARGE, NOT_HTTP, TOO_SLOW

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from ingest.counts import Cause
    from ingest.problems import Problem

Awaited = Literal["head", "body", "reader"]
"""What a connection may be kept waiting for by its sender: a head, more of a body, or that it reads what it was sent."""


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol, deaf to offers of another one, and not to be held for ever.

    A server may ignore `Upgrade` and answer as if it were not there (RFC 9110 §7.8). The
    parser can't: it takes a request that offers one to end with its head, and
    uvicorn then drops the body, or reads it as the next request. Java's HTTP client
    makes such an offer (h2c) with each first POST to an ``http:`` URL. So a head with an
    offer is parsed once more without it.

    The parser keeps whatever it has of a head, or of a body's trailers, until it is whole; so that is
    bounded here. `look_at_clock` ends what takes too long.
    """

    _offered = False
    _packet_bytes = 0
    _head_bytes = 0
    """Of the head, or of what is not body, that the parser has before the packet at hand."""
    _went_on = False
    """Whether the packet at hand has brought more of a body, or the end of a message."""
    _received_bytes = 0
    _since = 0.0
    _received_before = 0
    _awaited: tuple[Awaited, object] | None = None

    def data_received(self, data: bytes) -> None:
        """Called by the transport."""
        self._unset_keepalive_if_required()
        self._packet_bytes = len(data)
        self._received_bytes += self._packet_bytes
        self._went_on = False
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                after_head: int = offer.args[0]
                data = self._head_without_offer() + data[after_head:]
                self.parser = httptools.HttpRequestParser(self)
            except httptools.HttpParserError as error:
                if isinstance(error.__context__, _TooLargeError):
                    self._refuse(HEAD_TOO_LARGE, "head_too_large")
                else:
                    self._refuse(NOT_HTTP, "malformed")
                return
            else:
                break
        self._head_bytes = 0 if self._went_on else self._head_bytes + self._packet_bytes
        if self._head_bytes > HEAD_BYTES:
            self._refuse(HEAD_TOO_LARGE, "head_too_large")

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        # Mostly it is small for certain, by the bytes that there are.
        if self._head_bytes + self._packet_bytes > HEAD_BYTES and self._size_of_head() > HEAD_BYTES:
            raise _TooLargeError
        # CONNECT is an upgrade by its method; uvicorn refuses it, since it has no path.
        self._offered = self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"
        if not self._offered:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._went_on = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._went_on = True
        if not self._offered:
            super().on_message_complete()

    def look_at_clock(self, now: float) -> None:
        """End the connection if its sender lets it wait for too long. Called about once a second, with seconds of any origin."""
        awaited = self._awaits()
        if awaited is None or self._awaited is None or awaited != self._awaited:
            self._awaited, self._since, self._received_before = awaited, now, self._received_bytes
            return
        waited_s = now - self._since
        match awaited[0]:
            case "reader" if waited_s >= ANSWER_S:
                self.transport.abort()
            case "head" if waited_s >= HEAD_S:
                self._refuse(TOO_SLOW, "too_slow")
            case "body" if waited_s >= BODY_WINDOW_S:
                if self._received_bytes - self._received_before < BODY_WINDOW_BYTES:
                    self._refuse(TOO_SLOW, "too_slow")
                self._since, self._received_before = now, self._received_bytes

    def _awaits(self) -> tuple[Awaited, object] | None:
        """What the sender lets the connection wait for, and of which request; None where it waits for us, or may be idle."""
        # None until the first request, whatever uvicorn declares.
        cycle: RequestResponseCycle | None = self.cycle
        if self.transport.is_closing() or self.flow.write_paused:
            return "reader", None
        if cycle is None or cycle.response_complete:
            # Between two requests uvicorn has a timer of its own, until the first byte comes.
            return None if self.timeout_keep_alive_task else ("head", cycle)
        if cycle.response_started:
            return "reader", cycle
        return ("body", cycle) if cycle.more_body and not self.flow.read_paused else None

    def _refuse(self, problem: Problem, cause: Cause) -> None:
        """End the connection; answer, if there is no other request whose answer this could be taken for."""
        if self.transport.is_closing():
            return
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            ours = self._received_bytes > 0
        else:
            ours = cycle.scope is self.scope and cycle.more_body and not cycle.response_started
        if ours:
            if isinstance(self.config.app, Starlette):
                self.config.app.state.counts.refuse(cause)
            self.transport.write(problem.as_sent())
        self.transport.close()

    def _size_of_head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _head_without_offer(self) -> bytes:
        version = self.parser.get_http_version().encode()
        headers = [b"%s: %s\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        return b"%s %s HTTP/%s\r\n%s\r\n" % (self.parser.get_method(), self.url, version, b"".join(headers))


class _TooLargeError(Exception):
    """Raised through the parser: the head that it has just parsed is too large."""
