"""One file that came with a delivery: a few types open in the browser, all others are kept."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from datasette.utils.asgi import Response  # type: ignore[import-untyped]

from audit.site import headers, page

if TYPE_CHECKING:
    import sqlite3

    from audit.site.installation import Datasette, Request
    from audit.site.page import Row

OPENS = {
    b"%PDF-": ("application/pdf", "pdf"),
    b"\x89PNG\r\n\x1a\n": ("image/png", "png"),
    b"\xff\xd8\xff": ("image/jpeg", "jpg"),
}
"""What opens in the browser, by how its content begins: what a sender calls it proves nothing."""

KEPT = ("application/octet-stream", "bin")

NAME_DIGITS = 16
"""Digits of the hash in a file's name: ours, since the sender's could be anything."""


async def file(datasette: Datasette, request: Request) -> object:
    """The content, with its own hash as its name."""
    sha256 = page.key_of(request)
    row, _ = await page.read(datasette, lambda connection: read(connection, sha256))
    if row is None:
        return await page.missing(datasette, request, "file", sha256)
    content = bytes(row["content"])
    opens = next((told for begins, told in OPENS.items() if content.startswith(begins)), None)
    media_type, suffix = opens or KEPT
    disposition = "inline" if opens and "download" not in request.args else "attachment"
    given = {
        "content-disposition": f'{disposition}; filename="simtrail-{sha256[:NAME_DIGITS]}.{suffix}"',
        headers.POLICY.decode(): headers.FILE,
    }
    return Response(content, HTTPStatus.OK.value, given, media_type)


def read(connection: sqlite3.Connection, sha256: str) -> Row:
    """The file's row; None where there is none."""
    return connection.execute("SELECT content FROM files WHERE sha256 = ?", (sha256,)).fetchone()
