"""Headers of every answer: what a browser may do with it, and cookies that stay where they belong."""

from __future__ import annotations

from typing import Any

OURS = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; font-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Our pages: nothing but our own files, no script or style in the page itself, no frame around it."""

DATASETTES = (
    "default-src 'none'; style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Datasette's own pages have scripts and styles in them; they too load nothing from elsewhere, and send nothing there."""

FILE = "default-src 'none'; style-src 'unsafe-inline'; sandbox; base-uri 'none'; frame-ancestors 'none'"
"""A sender's file: it runs nothing, loads nothing, and belongs to no site. The style is the browser's own, for a picture."""

POLICY = b"content-security-policy"

_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


def secured(app: Any) -> Any:
    """An ASGI application whose answers carry these headers, where they don't say otherwise themselves."""

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        over_tls = scope.get("scheme") == "https"

        async def secure(message: Any) -> None:
            if message["type"] == "http.response.start":
                given = [(name.lower(), value) for name, value in message.get("headers", [])]
                names = {name for name, _ in given}
                given = [(name, _kept(value, over_tls) if name == b"set-cookie" else value) for name, value in given]
                added = [header for header in (*_ALWAYS, (POLICY, DATASETTES.encode())) if header[0] not in names]
                message = {**message, "headers": [*given, *added]}
            await send(message)

        await app(scope, receive, secure)

    return asgi


def _kept(cookie: bytes, over_tls: bool) -> bytes:  # noqa: FBT001 - a fact of the request
    """A cookie that no script reads, no other site sends and, once there is TLS, no open wire carries."""
    attributes = {part.strip().partition(b"=")[0].lower() for part in cookie.split(b";")[1:]}
    if b"httponly" not in attributes:
        cookie += b"; HttpOnly"
    if b"samesite" not in attributes:
        cookie += b"; SameSite=Lax"
    if over_tls and b"secure" not in attributes:
        cookie += b"; Secure"
    return cookie
