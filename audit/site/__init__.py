"""The Datasette plugin: pages that answer at a glance, and who may see what.

Datasette loads it by its entry point. It does something only where metadata.yml configures
it (``plugins: simtrail:``), so another Datasette in the same environment stays as it is, and
without it the same file and description are served plainly.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasette.utils.asgi import NotFound  # type: ignore[import-untyped]
from jinja2 import ChoiceLoader, FileSystemLoader
from pluggy import HookimplMarker

from audit import roles
from audit.site import access, cells, closed, export, headers, login, page, permissions, rows
from audit.site.installation import installation
from audit.site.routes import ROUTES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from audit.site.installation import Datasette, Request

hookimpl = HookimplMarker("datasette")

HTML = Path(__file__).parent / "html"
"""Not Datasette's own name for templates: those would be taken in every Datasette of this environment."""


@hookimpl
def startup(datasette: Datasette) -> None:
    """Hold every connection to what the role of its request may see."""
    if installation(datasette) is not None:
        access.hold(datasette)
        permissions.remember(datasette)
        # Datasette prints of every fault, were it a page that is not there, all variables of all frames where
        # rich is installed: headers with users' tokens among them.
        from datasette import handle_exception  # type: ignore[import-untyped] # noqa: PLC0415 - a plugin, loaded beside this one

        handle_exception.rich = None


@hookimpl
def prepare_jinja2_environment(env: Any, datasette: Datasette) -> None:
    """Add our templates, and the words that they show values with."""
    installed = installation(datasette)
    if installed is None:
        return
    env.loader = ChoiceLoader([FileSystemLoader(HTML), env.loader])
    env.filters |= cells.filters(installed.zone)


@hookimpl
def register_routes(datasette: Datasette) -> list[tuple[str, object]]:
    """Our pages, and the closing of those of Datasette's that tell of the machine."""
    if installation(datasette) is None:
        return []
    return [*ROUTES, *login.ROUTES, *export.ROUTES, *closed.ROUTES, rows.route(datasette)]


@hookimpl
def asgi_wrapper(datasette: Datasette) -> Callable[[Any], Any]:
    """Headers for every answer; and a request begins without a role."""
    if installation(datasette) is None:
        return lambda app: app
    return lambda app: headers.secured(access.begun(app))


@hookimpl(tryfirst=True)
def actor_from_request(datasette: Datasette, request: Request) -> dict[str, str] | None:
    """Who asks; and from here on the request has that one's role."""
    return access.actor(datasette, request)


@hookimpl(trylast=True)  # The last to answer is believed.
def permission_allowed(
    datasette: Datasette, action: str, resource: object
) -> bool | Callable[[], Awaitable[bool]] | None:
    """What the request's role may do; what is not known, nobody may."""
    if installation(datasette) is None:
        return None
    return permissions.permission(datasette, action, resource)


@hookimpl(tryfirst=True)
def forbidden(datasette: Datasette, request: Request, message: str) -> Callable[[], Awaitable[object]] | None:
    """To the login, where that may help; else why not."""
    if installation(datasette) is None:
        return None
    return lambda: login.refused(datasette, request, message)


@hookimpl(tryfirst=True)
def handle_exception(
    datasette: Datasette, request: Request, exception: BaseException
) -> Callable[[], Awaitable[object]] | None:
    """A statement that SQLite refused to the role is not a fault of ours; and what is not there is told on a page as all others."""
    if installation(datasette) is None:
        return None
    if roles.is_refusal(exception):
        return lambda: login.refused(datasette, request, str(exception))
    if isinstance(exception, NotFound) and not request.path.endswith(".json"):
        return lambda: page.not_found(datasette, request, str(exception))
    return None


@hookimpl
def render_cell(value: object, column: str, table: str | None, datasette: Datasette) -> object:
    """Keys as links, times in UTC, money in rubles."""
    installed = installation(datasette)
    return None if installed is None else cells.cell(datasette, value, column, table, installed.zone)


@hookimpl
def extra_template_vars(datasette: Datasette) -> dict[str, object]:
    """What every template may ask."""
    installed = installation(datasette)
    if installed is None:
        return {}
    return {
        "simtrail": True,
        "simtrail_role": access.ROLE.get(),
        "simtrail_has_users": installed.has_users,
        "simtrail_path": lambda kind, key: cells.path(datasette, kind, key),
        "simtrail_page": lambda table, key: cells.page_of(datasette, table, key),
    }


@hookimpl
def menu_links(datasette: Datasette) -> list[dict[str, str]]:
    """Where the menu leads."""
    return [] if installation(datasette) is None else login.links(datasette)
