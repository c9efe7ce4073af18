"""Redaction: what of a body is never published.

Secret fields (PIN, PUK, Ki, OPc) at any depth, the secret in a webhook's URL,
and user and password in any URL. The log keeps all of it, as it came.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from schema.aliases import folded
from schema.memo import SHAPES, Memo, keys_fit, scalar_fits
from schema.texts import NUL, NUL_SHOWN

if TYPE_CHECKING:
    from schema.readings import Json

WITHHELD: Final = "(withheld)"
MASK: Final = "***"

BODY_CHARACTERS: Final = 262_144
"""Characters of a published body: a job of a thousand SIM cards fits, and a page or a row can still hold it."""

CUT: Final = "… (cut at {:,} of {:,} characters: the log has the whole)"
CUT_BYTES: Final = "… (cut at {:,} characters of {:,} bytes: the log has the whole)"
UNREADABLE_WITHHELD: Final = (
    "(withheld: these {:,} bytes may hold a PIN, PUK, Ki or OPc, or a secret; the log has them whole)"
)

_SECRET_PREFIXES: Final = ("pin", "puk")
_SECRET_NAMES: Final = frozenset({"ki", "opc"})

# A slash as it stands in text, in JSON that escapes it, once or twice over, and in a URL inside a URL.
_SLASH: Final = r"(?:\\{0,4}/|%2[fF])"
_WEBHOOK: Final = re.compile(rf"(webhooks{_SLASH}+[^\s/]+?{_SLASH}+)[^\s\"'<>]+")
# At most five colons: a text of nothing but beginnings of URLs must not take quadratic time.
_AUTHORITY: Final = rf"(:{_SLASH}{{2}})[^\s/\\\"'<>:]*(?::[^\s/\\\"'<>:]*){{0,5}}"
_USERINFO: Final = re.compile(rf"{_AUTHORITY}@")
_UNFINISHED: Final = re.compile(rf"{_AUTHORITY}\Z")
_SECRET_IN_TEXT: Final = re.compile(
    r"(?<![a-z])(?:p[_\- ]*(?:i[_\- ]*n|u[_\- ]*k)|(?:k[_\- ]*i|o[_\- ]*p[_\- ]*c)(?![a-z]))|\\u(?:00[2-7]|212a)",
    re.IGNORECASE,
)
_WIDE: Final = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
_UNREADABLE_BYTES: Final = 4 * BODY_CHARACTERS + 4_096
"""Bytes of unreadable text that are looked at: enough for `BODY_CHARACTERS`
characters of any size, and for a URL that begins before the cut to end."""


def is_secret(name: str) -> bool:
    """A folded key's value is a secret of the SIM card."""
    return name.startswith(_SECRET_PREFIXES) or name in _SECRET_NAMES


def mask(text: str) -> str:
    """A text with the secrets of its URLs replaced by ``***``."""
    return _USERINFO.sub(rf"\1{MASK}@", _WEBHOOK.sub(rf"\1{MASK}", text))


def mask_urls(value: Json, body: bytes) -> Json:
    """The value of a JSON body with the URL secrets of all its strings and keys masked."""
    if b"@" in body or (b"\\" in body and b"\\u00" in body):
        return _masked(value)
    first = body.find(b"webhooks")
    if first < 0:
        return value
    if type(value) is dict and body.rfind(b"webhooks") == first:
        # The one that every job callback has: no walk for it.
        handler = value.get("handler")
        if isinstance(handler, str) and "webhooks" in handler:
            value["handler"] = _masks[handler]
            return value
    return _masked(value)


def _masked(value: Json) -> Json:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, list):
        return [_masked(entry) for entry in value]
    if isinstance(value, dict):
        return {mask(key): _masked(entry) for key, entry in value.items()}
    return value


def withhold(value: Json, apart: Json = None) -> None:
    """Replace the value of every secret field, at any depth, in place; not in the one object or array ``apart``."""
    if type(value) is dict:
        for key in _secret_keys[tuple(value)]:
            value[key] = WITHHELD
        for entry in value.values():
            if (type(entry) is dict or type(entry) is list) and entry is not apart:
                withhold(entry)
    elif type(value) is list:
        for entry in value:
            if type(entry) is dict or type(entry) is list:
                withhold(entry)


def _secret_among(keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(key for key in keys if is_secret(folded(key)))


_masks: Final = Memo(mask, scalar_fits)
_secret_keys: Final = Memo(_secret_among, keys_fit, SHAPES)


def cut(text: str) -> str:
    """A body's text as it is published: cut at `BODY_CHARACTERS`, saying so."""
    return text if len(text) <= BODY_CHARACTERS else text[:BODY_CHARACTERS] + CUT.format(BODY_CHARACTERS, len(text))


def unreadable_text(body: bytes) -> str:
    """Bytes that are not JSON, as text that may be published: withheld whole if they may hold a secret field."""
    start = body[:_UNREADABLE_BYTES]
    text = start.decode("utf-8", "replace")
    if _SECRET_IN_TEXT.search(text) or (b"\0" in start and _is_secret_in_wide_text(start)):
        return UNREADABLE_WITHHELD.format(len(body))
    # What ends in the middle of a URL may end in the middle of its password.
    shown = _UNFINISHED.sub(rf"\1{MASK}", mask(text)).replace(NUL, NUL_SHOWN)
    if len(shown) > BODY_CHARACTERS:
        return shown[:BODY_CHARACTERS] + CUT_BYTES.format(BODY_CHARACTERS, len(body))
    return shown


def _is_secret_in_wide_text(body: bytes) -> bool:
    """Bytes with NULs may hold a secret that a reader sees and UTF-8 doesn't: read as any encoding of wide characters."""
    texts = [body.replace(b"\0", b"").decode("utf-8", "replace")]
    texts += [body.decode(encoding, "replace") for encoding in _WIDE]
    return any(_SECRET_IN_TEXT.search(text) or mask(text) != text for text in texts)
