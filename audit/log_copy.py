"""Copying a log to another place, event by event, with its positions."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schema.errors import LogError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from schema.log import Log, Row

RESTART = "nothing more was copied; see which of the two is right, and copy that to an empty log"


@dataclass(frozen=True)
class Copied:
    """What a copy holds now: how many events, how many of them are new, how many it lacks, and one hash for all.

    ``sha256`` is that of the SHA-256 of each event's state in the order of their positions, as a backup has it.
    """

    events: int
    copied: int
    left: int
    sha256: str


def copy(
    source: Log,
    target: Log,
    stop: threading.Event,
    *,
    follow: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Copied:
    """Bring the target up to the source; what it holds then.

    What the target has already must be the beginning of the source: it is compared first. Each page is
    stored in one commit, right after the one before, and read back. Ends at the source's
    head, or when ``stop`` is set; with ``follow`` only then. Raises `LogError` where the two differ, or where the
    source has a hole, which no target could have too.
    """
    digest = hashlib.sha256()
    position, copied = 0, 0
    there = target.head()
    while not stop.is_set():
        page = source.rows_after(position)
        if not page:
            if not follow:
                break
            source.wait(stop)
            continue
        _require_no_hole(position, page)
        rows = [row for _, row in page]
        # What is there already is compared and not stored again; a page may begin in the one and end in the other.
        known = max(0, min(len(rows), there - position))
        _require_equal(position, rows[:known], target)
        if fresh := rows[known:]:
            target.append_rows(fresh, since=position + known)
            _require_equal(position + known, fresh, target)
            copied += len(fresh)
        for row in rows:
            digest.update(hashlib.sha256(row[3]).digest())
        position += len(rows)
        if on_progress is not None:
            on_progress(position, source.head())
    if position < there and not stop.is_set():
        msg = f"the log to copy to has {there} events, the one to copy from {position}: it is another log; {RESTART}"
        raise LogError(msg)
    return Copied(position, copied, max(0, source.head() - position), digest.hexdigest())


def _require_no_hole(position: int, page: Sequence[tuple[int, Row]]) -> None:
    for expected, (at, _) in enumerate(page, position + 1):
        if at != expected:
            msg = f"the log to copy from has no event at position {expected}: `simtrail doctor` tells more"
            raise LogError(msg)


def _require_equal(position: int, rows: Sequence[Row], target: Log) -> None:
    """Raise `LogError` unless the target has these rows after a position."""
    at = position
    end = position + len(rows)
    while at < end:
        page = target.rows_after(at, max_events=end - at)
        if not page:
            msg = f"the log to copy to has no event at position {at + 1}; {RESTART}"
            raise LogError(msg)
        for found, row in page:
            at += 1
            if found != at or row != rows[at - position - 1]:
                msg = f"the event at position {at} differs between the two logs; {RESTART}"
                raise LogError(msg)
