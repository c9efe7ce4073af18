"""The export as a download: what `simtrail export` writes, streamed as one archive to who may have it."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from audit import archive, roles
from audit.export import prepare
from audit.formats import FORMATS
from audit.selection import EVENTS, PARTS, PERSONAL, is_ranged, moment, select
from audit.site import page
from audit.site.access import ROLE
from audit.site.installation import installation
from schema.errors import ConfigurationError, SimtrailError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from audit.export import Export
    from audit.extract import Chunk
    from audit.folder import DataFolder
    from audit.formats import Format
    from audit.selection import Selection
    from audit.site.installation import Datasette, Request

AT_A_TIME: Final = 2
"""Exports that are streamed at once: each takes a thread, and keeps SQLite from reusing its write-ahead log."""

PIECE_BYTES: Final = 256 * 1024
"""Bytes sent at a time, at least: each piece is a turn of a thread."""

_running: set[ExitStack] = set()


async def form(datasette: Datasette, request: Request) -> object:
    """The page that asks what to export."""
    return await _form(datasette, request, "", HTTPStatus.OK)


async def _form(datasette: Datasette, request: Request, problem: str, status: HTTPStatus) -> object:
    """The same, which says what went wrong where something did."""
    page.require_role()
    folder = _folder(datasette)
    allowed = _allowed()
    sources, reached = await page.read(
        datasette,
        lambda connection: [name for (name,) in connection.execute("SELECT source FROM accounts ORDER BY source")],
    )
    context = {
        "reached": reached,
        "problem": problem,
        "asked": {name: request.args.get(name) or "" for name in ("from", "to", "source", "format")},
        "chosen": request.args.getlist("tables"),
        "sources": sources,
        "formats": list(FORMATS),
        "ranged": [part for part in PARTS if part in allowed and is_ranged(part)],
        "whole": [part for part in PARTS if part in allowed and not is_ranged(part)],
        "personal": EVENTS in allowed,
        "served": folder is not None,
    }
    return await page.rendered(datasette, request, "simtrail-export.html", context, status)


async def download(datasette: Datasette, request: Request, receive: Callable[[], Any]) -> object:
    """The archive; or the form again, with what is wrong."""
    page.require_role()
    folder = page.found(_folder(datasette), "an export of a Datasette that was started by hand")
    if len(_running) >= AT_A_TIME:
        problem = f"{AT_A_TIME} exports are under way, which is as many as may be: try again later"
        return await _form(datasette, request, problem, HTTPStatus.SERVICE_UNAVAILABLE)
    stack = ExitStack()
    _running.add(stack)
    stack.callback(_running.discard, stack)
    try:
        selection, chosen = _asked(request)
        made = await asyncio.to_thread(_prepared, stack, folder, selection, chosen)
    except BaseException as error:
        await asyncio.to_thread(stack.close)
        if not isinstance(error, SimtrailError):
            raise
        status = HTTPStatus.BAD_REQUEST if isinstance(error, ConfigurationError) else HTTPStatus.CONFLICT
        return await _form(datasette, request, str(error), status)
    return _Stream(stack, made, receive)


ROUTES = ((r"^/-/export$", form), (r"^/-/export\.zip$", download))


class _Stream:
    """An answer whose bytes come about as they are sent; it owns what it reads from.

    What goes wrong on the way ends the connection before the answer is complete, and the
    archive before its list: neither can be taken for a whole export.
    """

    def __init__(self, stack: ExitStack, made: Export, receive: Callable[[], Any]) -> None:
        self._stack = stack
        self._made = made
        self._receive = receive

    async def asgi_send(self, send: Callable[[dict[str, object]], Any]) -> None:
        """Called by Datasette."""
        gone = asyncio.create_task(_gone(self._receive))
        try:
            await send({"type": "http.response.start", "status": HTTPStatus.OK.value, "headers": self._headers()})
            scratch = self._stack.enter_context(TemporaryDirectory(prefix="simtrail-export-"))
            pieces = self._stack.enter_context(closing(_pieces(archive.pack(self._made.entries(Path(scratch))))))
            while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                if gone.done():
                    return
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            # Before its end is told: whoever has all of it may ask for the next at once.
            await asyncio.to_thread(self._stack.close)
            await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()
            await asyncio.to_thread(self._stack.close)

    def _headers(self) -> list[tuple[bytes, bytes]]:
        name = f"simtrail-{self._made.created[:10]}-position-{self._made.snapshot.position}.zip"
        return [
            (b"content-type", b"application/zip"),
            (b"content-disposition", f'attachment; filename="{name}"'.encode()),
            (b"cache-control", b"private, no-store"),
        ]


async def _gone(receive: Callable[[], Any]) -> None:
    """Return once nobody waits for the answer any more."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _pieces(chunks: Generator[Chunk]) -> Generator[bytes]:
    """What chunks bring, in pieces that are worth sending."""
    with closing(chunks):
        waiting: list[bytes] = []
        size = 0
        for chunk in chunks:
            waiting.append(chunk.data)
            size += len(chunk.data)
            if size >= PIECE_BYTES:
                yield b"".join(waiting)
                waiting.clear()
                size = 0
        yield b"".join(waiting)


def _prepared(stack: ExitStack, folder: DataFolder, selection: Selection, chosen: Format) -> Export:
    made = stack.enter_context(prepare(folder.read_model, folder.log, selection, chosen, now=datetime.now(UTC)))
    # What was selected is what the role may have; SQLite holds it to that too.
    roles.authorize(made.snapshot.connection, ROLE.get())
    return made


def _asked(request: Request) -> tuple[Selection, Format]:
    """What a request asks for. Raises `ConfigurationError` for what can't be."""
    given: dict[str, str | None] = {name: request.args.get(name) or None for name in ("from", "to", "source", "format")}
    names = {name for told in request.args.getlist("tables") for name in told.split(",") if name}
    name = given["format"] or "csv"
    if name not in FORMATS:
        msg = f"{name!r} is no format: {', '.join(FORMATS)} are"
        raise ConfigurationError(msg)
    since, until = (moment(text) if (text := given[bound]) else None for bound in ("from", "to"))
    chosen = select(names or None, allowed=_allowed(), since=since, until=until, source=given["source"])
    return chosen, FORMATS[name]


def _allowed() -> frozenset[str]:
    """The parts that the request's role may have."""
    role = ROLE.get()
    if role is None:
        return frozenset()
    return frozenset(PARTS) if role.personal else frozenset(PARTS) - PERSONAL


def _folder(datasette: Datasette) -> DataFolder | None:
    installed = installation(datasette)
    return installed.folder if installed else None
