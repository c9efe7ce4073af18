"""The command `simtrail asof`: the read model as it stood."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from audit import folder as folders
from audit import options
from audit.rebuild import progress
from projections import rebuild
from schema import configuration as configurations
from schema.correction import moment as read_moment
from schema.errors import ConfigurationError
from schema.event import instant
from schema.log import open_to_read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema.log_place import Place


@click.command()
@click.argument("when", nargs=-1, metavar="[MOMENT] DEST")
@options.data
@options.log
@options.option("--position", type=click.IntRange(min=0), metavar="N", help="As of this position, instead of a moment.")
def asof(*, when: Sequence[str], data: Path, place: Place | None, position: int | None) -> None:
    """Make the read model as it stood, in a new file.

    DEST is the file; as of a moment, or of a position. A moment is a date (its beginning, UTC) or RFC 3339: 2026-05-01T00:00:00Z. What was
    received up to it counts, as it is read by today's configuration. `simtrail publish
    --with DEST` shows it beside the live one. The file is readable by its owner alone.
    """
    if len(when) != (1 if position is not None else 2):
        msg = "give a MOMENT and DEST, or --position N and DEST"
        raise click.UsageError(msg)
    folder = folders.existing(data, place)
    moment = None if position is not None else read_moment(when[0])
    now = instant(datetime.now(UTC))
    destination = Path(when[-1])
    if destination.exists():
        msg = f"{destination} is there already: name a file that is not"
        raise ConfigurationError(msg)
    if not destination.absolute().parent.is_dir():
        msg = f"{destination} can't be made: there is no folder {destination.parent}"
        raise ConfigurationError(msg)
    rebuild.need_space(destination.absolute().parent, folder.read_model)
    with open_to_read(folder.log) as log, progress("Folding") as tell:
        reached = rebuild.build(
            log,
            destination,
            configurations.load(folder.configuration),
            last=position,
            moment=moment,
            on_progress=tell,
        )
    click.echo(f"{destination} is the read model of position {reached}.")
    if not reached:
        click.echo("Nothing had been received by then: its tables are empty.", err=True)
    if moment is not None and moment > now:
        click.echo(f"{moment} is still to come: what is received until then is not in it.", err=True)
    if position is not None and position > reached:
        click.echo(f"The log goes no further yet: what comes up to position {position} is not in it.", err=True)
