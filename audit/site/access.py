"""Who asks: the role that a request has, and the connections that are held to it."""

from __future__ import annotations

import sqlite3
from contextvars import ContextVar
from http.cookies import CookieError
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from datasette import actor_auth_cookie  # type: ignore[import-untyped]

from audit import roles
from audit.roles import Role
from audit.site.installation import installation

if TYPE_CHECKING:
    from collections.abc import Callable

    from audit.site.installation import Datasette, Request
    from audit.users import User, Users

ROLE: ContextVar[Role | None] = ContextVar("role", default=None)
"""The role of the request that is being answered; None until it is known, and for one that has none."""

INTERNAL = "_internal"
"""Datasette's own notes in memory, which nobody sees."""

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def begun(app: Any) -> Any:
    """An ASGI application in which each request begins without a role."""

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        token = ROLE.set(None)
        try:
            await app(scope, receive, send)
        finally:
            ROLE.reset(token)

    return asgi


def actor(datasette: Datasette, request: Request) -> dict[str, str] | None:
    """Who asks, as Datasette shows it; sets the role for the rest of the request."""
    installed = installation(datasette)
    if installed is None:
        return None
    role: Role | None = None
    user = None
    if installed.has_users:
        user = _user(datasette, request, installed.users)
        role = user.role if user else None
        if role is None and installed.public and "authorization" not in request.headers:
            role = Role.AUDITOR
    elif installed.public:
        role = Role.AUDITOR
    elif is_loopback(request.host):
        # Whoever is on this machine. The name that was asked for is looked at, since a page
        # of anyone's can have its own name lead to a reader's loopback (DNS rebinding).
        role = Role.ADMIN
    ROLE.set(role)
    return {"id": user.name, "role": user.role.value} if user else None


def is_loopback(host: str) -> bool:
    """Whether a Host header names the machine that the browser runs on."""
    try:
        return urlsplit(f"//{host}").hostname in _LOOPBACK
    except ValueError:
        return False


def hold(datasette: Datasette) -> None:
    """Let every statement of Datasette's, and of ours, read what the request's role may see, and nothing else."""
    for name, database in datasette.databases.items():
        if name != INTERNAL:
            database.execute_fn = _held(database.execute_fn)
    datasette.expand_foreign_keys = _expanded(datasette.expand_foreign_keys)


def _expanded(expand_foreign_keys: Callable[..., Any]) -> Callable[..., Any]:
    """Datasette's labels of keys: a key into a table that the role may not see is its own."""

    async def expand(database: str, table: str, column: str, values: list[object]) -> object:
        try:
            return await expand_foreign_keys(database, table, column, values)
        except sqlite3.DatabaseError as error:
            if not roles.is_refusal(error):
                raise
            return {(column, value): str(value) for value in values}

    return expand


def _held(execute_fn: Callable[..., Any]) -> Callable[..., Any]:
    async def execute(function: Callable[[sqlite3.Connection], object]) -> object:
        role = ROLE.get()

        def as_role(connection: sqlite3.Connection) -> object:
            roles.authorize(connection, role)
            return function(connection)

        return await execute_fn(as_role)

    return execute


def _user(datasette: Datasette, request: Request, users: Users | None) -> User | None:
    if users is None:
        return None
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return users.with_token(token.strip())
    try:
        told = actor_auth_cookie.actor_from_request(datasette, request)
    except (CookieError, ValueError):
        return None
    if not isinstance(told, dict) or not isinstance(told.get("stamp"), str):
        return None
    return users.named(str(told.get("id")), told["stamp"])
