"""Publishing: how Datasette is run, as a process of its own, on the read model alone.

What is relied on, read in the source of Datasette 0.65.5 and pinned by tests:

- A file named without ``--immutable`` is opened ``mode=ro``, one connection a
  thread, kept open. Each statement is a transaction of its own, so pages follow
  what the projector commits, and the step in which a rebuild's backup replaces
  the whole content, without a restart. ``--immutable`` would miss the WAL.
- A connection that may write is opened only for a canned query that says
  ``write``; ours say no such thing. The pages under ``/-/`` that take a POST set
  cookies and touch no file. Its own notes are kept in memory.
- A read-only connection never checkpoints. It needs the ``-shm`` file beside the
  database, and makes it where the projector doesn't run: the folder must be
  writable by whoever publishes.
- The path is put into SQLite's URI as it is: see `_check_path`.
- The secret that cookies are signed with is taken from the environment, where no
  list of processes shows it, as this process sets it for itself.
"""

from __future__ import annotations

import ipaddress
import json
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from audit import users
from projections.read_model import open_to_read, tracked
from schema import log_place
from schema.errors import ConfigurationError, ReadModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from audit.folder import DataFolder

NAME = "audit"
"""The live read model's name in the description: that of its file."""

SQL_TIME_LIMIT_MS = 3_000
"""A statement at most: the slowest query of ours that is meant to be asked, a busy
month's activity, takes about two seconds; a reader must not hold the WAL for long."""

FACET_TIME_LIMIT_MS = 1_000
"""A facet at most: counting five million rows by an index takes less; Datasette's own
200 ms would leave facets out of the larger tables."""

SQL_THREADS = 4
"""Statements that run at a time: some slow ones must leave room for quick ones."""

PAGE_ROWS = 100
"""Rows on a table's page, where metadata.yml says nothing else."""

RETURNED_ROWS = 500
"""Rows of a query at most: a page of them takes a tenth of a second, nearly all of it to write
the HTML, in which no other page is answered. What is cut off is said on the page; an export is whole."""

CACHE_S = 0
"""An auditor who reloads a page must see what is true now."""

SETTINGS = {
    "sql_time_limit_ms": str(SQL_TIME_LIMIT_MS),
    "facet_time_limit_ms": str(FACET_TIME_LIMIT_MS),
    "num_sql_threads": str(SQL_THREADS),
    "default_page_size": str(PAGE_ROWS),
    "max_returned_rows": str(RETURNED_ROWS),
    "default_cache_ttl": str(CACHE_S),
    # Suggesting facets tries every column of every table: 1.6 s a page at five million rows.
    "suggest_facets": "off",
    # A copy taken while the projector writes is no copy: exports are made by simtrail.
    "allow_download": "off",
}


def publish_command(audit_db: Path, metadata: Path, host: str, port: int, beside: Sequence[Path] = ()) -> list[str]:
    """The argv of Datasette, serving the read model, and those beside it, at this host and port, and nothing else.

    Raises `ReadModelError` where there is no read model, `ConfigurationError`
    where Datasette can't be given its path, or two would have one name.
    """
    for path in (audit_db, *beside):
        _check_path(path)
        if tracked(path) is None:
            remedy = (
                "`simtrail project` or `simtrail serve` makes one" if path is audit_db else "`simtrail asof` makes one"
            )
            msg = f"there is no read model at {path}: {remedy}"
            raise ReadModelError(msg)
    for name, count in Counter(path.stem for path in (audit_db, *beside)).items():
        if count > 1:
            msg = f"two read models can't both be published as {name}, their files' name: rename one"
            raise ConfigurationError(msg)
    settings = [word for name, value in SETTINGS.items() for word in ("--setting", name, value)]
    return [
        sys.executable,
        "-P",  # Python looks for modules in the working directory otherwise.
        "-m",
        "datasette",
        "serve",
        *(str(path.absolute()) for path in (audit_db, *beside)),
        "--metadata",
        str(metadata.absolute()),
        "--host",
        host,
        "--port",
        str(port),
        *settings,
    ]


def environment(folder: DataFolder, *, public: bool, entropy: Callable[[int], bytes]) -> dict[str, str]:
    """What Datasette and our plugin in it take from the environment: names that metadata.yml refers to.

    Raises `ConfigurationError` where the secret for cookies can't be kept.
    """
    return {
        "SIMTRAIL_DATA": str(folder.path.absolute()),
        "SIMTRAIL_LOG": log_place.url(folder.log),
        "SIMTRAIL_PUBLIC": "1" if public else "",
        "DATASETTE_SECRET": users.cookie_secret(folder.cookie_secret, entropy=entropy),
    }


def require_users(folder: DataFolder, host: str, *, public: bool) -> None:
    """Raise `ConfigurationError` where Datasette would be open to other machines without anyone having said so."""
    if public or is_loopback(host) or users.listed(folder.users):
        return
    msg = (
        f"at {host!r} Datasette would be open to whoever reaches it: `simtrail users add NAME` makes a user "
        "to log in, --public lets anyone see what an auditor sees"
    )
    raise ConfigurationError(msg)


def is_loopback(host: str) -> bool:
    """Whether an address to listen at is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def described(metadata: Path, beside: Sequence[Path]) -> bytes:
    """Datasette's description with each read model beside the live one described as that is, and by what it stands for."""
    from datasette.utils import parse_metadata  # type: ignore[import-untyped] # noqa: PLC0415 - slow to load

    told = parse_metadata(metadata.read_text(encoding="utf-8"))
    live = told["databases"][NAME]
    for path in beside:
        with closing(open_to_read(path)) as connection:
            position, received_at = connection.execute("SELECT position, received_at FROM tracking").fetchone()
        title = f"{live['title']} as of position {position}, received {received_at or 'never'}"
        told["databases"][path.stem] = {**live, "title": title}
    return json.dumps(told).encode()


def metadata_path() -> Path:
    """Datasette's description of the read model: beside this module in a wheel, else the repository's."""
    packaged = Path(__file__).with_name("metadata.yml")
    return packaged if packaged.is_file() else Path(__file__).parents[1] / "metadata.yml"


def _check_path(audit_db: Path) -> None:
    # A "?" would end the path and drop the mode=ro behind it: another file would be opened, or made.
    odd = sorted(set(str(audit_db.absolute())) & set("?#%"))
    if odd:
        msg = f"the read model {audit_db} can't be published: Datasette can't open a path with {' '.join(odd)} in it; move the data folder"
        raise ConfigurationError(msg)
