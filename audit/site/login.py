"""Logging in, and what is said to those who may not see a page."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote

from datasette.utils import baseconv  # type: ignore[import-untyped]
from datasette.utils.asgi import Response  # type: ignore[import-untyped]

from audit.site.access import ROLE, is_loopback
from audit.site.installation import installation
from audit.site.page import rendered

if TYPE_CHECKING:
    from audit.site.installation import Datasette, Request
    from audit.users import User

SESSION_S = 12 * 3600
"""A working day: then one logs in anew."""

GUESSES_AT_A_TIME = 2
"""Passwords that are checked at once: each takes a tenth of a second of a core, and 32 MiB."""

_turns = asyncio.Semaphore(GUESSES_AT_A_TIME)


async def login(datasette: Datasette, request: Request) -> object:
    """The form, and the answer to it."""
    installed = installation(datasette)
    users = installed.users if installed else None
    after = _local(request.args.get("next"))
    if users is None or not users.are_any:
        return Response.redirect(datasette.urls.path("/"))
    if request.scheme != "https" and not is_loopback(request.host):
        return await rendered(datasette, request, "simtrail-login.html", {"insecure": True}, HTTPStatus.FORBIDDEN)
    if request.method != "POST":
        return await rendered(datasette, request, "simtrail-login.html", {"next": after})
    form = await request.post_vars()
    name = form.get("username", "").strip().lower()
    async with _turns:
        user = await asyncio.to_thread(users.with_password, name, form.get("password", ""))
    if user is None:
        context = {"next": after, "failed": True, "username": name}
        return await rendered(datasette, request, "simtrail-login.html", context, HTTPStatus.UNAUTHORIZED)
    response = Response.redirect(datasette.urls.path(after))
    response.set_cookie("ds_actor", _session(datasette, user), max_age=SESSION_S, httponly=True, samesite="lax")
    return response


async def refused(datasette: Datasette, request: Request, message: str) -> object:
    """What who may not see a page gets: the login if nobody is logged in, else why not."""
    installed = installation(datasette)
    role = ROLE.get()
    wants_page = "text/html" in request.headers.get("accept", "") and not request.path.endswith(".json")
    status = HTTPStatus.FORBIDDEN
    if role is not None:
        why = f"Your role, {role.value}, does not see this ({message})"
    elif installed is not None and not installed.has_users:
        why = (
            f"this simtrail has no users, so it answers to the machine that it runs on, not to {request.host}: "
            "`simtrail users add` makes one, `simtrail publish --public` lets anyone look"
        )
    elif wants_page and request.method == "GET":
        return Response.redirect(datasette.urls.path(f"/-/login?next={quote(request.full_path, safe='')}"))
    else:
        why, status = "log in, or send a token: Authorization: Bearer TOKEN", HTTPStatus.UNAUTHORIZED
    headers = {"WWW-Authenticate": 'Bearer realm="simtrail"'} if status is HTTPStatus.UNAUTHORIZED else {}
    if not wants_page:
        told = {"ok": False, "error": why, "status": status.value}
        return Response.json(told, status=status.value, headers=headers)
    return await rendered(datasette, request, "simtrail-refused.html", {"why": why}, status)


def links(datasette: Datasette) -> list[dict[str, str]]:
    """For the menu: the way in, where there is one and nobody is in."""
    installed = installation(datasette)
    if installed is None or not installed.has_users or ROLE.get() is not None:
        return []
    return [{"href": datasette.urls.path("/-/login"), "label": "Log in"}]


def _session(datasette: Datasette, user: User) -> str:
    ends = baseconv.base62.encode(int(time.time()) + SESSION_S)
    signed: str = datasette.sign({"a": {"id": user.name, "stamp": user.stamp}, "e": ends}, "actor")
    return signed


def _local(path: str | None) -> str:
    """A path of this site, or its front: never another's address."""
    if not path or not path.startswith("/") or path[1:2] in {"/", "\\"} or not path.isprintable():
        return "/"
    return path


ROUTES = ((r"^/-/login$", login),)
