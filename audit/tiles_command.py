"""The command `simtrail tiles`: the tree as static files (C2SP tlog-tiles)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from audit import folder as folders
from audit import options, static_tiles
from audit import seals as sealed
from schema.log import open_to_read

if TYPE_CHECKING:
    from schema.log_place import Place


@click.command()
@click.argument("target", metavar="DEST", type=click.Path(file_okay=False, path_type=Path))
@options.data
@options.log
def tiles(*, target: Path, data: Path, place: Place | None) -> None:
    """Write the tree as static files, to be served by any web server.

    DEST is a folder. It gets `checkpoint`, the last anchor, and under `tile/` the hashes and
    the leaves, as C2SP tlog-tiles has them; no body and no header of an event. What is there
    already and full is not written again: run it as often as you like.
    """
    folder = folders.existing(data, place)
    with (
        open_to_read(folder.log) as log,
        sealed.open_to_read(folder.seals) as seals,
        click.progressbar(length=0, label="Writing tiles", file=sys.stderr) as bar,
    ):

        def tell(done: int, size: int) -> None:
            bar.length = size
            bar.update(done - bar.pos)

        size = static_tiles.write(target, log, seals, tell)
    click.echo(f"{target}: the tree of size {size}")
