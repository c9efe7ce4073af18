"""Files: the elements of a body's ``files``, decoded and taken out of it."""

from __future__ import annotations

import binascii
import re
from typing import TYPE_CHECKING, Final

from schema.readings import File
from schema.texts import plain

if TYPE_CHECKING:
    from schema.readings import Json

TAKEN: Final = "(base64, {:,} characters)"
"""What stands in a published body where a file's content stood."""

_BASE64: Final = re.compile(r"[A-Za-z0-9+/]*")
_WHITESPACE: Final = str.maketrans("", "", " \t\n\r\f\v")
_URL_SAFE: Final = str.maketrans("-_", "+/")
_GROUP: Final = 4
"""Characters of base64 that make three bytes (RFC 4648 §4)."""


def take_files(body: dict[str, Json], anomalies: list[str]) -> tuple[File, ...]:
    """The files of a body, in order; their contents are replaced in the body by `TAKEN`."""
    entries = body.get("files")
    if not isinstance(entries, list):
        if "files" in body:
            anomalies.append("files_not_array")
        return ()
    files: list[File] = []
    for index, entry in enumerate(entries):
        if isinstance(entry, dict):
            files.append(_file(entry, anomalies))
        else:
            if isinstance(entry, str):
                entries[index] = TAKEN.format(len(entry))
            anomalies.append("file_not_object")
            files.append(File(None, None, None))
    return tuple(files)


def content(text: str) -> bytes | None:
    """The bytes of base64 (RFC 4648 §4 or §5), None if it is none.

    White space may stand anywhere and the padding may be missing, as many
    senders have it; anything else that is not of the alphabet is refused.
    """
    text = text.translate(_WHITESPACE).translate(_URL_SAFE)
    digits = text.rstrip("=")
    missing = -len(digits) % _GROUP
    if missing == _GROUP - 1 or len(text) - len(digits) not in {0, missing} or not _BASE64.fullmatch(digits):
        return None
    return binascii.a2b_base64(digits + "=" * missing)


def _file(entry: dict[str, Json], anomalies: list[str]) -> File:
    if entry.get("type") != "base64":
        anomalies.append("file_type")
    name, flaws = plain(entry.get("name"))
    media_type, more = plain(entry.get("format"))
    anomalies += (*flaws, *more)
    body = entry.get("body")
    decoded: bytes | None = None
    if isinstance(body, str):
        decoded = content(body)
        entry["body"] = TAKEN.format(len(body))
    if decoded is None:
        anomalies.append("file_base64")
    return File(name, media_type, decoded)
