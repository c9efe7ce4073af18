"""Where a log is kept: a file, or a database on a server; as ``--log`` names it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote, unquote, urlsplit

from schema.errors import ConfigurationError

FILE = "sqlite"
SERVER = ("postgresql", "postgres")


@dataclass(frozen=True)
class Server:
    """A database on PostgreSQL, by its URL as libpq reads it. Shown without what may be secret in it."""

    url: str = field(repr=False)

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        login, at, hosts = parts.netloc.rpartition("@")
        return f"{parts.scheme}://{login.partition(':')[0]}{at}{hosts}{parts.path}"


Place: TypeAlias = Path | Server


def place(url: str) -> Place:
    """The place that a URL names: ``sqlite:///`` with a file's path after it, or ``postgresql://``.

    Raises `ConfigurationError` for any other.
    """
    scheme, _, rest = url.partition("://")
    if scheme == FILE and rest.startswith("/") and rest.strip("/"):
        # Four slashes begin an absolute path: the third ends a host that is not there.
        return Path(unquote(rest[1:]))
    if scheme in SERVER:
        return Server(url)
    # No more of it: what is mistyped may hold a password.
    msg = (
        f"{url.partition(':')[0]!r} is no place for a log: it is sqlite:///PATH (sqlite:////PATH from the root) "
        "or postgresql://USER@HOST/DATABASE"
    )
    raise ConfigurationError(msg)


def url(place: Place) -> str:
    """The URL that names a place; what is secret in it too."""
    return place.url if isinstance(place, Server) else f"{FILE}:///{quote(str(place.absolute()))}"
