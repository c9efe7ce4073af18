"""The record of rebuilds: what each changed, kept in the read model across all of them."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING

import msgspec

from projections.read_model import open_built
from schema.tables import BY_NAME, MODEL_VERSION, PERSONAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from projections.difference import Change, Kind
    from projections.digest import Digest

KEPT_CHANGES = 100_000
"""Changes of the last rebuild that are published: what is more is in the report file alone."""

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class By:
    """Which simtrail rebuilds, and by which clock."""

    code_version: str
    now: Callable[[], datetime]


INSTALLED = By(metadata.version("simtrail"), partial(datetime.now, UTC))
"""The simtrail that runs, by the machine's clock."""


class Side(msgspec.Struct, frozen=True):
    """A read model before or after a rebuild: its position, its configuration's digest, its tables' digests."""

    position: int | None
    configuration: str | None
    digests: dict[str, Digest]


class Rebuild(msgspec.Struct, frozen=True):
    """What is recorded of one rebuild. Times are instants in UTC."""

    started_at: str
    finished_at: str
    reason: str
    code_version: str
    before: Side
    after: Side
    counts: Counter[tuple[str, Kind]]


def add(path: Path, rebuild: Rebuild, changes: Iterable[Change]) -> None:
    """Write a rebuild, and the changes that it makes, into the read model that it made."""
    total: Counter[Kind] = Counter()
    for (_, kind), count in rebuild.counts.items():
        total[kind] += count
    row = (
        rebuild.started_at,
        rebuild.finished_at,
        rebuild.reason,
        rebuild.code_version,
        MODEL_VERSION,
        rebuild.before.configuration,
        rebuild.after.configuration,
        rebuild.before.position,
        rebuild.after.position,
        total["added"],
        total["removed"],
        total["changed"],
        _encode(rebuild.before.digests).decode(),
        _encode(rebuild.after.digests).decode(),
    )
    marks = ", ".join("?" * (len(BY_NAME["rebuilds"].columns) - 1))
    with closing(open_built(path)) as connection, connection:
        connection.execute(
            f"INSERT INTO rebuilds VALUES ((SELECT coalesce(max(rebuild), 0) + 1 FROM rebuilds), {marks})", row
        )
        for table in ("rebuild_changes", "rebuild_personal_changes"):
            connection.execute(f"DELETE FROM {table}")
        for n, change in enumerate(changes, 1):
            table = "rebuild_personal_changes" if change.table in PERSONAL else "rebuild_changes"
            values = (n, change.table, change.kind, _encode(change.key).decode(), change.position, columns(change))
            connection.execute(f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?)", values)


def columns(change: Change) -> str:
    """The columns of a change as JSON: ``{"column": [before, after]}``."""
    return _encode(change.columns).decode()
