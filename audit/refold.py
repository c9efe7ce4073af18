"""Refolding: whether the published tables are what the log gives, row by row."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from audit.walk import FINDINGS, Finding
from projections import difference, read_model, rebuild
from projections.digest import digests
from schema import configuration as configurations
from schema.errors import ReadModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from audit.folder import DataFolder
    from projections.difference import Change
    from projections.digest import Digest
    from schema.log import Log

ATTEMPTS = 5
"""Times that the log is folded because a correction made something void meanwhile."""


def refold(
    folder: DataFolder, log: Log, scratch: Path, tell: Callable[[int, int], None]
) -> tuple[int, dict[str, Digest], list[Finding]]:
    """Fold the log anew, and compare each table's digest with the published one; at which position, the digests, what differs.

    The published tables are not touched, and may go on changing meanwhile. ``scratch`` is
    a file that is gone afterwards. Raises `ReadModelError` where there is nothing to compare,
    or it was made with another configuration.
    """
    live = folder.read_model
    configuration = configurations.load(folder.configuration)
    tracked = read_model.tracked(live)
    if tracked is None:
        msg = f"there are no published tables in {folder.path}: `simtrail project` makes them"
        raise ReadModelError(msg)
    rebuild.discard(scratch)
    rebuild.need_space(scratch.parent, live)
    try:
        for _ in range(ATTEMPTS):
            rebuild.build(log, scratch, configuration, last=read_model.tracked(live), on_progress=tell)
            with difference.compared(live, scratch) as connection:
                position, made_with = connection.execute(
                    "SELECT position, configuration FROM before.tracking"
                ).fetchone()
                if made_with != configurations.digest(configuration):
                    msg = f"the published tables were made with another configuration, {made_with[:12]}: {read_model.REMEDY}"
                    raise ReadModelError(msg)
                if rebuild.catch_up(log, scratch, configuration, position):
                    published, folded = digests(connection, "before"), digests(connection)
                    found = [] if published == folded else _findings(difference.changes(connection))
                    return position, published, found
            rebuild.discard(scratch)
    finally:
        rebuild.discard(scratch)
    msg = "corrections kept making events void meanwhile; try again when they are all recorded"
    raise ReadModelError(msg)


def _findings(changes: Iterable[Change]) -> list[Finding]:
    return [Finding("table", change.position, change.position, _told(change)) for change in islice(changes, FINDINGS)]


def _told(change: Change) -> str:
    row = f"the row {', '.join(map(str, change.key))} of the table {change.table}"
    match change.kind:
        case "added":
            return f"{row} is not published, but the log gives it"
        case "removed":
            return f"{row} is published, but the log does not give it"
        case "changed":
            differ = ", ".join(
                f"{name} is {old!r}, and {new!r} by the log" for name, (old, new) in change.columns.items()
            )
            return f"{row} is published otherwise than the log gives it: {differ}"
