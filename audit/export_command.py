"""The command `simtrail export`."""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import click

from audit import destination, options
from audit import folder as folders
from audit.export import prepare
from audit.formats import FORMATS
from audit.selection import PARTS, PERSONAL, is_ranged, moment, select
from audit.stopping import CUT_SHORT
from schema import configuration as configurations
from schema.errors import ConfigurationError
from schema.log import open_to_read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from audit.export import Export
    from audit.folder import DataFolder
    from audit.selection import Selection
    from schema.log_place import Place

BAR_STEPS = 200
"""Times that the progress bar is drawn at most: more often can't be seen and takes its time."""


HELP = f"""Write tables and events to files, to be filed.

All is of one snapshot of the read model, and datapackage.json says which, what each
file holds, and its rows, bytes and SHA-256. Either all of it is written, or nothing is
left and the exit code is not 0.

\b
A moment is a date (its midnight, UTC) or a time with its zone:
  2026-05-01   2026-05-01T09:00:00Z   2026-05-01T12:00:00+03:00

A range takes what was received from --from on and before --to of
{", ".join(part for part in PARTS if is_ranged(part))}. With files come the files
themselves, named by their SHA-256.

Other tables are taken whole, as they are at the snapshot:
{", ".join(part for part in PARTS if not is_ranged(part))}.

{", ".join(part for part in PARTS if part in PERSONAL)}
hold personal data, or may: they are taken with --personal-data only.

With --evidence it is a bundle (BagIt) that has each event of the range as it was stored,
the proof that it is in the signed log and that none between the first and the last is left
out, and verify.py, which checks all of that with nothing but Python.

In CSV an apostrophe stands before text that a spreadsheet would run; datapackage.json
says how to take it off.
"""


def _moment(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    """The instant that an option gives."""
    try:
        return None if text is None else moment(text)
    except ConfigurationError as error:
        raise click.BadParameter(str(error)) from error


@click.command(help=HELP)
@options.data
@options.log
@options.option(
    "--from",
    "since",
    metavar="MOMENT",
    callback=_moment,
    envvar="SIMTRAIL_EXPORT_FROM",
    help="The first moment of the range; from the beginning if not given.",
)
@options.option(
    "--to",
    "until",
    metavar="MOMENT",
    callback=_moment,
    envvar="SIMTRAIL_EXPORT_TO",
    help="The moment before which the range ends; now if not given.",
)
@options.option("--source", metavar="NAME", help="Only what this source sent.")
@options.option("--tables", metavar="NAME,...", help="Only these tables, by the names above.")
@options.option(
    "--format",
    "form",
    type=click.Choice(list(FORMATS)),
    default="csv",
    envvar="SIMTRAIL_EXPORT_FORMAT",
    help="How tables are written. Events are always NDJSON.",
)
@options.option(
    "--personal-data",
    is_flag=True,
    help="Take personal data too. Events hold bodies as received, and secrets in them.",
)
@options.option(
    "--evidence",
    is_flag=True,
    help="Make it an evidence bundle: with what proves the events of the range. Needs --personal-data.",
)
@options.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR|FILE.zip",
    help="What to write: a folder or an archive that is not there yet.",
)
def export(  # noqa: PLR0913 - one for each option
    *,
    data: Path,
    place: Place | None,
    since: str | None,
    until: str | None,
    source: str | None,
    tables: str | None,
    form: str,
    personal_data: bool,
    evidence: bool,
    out: Path,
) -> None:
    """Export; `HELP` tells what people may rely on."""
    if evidence and not personal_data:
        msg = "evidence holds the events as they were received, which is personal data: add --personal-data"
        raise click.UsageError(msg)
    if evidence and source is not None:
        msg = "that nothing is left out can be proven of all sources together only: leave --source out"
        raise click.UsageError(msg)
    selection = _selection(tables, since, until, source, personal_data=personal_data)
    folder = folders.existing(data, place)
    now = datetime.now(UTC)
    with _cleaned_up(), prepare(folder.read_model, folder.log, selection, FORMATS[form], now=now) as made:
        steps = max(1, made.rows // BAR_STEPS)
        with click.progressbar(length=made.rows, label="Exporting", file=sys.stderr, update_min_steps=steps) as bar:
            if evidence:
                first, last = _write_evidence(made, out, folder, now, bar.update)
            else:
                destination.write(made, out, bar.update)
    if evidence:
        click.echo(f"Evidence of positions {first} to {last}: check it with verify.py in it.", err=True)
    _tell(made, out, folder, personal_data=personal_data)


def _write_evidence(
    made: Export, out: Path, folder: DataFolder, now: datetime, progress: Callable[[int], object]
) -> tuple[int, int]:
    from audit import evidence  # noqa: PLC0415 - an ordinary export has no use for it
    from audit import seals as sealed  # noqa: PLC0415

    made_by = f"simtrail {metadata.version('simtrail')}"
    with open_to_read(folder.log) as log, sealed.open_to_read(folder.seals) as seals:
        return evidence.write(made, out, log, seals, made_by=made_by, now=now, progress=progress)


def _selection(
    tables: str | None, since: str | None, until: str | None, source: str | None, *, personal_data: bool
) -> Selection:
    names = None if tables is None else {name for name in map(str.strip, tables.split(",")) if name}
    personal = sorted((names or set()) & PERSONAL)
    if personal and not personal_data:
        msg = f"{', '.join(personal)}: personal data is exported with --personal-data only"
        raise click.UsageError(msg)
    allowed = frozenset(PARTS) if personal_data else frozenset(PARTS) - PERSONAL
    try:
        return select(names, allowed=allowed, since=since, until=until, source=source)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error


@contextmanager
def _cleaned_up() -> Iterator[None]:
    """Let SIGTERM end the command as Ctrl-C does: by the way of what is to be cleaned up."""
    before = signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(CUT_SHORT + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _tell(made: Export, out: Path, folder: DataFolder, *, personal_data: bool) -> None:
    """Say what was exported and, where it isn't all that there is, what isn't in it."""
    snapshot = made.snapshot
    click.echo(f"Exported {made.rows:,} rows to {out}, as of position {snapshot.position}.", err=True)
    if any(is_ranged(part) for part in made.selection.parts) and not made.received:
        click.echo("No event was received in that range: what is of a range has no rows.", err=True)
    if not personal_data:
        click.echo("Without personal data: --personal-data takes that too.", err=True)
    if made.open_ended and made.head > snapshot.position:
        click.echo(f"The log goes on to position {made.head}: {_brings_up(made, folder)}", err=True)


def _brings_up(made: Export, folder: DataFolder) -> str:
    """What brings the read model up: the projector, unless it waits for a person to rebuild."""
    try:
        configuration = configurations.load(folder.configuration)
    except ConfigurationError as error:
        return f"`simtrail project` can't start, since {error}"
    if made.snapshot.configuration != configurations.digest(configuration):
        return f"the read model was made with another configuration than {folder.configuration} is now: `simtrail rebuild` brings it up."
    return "`simtrail project` brings the read model up."
