"""Replacement: a live read model gives way to one that was built, compared with it, recorded and swapped in."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec

from projections import difference, read_model, rebuild, record
from projections.digest import digests
from schema import configuration as configurations
from schema.errors import ReadModelError
from schema.event import instant

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from projections.difference import Change, Kind
    from projections.record import By
    from schema.configuration import Configuration
    from schema.log import Log


class Comparison(msgspec.Struct, frozen=True):
    """How a read model that was built differs from the live one, at the live one's position.

    ``counts`` says how many rows of which table differ in which way, ``first`` has as
    many of the changes as a read model keeps.
    """

    before: record.Side
    after: record.Side
    counts: Counter[tuple[str, Kind]]
    first: list[Change]


def compare(  # noqa: PLR0913 - what is compared, and what is wanted of it, each by name
    log: Log,
    live: Path,
    built: Path,
    configuration: Configuration,
    *,
    on_change: Callable[[Change], None] = lambda _: None,
    hashed: bool = True,
) -> Comparison | None:
    """Compare the two, with what was built caught up; None where it must be built anew first.

    The live one is seen as it is now and stays, whatever a projector goes on to write.
    ``hashed`` asks for the digests of all tables, without which it can't be recorded.
    Every page and index of what was built is checked meanwhile: raises `ReadModelError`.
    """
    with difference.compared(live, built) as connection, ThreadPoolExecutor(max_workers=1) as beside:
        position, digest = connection.execute("SELECT position, configuration FROM before.tracking").fetchone()
        if not rebuild.catch_up(log, built, configuration, position):
            return None
        checking = beside.submit(rebuild.check_storage, built)
        counts: Counter[tuple[str, Kind]] = Counter()
        first: list[Change] = []
        for change in difference.changes(connection):
            counts[change.table, change.kind] += 1
            if len(first) < record.KEPT_CHANGES:
                first.append(change)
            on_change(change)
        before = record.Side(position, digest, digests(connection, "before") if hashed else {})
        (reached,) = connection.execute("SELECT position FROM main.tracking").fetchone()
        after = record.Side(reached, configurations.digest(configuration), digests(connection) if hashed else {})
        checking.result()
    return Comparison(before, after, counts, first)


def install(  # noqa: PLR0913, PLR0917 - what is installed, and what is recorded of it
    log: Log,
    live: Path,
    built: Path,
    configuration: Configuration,
    comparison: Comparison,
    reason: str,
    started_at: str,
    by: By,
) -> float | None:
    """Record what was compared, and swap it in; the seconds of the swap, None where it must be built anew first."""
    rebuild.keep_rebuilds(live, built)
    finished_at = instant(by.now())
    done = record.Rebuild(
        started_at, finished_at, reason, by.code_version, comparison.before, comparison.after, comparison.counts
    )
    record.add(built, done, comparison.first)
    if not rebuild.catch_up(log, built, configuration, read_model.tracked(live) or 0):
        return None
    return rebuild.swap(built, live)


def replace(  # noqa: PLR0913 - what is replaced by what, each by name
    log: Log,
    live: Path,
    configuration: Configuration,
    *,
    last: int,
    reason: str,
    by: By,
    on_progress: Callable[[int, int], None] | None = None,
) -> int:
    """Build the read model anew up to a position, and put it in the place of the live one; that position.

    For the one who writes the live one: it must not move meanwhile.
    """
    built = own(live)
    started_at = instant(by.now())
    rebuild.discard(built)
    rebuild.need_space(live.parent, live)
    try:
        position = rebuild.build(log, built, configuration, last=last, on_progress=on_progress)
        comparison = compare(log, live, built, configuration)
        if (
            comparison is None or install(log, live, built, configuration, comparison, reason, started_at, by) is None
        ):  # pragma: no cover - nobody else moves it
            msg = f"{live} was written by somebody else meanwhile: it is as it was"
            raise ReadModelError(msg)
    finally:
        rebuild.discard(built)
    return position


def own(live: Path) -> Path:
    """Where the projector builds what replaces its own read model: apart from where a person's rebuild does."""
    return live.with_name(live.name + ".next")
