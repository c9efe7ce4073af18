"""Verification: the whole tree again, from the log, against every anchor ever signed.

Each event's leaf is compared with the leaf that was sealed, so a finding names the
position; the root over the leaves is compared with each anchor, and every signature is
verified. Goes tile by tile, on the live system: memory stays small, and what was done
can be saved at any tile and gone on from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from audit import merkle
from audit.merkle import Edge
from audit.tiles import WIDTH
from audit.walk import Counts, Finding, Progress, Walk

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from audit.seals import Seals
    from schema.log import Log

PROGRESS_TILES = 64
"""Tiles between two reports of progress: about ten a second."""


class Report(msgspec.Struct, frozen=True):
    """What a verification came to.

    ``complete`` is False where it was stopped. ``unsealed`` events follow the last
    anchor. ``resumed_from`` leaves were taken as verified before. ``skipped`` are
    positions that no event had when their neighbours were sealed.
    """

    complete: bool
    findings: tuple[Finding, ...]
    more: int
    counts: Counts
    anchored: int
    position: int
    unsealed: int
    resumed_from: int
    skipped: int
    progress: Progress

    @property
    def sound(self) -> bool:
        """Whether all was verified, and nothing found."""
        return self.complete and not self.findings


def verify(  # noqa: PLR0913 - what a verification needs, each by name
    log: Log,
    seals: Seals,
    *,
    kept: Sequence[str] = (),
    resume: Progress | None = None,
    on_progress: Callable[[Progress, int], None] | None = None,
    stop: threading.Event | None = None,
) -> Report:
    """Verify the log against the seals, up to the last anchor that is signed now.

    ``kept`` are anchors, as text, that somebody kept elsewhere; they must be of this
    log's past too. ``on_progress`` is told what to save, and the size that is verified
    up to. Raises `LogError` or `SealError` where the files can't be read at all.
    """
    target = seals.last(signed=True)
    size = target.size if target else 0
    start = resume if resume is not None and _fits(resume, seals, size) else Progress()
    walk = Walk(log, seals, start)
    walk.check_keys()
    complete = True
    for index in range(start.size // WIDTH, -(-size // WIDTH)):
        if stop is not None and stop.is_set():
            complete = False
            break
        end = min(size, (index + 1) * WIDTH)
        if not walk.tile(index, end):
            break
        if on_progress is not None and not end % (PROGRESS_TILES * WIDTH):
            on_progress(walk.saved, size)
    if complete:
        for text in kept:
            walk.check_kept(text, target)
    return Report(
        complete=complete,
        findings=tuple(walk.findings),
        more=walk.more,
        counts=walk.counts,
        anchored=size,
        position=target.position if target else 0,
        unsealed=max(0, log.head() - (target.position if target else 0)),
        resumed_from=start.size,
        skipped=(target.position - size) if target else 0,
        progress=walk.saved,
    )


def _fits(progress: Progress, seals: Seals, size: int) -> bool:
    """Whether what was saved is of these seals."""
    try:
        edge = Edge(progress.size, progress.roots)
        return not progress.size % WIDTH and progress.size <= size and merkle.root(edge.size, seals.node) == edge.root()
    except (ValueError, LookupError):
        return False
