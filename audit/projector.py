"""The projector's process: following the log until a signal or, once, the log's end."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from audit.stopping import stopped_by_signals
from projections.follower import follow
from projections.read_model import tracked
from schema import configuration, registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from audit.folder import DataFolder
    from schema.configuration import Configuration


def run(folder: DataFolder, *, once: bool) -> tuple[int, int | None]:
    """Bring the read model of a data folder up to its log; the position reached, and the signal that ended it.

    The caller holds the folder's projector lock, and calls in the main thread. SIGINT
    and SIGTERM take effect after the batch under way, a second one at once. With
    ``once`` a terminal gets a progress bar.
    """
    configure = _configuration(folder.configuration)
    configure()  # What can't be used is told at once, not when there is a log.
    received: list[int] = []
    with stopped_by_signals(received) as stop, _progress(folder, shown=once and sys.stderr.isatty()) as tell:
        position = follow(
            folder.log,
            folder.read_model,
            configure,
            stop=stop,
            once=once,
            on_progress=tell,
            on_notice=lambda notice: click.echo(notice, err=True),
        )
    return position, received[0] if received else None


def _configuration(path: Path) -> Callable[[], Configuration]:
    """The configuration of a file as it is now, read again only when that was written."""
    loaded: Configuration | None = None
    signature: tuple[int, int, int] | None = None

    def load() -> Configuration:
        nonlocal loaded, signature
        now = registry.signature(path)
        if loaded is None or now != signature:
            loaded, signature = configuration.load(path), now
        return loaded

    return load


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
