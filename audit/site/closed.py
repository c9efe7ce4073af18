"""Pages of Datasette's that are closed: those that tell of the machine, and those that are for its developers.

What is open under ``/-/`` is listed; all else there is not published, also what a later
version of Datasette adds.
"""

from __future__ import annotations

from typing import NoReturn

from datasette.utils.asgi import NotFound  # type: ignore[import-untyped]

OPEN = r"(?:static|static-plugins)/.+|(?:login|logout)|export(?:\.zip)?|(?:actor|versions)(?:\.json)?"
"""Files for the browser, logging in and out, exports, who one is, and which versions answer."""


async def closed() -> NoReturn:
    """Not found, for everybody."""
    msg = "This page of Datasette's is not published: it tells of the machine, not of the audit"
    raise NotFound(msg)


ROUTES = ((rf"^/-/(?!(?:{OPEN})$)", closed),)
