"""The follower: reads the log page by page and folds each page in one transaction."""

from __future__ import annotations

import hashlib
import itertools
import sqlite3
from typing import TYPE_CHECKING

from projections import gate, read_model, rebuild, replacement
from projections.fold import fold
from projections.reader import Reader
from projections.record import INSTALLED
from schema.errors import ConfigurationError, LogAway, LogNotThere, ReadModelError, ReadModelOld, ReadModelOutdated
from schema.log import open_to_read

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from projections.read_model import LiveModel
    from projections.reading import Read
    from projections.record import By
    from schema.configuration import Configuration
    from schema.log import Log
    from schema.log_place import Place

POLL_S = 0.05
"""How long the follower sleeps between looks at the log's version: a delivery is
published within a tenth of a second, and a look costs microseconds."""

BATCH_EVENTS = 5_000
"""Events a commit at most, where there is much to catch up with: a card or a page of an index
that many of them touch is written once. It takes about half a second, which a stop then waits for."""

BATCH_BYTES = 16 * 1024 * 1024
"""Bytes of their states at most, as of a page of the log."""

OUTDATED_S = 1.0
"""How long it sleeps while the read model waits for a person to rebuild it."""


def follow(  # noqa: PLR0913 - what a follower needs, each by name
    place: Place,
    audit_path: Path,
    configure: Callable[[], Configuration],
    *,
    stop: threading.Event,
    once: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
    by: By = INSTALLED,
) -> int:
    """Follow the log into the read model; the position reached.

    Goes on until ``stop`` is set or, with ``once``, until the log's end. Unless ``once``, it waits
    for a log that is not there yet, for a server that is away, and while the read model was
    made with another configuration than ``configure`` gives: ``on_notice`` is told of
    the latter two, and ``configure`` is asked again. It is asked before each page, so it should be quick; where it changes its
    answer, or raises `ConfigurationError`, the follower waits likewise, unless ``once``. A read model of an earlier version is made anew,
    and so is one in which an event has become void; ``by`` says who does it, for the record.
    ``on_progress`` is told the position and the log's head after each batch.
    Raises `LogError` or `ReadModelError`.
    """
    told: str | None = None

    def tell(notice: str | None) -> None:
        nonlocal told
        if on_notice is not None and notice not in {None, told}:
            on_notice(str(notice))
        told = notice

    log = _opened(place, stop, tell, once=once)
    if log is None:
        return 0
    rebuild.discard(replacement.own(audit_path))  # What a projector that was killed has left.
    follower = _Follower(log, audit_path, configure, stop, by, once=once, on_progress=on_progress)
    with log:
        while True:
            try:
                return follower.run(configure(), tell)
            except _Reconfigured:
                continue
            except _Stopped:
                return read_model.tracked(audit_path) or 0
            except (ReadModelOutdated, ConfigurationError, LogAway) as error:
                if once:
                    raise
                tell(str(error))
                if stop.wait(POLL_S if isinstance(error, LogAway) else OUTDATED_S):
                    return read_model.tracked(audit_path) or 0


def _opened(place: Place, stop: threading.Event, tell: Callable[[str | None], None], *, once: bool) -> Log | None:
    """The log, waited for unless ``once``; None if told to stop meanwhile."""
    while True:
        try:
            return open_to_read(place)
        except (LogNotThere, LogAway) as error:
            if once:
                raise
            tell(str(error) if isinstance(error, LogAway) else None)
            if stop.wait(POLL_S):
                return None


class _Stopped(Exception):
    """Asked to stop while the read model was made anew: it is as it was."""


class _Reconfigured(Exception):
    """The configuration is another than that which was followed with."""


class _Follower:
    """One log being followed into one read model."""

    def __init__(  # noqa: PLR0913 - as above
        self,
        log: Log,
        audit_path: Path,
        configure: Callable[[], Configuration],
        stop: threading.Event,
        by: By,
        *,
        once: bool,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        self._log = log
        self._path = audit_path
        self._configure = configure
        self._stop = stop
        self._by = by
        self._once = once
        self._on_progress = on_progress

    def run(self, configuration: Configuration, tell: Callable[[str | None], None]) -> int:
        """Follow with one configuration; the position reached. Tells of a read model that it makes anew first."""
        try:
            model = read_model.open_to_write(self._path, configuration)
        except ReadModelOld as error:
            tell(str(error))
            self._renew(configuration)
            model = read_model.open_to_write(self._path, configuration)
        try:
            return self._run(model)
        except sqlite3.Error as error:
            msg = f"the read model {self._path} can't be written: {error}"
            raise ReadModelError(msg) from error
        finally:
            model.close()

    def _renew(self, configuration: Configuration) -> None:
        position = read_model.tracked(self._path) or 0
        self._replace(configuration, position, f"simtrail {self._by.code_version} has tables of another form")

    def _replace(self, configuration: Configuration, last: int, reason: str) -> int:
        def tell(position: int, head: int) -> None:
            if self._stop.is_set():
                raise _Stopped
            if self._on_progress is not None:
                self._on_progress(position, head)

        return replacement.replace(
            self._log, self._path, configuration, last=last, reason=reason, by=self._by, on_progress=tell
        )

    def _run(self, model: LiveModel) -> int:
        position = model.position()
        if position > self._log.head():
            msg = (
                f"the read model is at position {position}, past the log's head {self._log.head()}: {read_model.REMEDY}"
            )
            raise ReadModelError(msg)
        self._require_same_log(model, position)
        with Reader(self._log, model.configuration, events=BATCH_EVENTS, page_bytes=BATCH_BYTES) as reader:
            while not self._stop.is_set():
                self._require_same_configuration(model)
                page = reader.after(position)
                if page:
                    position = self._step(model, page, position)
                elif self._once:
                    break
                else:
                    self._log.wait(self._stop)
        return position

    def _require_same_configuration(self, model: LiveModel) -> None:
        """Raise `_Reconfigured` where what is read from here on would be read by another configuration than the tables."""
        if self._configure() != model.configuration:
            raise _Reconfigured

    def _require_same_log(self, model: LiveModel, position: int) -> None:
        """Raise `ReadModelError` where the tables are another log's: with --log it is a slip to name one that they are not of."""
        event = self._log.at(position) if position else None
        known = model.sha256_at(position)
        if event is not None and known is not None and known != hashlib.sha256(event.delivery.body).hexdigest():
            msg = (
                f"the read model {self._path} is not of this log, {self._log.place}: their events at position {position} "
                f"differ; name the right one with --log, or, if that is it, {read_model.REMEDY}"
            )
            raise ReadModelError(msg)

    def _step(self, model: LiveModel, page: Sequence[Read], position: int) -> int:
        plain = list(itertools.takewhile(lambda event: not event.makes_void, page))
        gate.passed(self._path)
        try:
            if plain:
                position = apply(model, plain, since=position)
            else:
                # What is void can't be taken back from the rows: they are made again without it.
                last = page[0].position
                position = self._replace(model.configuration, last, f"event {last} makes another void")
        except ReadModelOutdated:
            # Swapped for tables of a configuration that was not seen yet: those are to be gone on with.
            self._require_same_configuration(model)
            raise
        except sqlite3.OperationalError as error:
            # A swap holds the file for as long as its copy takes.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            self._stop.wait(POLL_S)
        if self._on_progress is not None:
            self._on_progress(position, self._log.head())
        return position


def apply(model: LiveModel, page: Sequence[Read], *, since: int) -> int:
    """Fold a page of events into the read model, in one commit; the position to go on from.

    The page holds all events after ``since``. Those that the read model already
    stands for are passed over, so a page may be applied again after a crash, or by
    a second follower; and a page that would leave a gap, because the file was put
    back to an earlier position, is not applied at all.
    """
    try:
        start = model.begin()
        fresh = [event for event in page if event.position > start] if start >= since else []
        fold(model, fresh)
        if fresh:
            model.commit(fresh[-1].position, fresh[-1].received_at)
            return fresh[-1].position
    except BaseException:
        model.roll_back()
        raise
    model.roll_back()
    return start
