"""Rebuilding: the whole log folded into a new read model beside the live one.

Written without journal and fsync, indexes last: until it is swapped in, a rebuild
that is interrupted is only a file to throw away. What is written is made by the
same `fold` as when following; only how it is written differs.
"""

from __future__ import annotations

import gc
import shutil
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import msgspec

from projections import bulk, gate, read_model
from projections.bulk import BulkModel
from projections.corrections import is_void, voided
from projections.fold import fold
from projections.read_model import CACHE_KIB, LIVE, LOCK_TIMEOUT_S
from projections.reader import Reader
from schema.errors import ReadModelError
from schema.tables import BY_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from projections.reading import Read
    from schema.configuration import Configuration
    from schema.log import Log

BATCH_EVENTS = 2_000
"""Events folded and loaded together: enough that their hand-over costs nothing; the log's page bounds their bytes."""

SWAP_RETRY_S = 0.02
"""Between two tries of a swap to write, while a projector ends its transaction."""

SPACE_FACTOR = 2.2
"""Free space asked for, as a multiple of the live read model or of the log, whichever is larger: the
new one, what SQLite's log holds of it while it is copied over, and what arrives meanwhile."""


def need_space(folder: Path, *files: Path) -> None:
    """Raise `ReadModelError` if a read model as large as the largest of the files would not fit."""
    needed = int(SPACE_FACTOR * max((file.stat().st_size for file in files if file.exists()), default=0))
    free = shutil.disk_usage(folder).free
    if free < needed:
        msg = f"a rebuild needs about {needed:,} bytes in {folder}, {free:,} are free: make room and try again"
        raise ReadModelError(msg)


def build(  # noqa: PLR0913 - what a rebuild needs, each by name
    log: Log,
    path: Path,
    configuration: Configuration,
    *,
    last: int | None = None,
    moment: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> int:
    """Make a read model of the log, in a file that is not there yet; the position it stands for.

    Ends at the log's head, or at the position ``last``, or with all events received
    up to ``moment`` (an instant as the log writes it). Checked before this returns.
    Raises `ReadModelError` or `LogError`, and leaves no file, where it can't be made.
    """
    try:
        until = _Until(log.head() if last is None else last, moment)
        with _without_collecting(), BulkModel(path, configuration, until.last) as model:
            known = [
                event
                for event in log.corrections(until.last)
                if until.holds(event.position, event.delivery.received_at)
            ]
            model.voided = voided(known)
            for page in _pages(log, 0, configuration, until, on_progress):
                fold(model, page)
                model.commit(page[-1].position, page[-1].received_at)
            model.finish()
        check(path)
    except sqlite3.Error as error:
        discard(path)
        msg = f"the read model can't be rebuilt in {path}: {error}"
        raise ReadModelError(msg) from error
    except BaseException:
        discard(path)
        raise
    return model.position


@contextmanager
def _without_collecting() -> Iterator[None]:
    """Let the collector of cycles rest: rows and readings refer to nothing that refers to them, and are many to look through."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def catch_up(log: Log, path: Path, configuration: Configuration, last: int) -> bool:
    """Fold what arrived since, up to a position, into a read model that was built.

    False where a correction in between makes something void: then it must be built again.
    """
    with closing(read_model.open_to_write(path, configuration, live=False)) as model:
        start = model.position()
        if any(event.position > start and is_void(event) for event in log.corrections(last)):
            return False
        for page in _pages(log, start, configuration, _Until(last, None), None):
            model.begin()
            fold(model, page)
            model.commit(page[-1].position, page[-1].received_at)
        return True


def beside(live: Path) -> Path:
    """Where the read model that is to replace a live one is built."""
    return live.with_name(live.name + ".new")


def keep_rebuilds(live: Path, built: Path) -> None:
    """Take the record of earlier rebuilds over into a read model that was built, as far as both have its columns."""
    with closing(read_model.open_built(built)) as connection, connection:
        connection.execute("ATTACH ? AS live", (str(live),))
        columns = BY_NAME["rebuilds"].columns
        old = {name for (name,) in connection.execute("SELECT name FROM pragma_table_info('rebuilds', 'live')")}
        shared = ", ".join(f'"{column}"' for column in columns if column in old)
        connection.execute("DELETE FROM main.rebuilds")
        if shared:
            connection.execute(f"INSERT INTO main.rebuilds ({shared}) SELECT {shared} FROM live.rebuilds")


class _Until(msgspec.Struct, frozen=True):
    """How far to fold: up to a position, and of that what was received up to a moment."""

    last: int
    moment: str | None

    def holds(self, position: int, received_at: str) -> bool:
        """Whether an event is to be folded."""
        return position <= self.last and (self.moment is None or received_at <= self.moment)


def _pages(
    log: Log,
    position: int,
    configuration: Configuration,
    until: _Until,
    on_progress: Callable[[int, int], None] | None,
) -> Iterator[list[Read]]:
    """The events after a position that are to be folded, a page at a time; each is told of when it was folded."""
    with Reader(log, configuration, events=BATCH_EVENTS) as reader:
        while position < until.last and (page := reader.after(position, until.last)):
            position = page[-1].position
            events = [event for event in page if until.holds(event.position, event.received_at)]
            if events:
                yield events
            if on_progress is not None:
                on_progress(min(position, until.last), until.last)


def check(path: Path) -> None:
    """Raise `ReadModelError` unless a read model that was built is whole: storage, references, counts, tracking.

    That each index says what its table says is not looked at again: see `check_storage`.
    """
    with ThreadPoolExecutor(max_workers=1) as beside:
        # SQLite reads on without the interpreter, so the two take one's time on two cores.
        checking = beside.submit(_first_of, path, "PRAGMA quick_check(1)")
        dangling = _first_of(path, "PRAGMA foreign_key_check")
        storage = checking.result()
    events, newest = _first_of(path, "SELECT count(*), coalesce(max(position), 0) FROM deliveries") or (0, 0)
    (tracked,) = _first_of(path, "SELECT position FROM tracking") or (None,)
    if storage != ("ok",) or dangling is not None or newest != tracked:
        msg = (
            f"the read model {path} is not whole: storage {storage}, dangling reference {dangling},"
            f" {events} deliveries up to {newest}, tracked {tracked}"
        )
        raise ReadModelError(msg)


def check_storage(path: Path) -> None:
    """Raise `ReadModelError` unless every page of a read model, and every entry of its indexes, is as it should be."""
    storage = _first_of(path, "PRAGMA integrity_check(1)")
    if storage != ("ok",):
        msg = f"the read model {path} is not whole: {storage}"
        raise ReadModelError(msg)


def _first_of(path: Path, sql: str) -> tuple[object, ...] | None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        found: tuple[object, ...] | None = connection.execute(sql).fetchone()
        return found


def swap(built: Path, live: Path) -> float:
    """Put what was built in the place of the live read model, in one atomic step; the seconds that it took.

    SQLite's online backup writes all pages in one transaction: readers see the old
    tables or the new, never both, and neither wait nor fail; the file stays the same
    one, so nobody needs to open it again. A projector waits meanwhile, and then goes
    on from the position that it finds.
    """
    begin = time.monotonic()
    try:
        with (
            gate.closed(live),
            closing(sqlite3.connect(built)) as source,
            closing(sqlite3.connect(live, timeout=LOCK_TIMEOUT_S)) as destination,
        ):
            for pragma in LIVE:
                destination.execute(f"PRAGMA {pragma}")
            source.backup(destination, sleep=SWAP_RETRY_S)
    except sqlite3.Error as error:
        msg = f"{live} can't be replaced by {built}: {error}; it is as it was"
        raise ReadModelError(msg) from error
    took = time.monotonic() - begin
    discard(built)
    return took


def discard(path: Path) -> None:
    """Remove a read model's file, and what SQLite keeps beside it."""
    for suffix in ("", "-journal", "-wal", "-shm", bulk.SCRATCH):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
