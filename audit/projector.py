"""The projector's process: following the log until a signal or, once, the log's end."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from audit.supervisor import STOP_SIGNALS
from projections.follower import follow
from projections.read_model import tracked
from schema import configuration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from audit.folder import DataFolder


def run(folder: DataFolder, *, once: bool) -> tuple[int, int | None]:
    """Bring the read model of a data folder up to its log; the position reached, and the signal that ended it.

    The caller holds the folder's projector lock, and calls in the main thread. SIGINT
    and SIGTERM take effect after the batch under way, a second one at once. With
    ``once`` a terminal gets a progress bar.
    """
    configuration.load(folder.configuration)  # What can't be used is told at once, not when there is a log.
    received: list[int] = []
    with _stopped_by_signals(received) as stop, _progress(folder, shown=once and sys.stderr.isatty()) as tell:
        position = follow(
            folder.log,
            folder.read_model,
            lambda: configuration.load(folder.configuration),
            stop=stop,
            once=once,
            on_progress=tell,
            on_notice=lambda notice: click.echo(notice, err=True),
        )
    return position, received[0] if received else None


@contextmanager
def _stopped_by_signals(received: list[int]) -> Iterator[threading.Event]:
    """An event that a signal sets; its number goes to the list."""
    stop = threading.Event()

    def handle(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        for each in STOP_SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        # Not here: the main thread may be inside the event and hold its lock.
        threading.Thread(target=stop.set).start()

    before = {number: signal.signal(number, handle) for number in STOP_SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _progress(folder: DataFolder, *, shown: bool) -> Iterator[Callable[[int, int], None] | None]:
    """What to tell of each batch: draws a bar on standard error, from where the read model is now."""
    if not shown:
        yield None
        return
    start = tracked(folder.read_model) or 0
    with click.progressbar(length=0, label="Projecting", file=sys.stderr) as bar:

        def tell(position: int, head: int) -> None:
            bar.length = head - start
            bar.update(position - start - bar.pos)

        yield tell
