"""HTTP/1.1 as the receiver speaks it: uvicorn's, less one way to lose a body."""

from __future__ import annotations

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol, deaf to offers of another one.

    A server may ignore `Upgrade` and answer as if it were not there (RFC 9110 §7.8). The
    parser can't: it takes a request that offers one to end with its head, and
    uvicorn then drops the body, or reads it as the next request. Java's HTTP client
    makes such an offer (h2c) with each first POST to an ``http:`` URL. So a head with an
    offer is parsed once more without it.
    """

    _offered = False

    def data_received(self, data: bytes) -> None:
        """Called by the transport."""
        self._unset_keepalive_if_required()
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                after_head: int = offer.args[0]
                data = self._head_without_offer() + data[after_head:]
                self.parser = httptools.HttpRequestParser(self)
            except httptools.HttpParserError:
                self.logger.warning("Invalid HTTP request received.")
                self.send_400_response("Invalid HTTP request received.")
                return
            else:
                return

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        # CONNECT is an upgrade by its method; uvicorn refuses it, since it has no path.
        self._offered = self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"
        if not self._offered:
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if not self._offered:
            super().on_message_complete()

    def _head_without_offer(self) -> bytes:
        version = self.parser.get_http_version().encode()
        headers = [b"%s: %s\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        return b"%s %s HTTP/%s\r\n%s\r\n" % (self.parser.get_method(), self.url, version, b"".join(headers))
