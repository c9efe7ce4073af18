"""A request's headers: which are kept with the event, and the secret that one may hold."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from ingest.limits import HEADER_CHARS

if TYPE_CHECKING:
    from collections.abc import Iterable

KEPT = {
    name.encode(): name
    for name in (
        "content-encoding",
        "content-length",
        "content-type",
        "date",
        "user-agent",
        "x-forwarded-for",
        "x-request-id",
    )
}
"""The headers kept with an event: what the body is and who says to have sent it when.
Never one that may hold a credential (`authorization`, `cookie`, `referer`)."""

_TAB = 9


class _Harmless(dict[int, str]):
    """Each character that is not to be shown (controls, NUL, DEL) becomes U+FFFD, a tab a space."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if not character.isprintable():
            character = " " if code == _TAB else "\N{REPLACEMENT CHARACTER}"
        self[code] = character
        return character


_HARMLESS = _Harmless()


def harmless(text: str) -> str:
    """The text without control characters, at most `HEADER_CHARS` of it."""
    text = text[:HEADER_CHARS]
    return text if text.isprintable() else text.translate(_HARMLESS)


def kept(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Those that the log keeps, harmless; repeated ones joined by commas (RFC 9110 §5.3)."""
    found: dict[str, str] = {}
    for key, value in headers:
        name = KEPT.get(key)
        if name is not None:
            text = value.decode("latin-1")
            found[name] = harmless(f"{found[name]}, {text}" if name in found else text)
    return found


def secret_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The password of `Authorization: Basic` (RFC 7617) or the token of `Bearer` (RFC 6750).

    Empty, which is nobody's secret, where there is none. The user name of `Basic` is
    not looked at: the URL names the source, and a sender's form may insist on any.
    """
    authorization = next((value for name, value in headers if name == b"authorization"), b"")
    scheme, _, value = authorization.partition(b" ")
    value = value.strip(b" ")
    match scheme.lower():
        case b"bearer":
            return value.decode("latin-1")
        case b"basic":
            try:
                return base64.b64decode(value, validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                return ""
        case _:
            return ""
