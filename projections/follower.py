"""The follower: reads the log page by page and folds each page in one transaction."""

from __future__ import annotations

import itertools
import sqlite3
from typing import TYPE_CHECKING

from projections import corrections, read_model, rebuild
from projections.fold import fold, read
from schema.decode import Decoder
from schema.errors import LogNotThere, ReadModelError, ReadModelOutdated
from schema.log import open_to_read

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from projections.read_model import ReadModel
    from schema.configuration import Configuration
    from schema.event import Event
    from schema.log import Log

POLL_S = 0.05
"""How long the follower sleeps between looks at the log's version: a delivery is
published within a tenth of a second, and a look costs microseconds."""

OUTDATED_S = 1.0
"""How long it sleeps while the read model waits for a person to rebuild it."""


def follow(  # noqa: PLR0913 - what a follower needs, each by name
    log_path: Path,
    audit_path: Path,
    configure: Callable[[], Configuration],
    *,
    stop: threading.Event,
    once: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> int:
    """Follow the log into the read model; the position reached.

    Goes on until ``stop`` is set or, with ``once``, until the log's end. Waits for a
    log that is not there yet, and while the read model was made with another
    configuration than ``configure`` gives, unless ``once``: ``on_notice`` is told of
    it, and ``configure`` is asked again. ``on_progress`` is told the position and the
    log's head after each batch. Raises `LogError` or `ReadModelError`.
    """
    while True:
        try:
            log = open_to_read(log_path)
            break
        except LogNotThere:
            if once:
                raise
            if stop.wait(POLL_S):
                return 0
    follower = _Follower(log, audit_path, stop, once=once, on_progress=on_progress)
    told = None
    with log:
        while True:
            try:
                return follower.run(configure())
            except ReadModelOutdated as error:
                if once:
                    raise
                if on_notice is not None and str(error) != told:
                    told = str(error)
                    on_notice(told)
                if stop.wait(OUTDATED_S):
                    return read_model.tracked(audit_path) or 0


class _Follower:
    """One log being followed into one read model."""

    def __init__(
        self,
        log: Log,
        audit_path: Path,
        stop: threading.Event,
        *,
        once: bool,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        self._log = log
        self._path = audit_path
        self._stop = stop
        self._once = once
        self._on_progress = on_progress

    def run(self, configuration: Configuration) -> int:
        """Follow with one configuration; the position reached."""
        model = read_model.open_to_write(self._path, configuration)
        try:
            return self._run(model)
        except sqlite3.Error as error:
            msg = f"the read model {self._path} can't be written: {error}"
            raise ReadModelError(msg) from error
        finally:
            model.close()

    def _run(self, model: ReadModel) -> int:
        decoder = Decoder(model.configuration)
        position = model.position()
        if position > self._log.head():
            msg = (
                f"the read model is at position {position}, past the log's head {self._log.head()}: {read_model.REMEDY}"
            )
            raise ReadModelError(msg)
        while not self._stop.is_set():
            # Asked before the page is read: what is committed in between shows as a change.
            version = self._log.version()
            page = self._log.after(position)
            if page:
                position = self._step(model, decoder, page, position)
            elif self._once:
                break
            else:
                while not self._stop.wait(POLL_S) and self._log.version() == version:
                    pass
        return position

    def _step(self, model: ReadModel, decoder: Decoder, page: Sequence[Event], position: int) -> int:
        plain = list(itertools.takewhile(lambda event: not corrections.is_void(event), page))
        try:
            if plain:
                position = apply(model, decoder, plain, since=position)
            else:
                # What is void can't be taken back from the rows: they are made again without it.
                position = rebuild.replace(self._log, self._path, model.configuration, last=page[0].position)
        except sqlite3.OperationalError as error:
            # A swap holds the file for as long as its copy takes.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            self._stop.wait(POLL_S)
        if self._on_progress is not None:
            self._on_progress(position, self._log.head())
        return position


def apply(model: ReadModel, decoder: Decoder, page: Sequence[Event], *, since: int) -> int:
    """Fold a page of events into the read model, in one commit; the position to go on from.

    The page holds all events after ``since``. Those that the read model already
    stands for are passed over, so a page may be applied again after a crash, or by
    a second follower; and a page that would leave a gap, because the file was put
    back to an earlier position, is not applied at all.
    """
    try:
        start = model.begin()
        fresh = [event for event in page if event.position > start] if start >= since else []
        for event in fresh:
            fold(model, event, read(event, decoder))
        if fresh:
            model.commit(fresh[-1].position, fresh[-1].delivery.received_at)
            return fresh[-1].position
    except BaseException:
        model.roll_back()
        raise
    model.roll_back()
    return start
