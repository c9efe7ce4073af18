"""The follower: reads the log page by page and folds each page in one transaction."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from projections import read_model
from projections.fold import fold
from schema.decode import Decoder
from schema.errors import LogNotThere, ReadModelError
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


def follow(  # noqa: PLR0913 - what a follower needs, each by name
    log_path: Path,
    audit_path: Path,
    configuration: Configuration,
    *,
    stop: threading.Event,
    once: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> int:
    """Follow the log into the read model; the position reached.

    Goes on until ``stop`` is set or, with ``once``, until the log's end. Waits for a
    log that is not there yet, unless ``once``. ``on_progress`` is told the position
    and the log's head after each batch. Raises `LogError` or `ReadModelError`.
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
    with log:
        model = read_model.open_to_write(audit_path, configuration)
        try:
            return _follow(log, model, stop=stop, once=once, on_progress=on_progress)
        except sqlite3.Error as error:
            msg = f"the read model {audit_path} can't be written: {error}"
            raise ReadModelError(msg) from error
        finally:
            model.close()


def _follow(
    log: Log,
    model: ReadModel,
    *,
    stop: threading.Event,
    once: bool,
    on_progress: Callable[[int, int], None] | None,
) -> int:
    decoder = Decoder(model.configuration)
    position = model.position()
    if position > log.head():
        msg = f"the read model is at position {position}, past the log's head {log.head()}: {read_model.REMEDY}"
        raise ReadModelError(msg)
    while not stop.is_set():
        # Asked before the page is read: what is committed in between shows as a change.
        version = log.version()
        page = log.after(position)
        if page:
            position = apply(model, decoder, page, since=position)
            if on_progress is not None:
                on_progress(position, log.head())
            continue
        if once:
            break
        while not stop.wait(POLL_S) and log.version() == version:
            pass
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
            fold(model, event, decoder.decode(event.delivery.body))
        if fresh:
            model.commit(fresh[-1].position, fresh[-1].delivery.received_at)
            return fresh[-1].position
    except BaseException:
        model.roll_back()
        raise
    model.roll_back()
    return start
