"""A page of ours: what it reads, in one transaction, and how it is answered."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from datasette.utils import sqlite_timelimit, tilde_decode  # type: ignore[import-untyped]
from datasette.utils.asgi import Forbidden, NotFound, Response  # type: ignore[import-untyped]

from audit.site import headers
from audit.site.access import ROLE
from schema.tables import PROJECTION

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from audit.site.installation import Datasette, Request

_Read = TypeVar("_Read")
_Given = TypeVar("_Given")

Row = Any
"""A row of SQLite's, by the names of its columns."""


@dataclass(frozen=True)
class Reached:
    """The position that a page stands for, and when its event was received."""

    position: int
    received_at: str | None


def require_role() -> None:
    """Raise Datasette's Forbidden for a request that has no role."""
    if ROLE.get() is None:
        msg = "not logged in"
        raise Forbidden(msg)


async def read(datasette: Datasette, reading: Callable[[sqlite3.Connection], _Read]) -> tuple[_Read, Reached]:
    """What a function reads of the read model as it is at one position, and that position.

    The connection is held to the request's role. Raises Datasette's Forbidden without
    one, sqlite3.OperationalError where it takes longer than a statement may.
    """
    require_role()
    limit_ms = datasette.setting("sql_time_limit_ms")

    def in_one_transaction(connection: sqlite3.Connection) -> tuple[_Read, Reached]:
        with sqlite_timelimit(connection, limit_ms):
            connection.execute("BEGIN")
            try:
                row = connection.execute(
                    "SELECT position, received_at FROM tracking WHERE projection = ?", (PROJECTION,)
                ).fetchone()
                return reading(connection), Reached(*row) if row else Reached(0, None)
            finally:
                connection.rollback()

    result: tuple[_Read, Reached] = await datasette.get_database().execute_fn(in_one_transaction)
    return result


def key_of(request: Request, name: str = "key") -> str:
    """A key as it stands in the path."""
    return str(tilde_decode(request.url_vars[name]))


def after_of(request: Request) -> tuple[int, int] | None:
    """Where a list is to go on: the position and item that its last page ended with; None for its beginning."""
    position, _, item = (request.args.get("before") or "").partition(",")
    try:
        return int(position), int(item)
    except ValueError:
        return None


async def in_thread(function: Callable[[_Given], _Read], given: _Given) -> _Read:
    """What a function that waits for a disk or a server gives, while other requests are answered."""
    return await asyncio.to_thread(function, given)


def found(read: _Read | None, what: str) -> _Read:
    """What was read. Raises Datasette's NotFound, which says what is not there, where that is nothing."""
    if read is None:
        msg = f"{what}: there is none, or not yet"
        raise NotFound(msg)
    return read


async def rendered(
    datasette: Datasette,
    request: Request,
    template: str,
    context: dict[str, object],
    status: HTTPStatus = HTTPStatus.OK,
) -> object:
    """The answer to a request: a template of ours, filled in."""
    html = await datasette.render_template(template, context, request=request)
    return Response.html(html, status=status.value, headers={headers.POLICY.decode(): headers.OURS})


async def not_found(datasette: Datasette, request: Request, message: str) -> object:
    """The answer where there is no page: what is not there, and the way on. Of a path that is no page's, Datasette says that it is no database."""
    no_page = message == "404" or message.startswith("Database not found")
    why = f"There is no page at {request.path}" if no_page else f"{message[:1].upper()}{message[1:]}"
    return await rendered(datasette, request, "simtrail-not-found.html", {"why": why}, HTTPStatus.NOT_FOUND)


async def missing(datasette: Datasette, request: Request, kind: str, key: str) -> object:
    """The answer where there is no sim, job, bill, delivery or file of that key: how keys look, and where to search."""
    part = key.rpartition(":")[2] or key
    context: dict[str, object] = {"kind": kind, "key": key, "part": part}
    return await rendered(datasette, request, "simtrail-missing.html", context, HTTPStatus.NOT_FOUND)
