"""The command `simtrail rebuild`: another reading of the whole log, seen before it is live."""

from __future__ import annotations

import csv
import signal
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from audit import folder as folders
from audit import options
from audit.stopping import CUT_SHORT
from projections import read_model, rebuild, replacement
from projections.record import INSTALLED
from schema import configuration as configurations
from schema.errors import ReadModelError
from schema.event import instant
from schema.log import open_to_read

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable, Iterator

    from click._termui_impl import ProgressBar

    from audit.folder import DataFolder
    from projections.difference import Change, Kind
    from schema.configuration import Configuration
    from schema.log import Log
    from schema.log_place import Place

DIFFERS = 1
"""Exit code where the rebuilt read model differs, as `diff` has it."""

ATTEMPTS = 5
"""Times that the difference is taken anew because a correction made something void meanwhile."""


@click.command("rebuild")
@options.data
@options.log
@options.option("--dry-run", is_flag=True, help="Show the difference, and change nothing.")
@options.option(
    "--report",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="FILE",
    help="Write each row that differs to FILE: CSV if it ends in .csv, else NDJSON.",
)
@options.option("--yes", is_flag=True, help="Swap without asking, even if the tables differ.")
@options.option("--reason", default="", help="Why, for the record in the table `rebuilds`.")
def command(  # noqa: PLR0913 - one for each option
    *, data: Path, place: Place | None, dry_run: bool, report: Path | None, yes: bool, reason: str
) -> None:
    """Fold the whole log anew, show what that changes, and swap it in.

    Receiving, projecting and Datasette go on meanwhile, and need no restart: a query
    sees the old tables or the new, never both. Until the swap the live read model is
    not touched, whenever this ends.

    \b
    exit code 0  the tables are the same, or were swapped
              1  they differ (--dry-run, or not swapped), or an error
    """  # noqa: D301 - click's mark of a block
    folder = folders.existing(data, place)
    started_at = instant(datetime.now(UTC))
    try:
        with folders.hold(folder, "rebuild"), open_to_read(folder.log) as log:
            _run(folder, log, _Ask(dry_run=dry_run, yes=yes, report=report, reason=reason, started_at=started_at))
    except KeyboardInterrupt:
        rebuild.discard(rebuild.beside(folder.read_model))
        click.echo("\nInterrupted: the live read model is as it was.", err=True)
        sys.exit(CUT_SHORT + signal.SIGINT)


class _Ask(msgspec.Struct, frozen=True):
    """What is asked of a rebuild."""

    dry_run: bool
    yes: bool
    report: Path | None
    reason: str
    started_at: str


def _run(folder: DataFolder, log: Log, ask: _Ask) -> None:
    live, built = folder.read_model, rebuild.beside(folder.read_model)
    configuration = configurations.load(folder.configuration)
    rebuild.discard(built)
    rebuild.need_space(folder.path, live, *([folder.log] if isinstance(folder.log, Path) else []))
    tracked = read_model.tracked(live)
    if tracked is None:
        msg = f"there is no read model to rebuild in {folder.path}: `simtrail project` makes it"
        raise ReadModelError(msg)
    try:
        for _ in range(ATTEMPTS):
            with progress("Rebuilding") as tell:
                rebuild.build(log, built, configuration, last=read_model.tracked(live), on_progress=tell)
            if _compare_and_swap(folder, log, configuration, ask):
                return
            rebuild.discard(built)
        msg = "corrections kept making events void meanwhile; try again when they are all recorded"
        raise ReadModelError(msg)
    finally:
        rebuild.discard(built)


def _compare_and_swap(folder: DataFolder, log: Log, configuration: Configuration, ask: _Ask) -> bool:
    """Whether all was done; False where the read model must be built anew first."""
    live, built = folder.read_model, rebuild.beside(folder.read_model)
    with _reporting(ask.report) as write:
        found = replacement.compare(log, live, built, configuration, on_change=write, hashed=not ask.dry_run)
    if found is None:
        return False
    _tell(found.counts, found.before.position or 0)
    if ask.dry_run:
        sys.exit(DIFFERS if found.counts else 0)
    if found.counts and not ask.yes:
        _confirm()
    same = found.before.configuration == found.after.configuration
    reason = ask.reason or ("as asked" if same else "another configuration")
    took = replacement.install(log, live, built, configuration, found, reason, ask.started_at, INSTALLED)
    if took is None:
        return False
    click.echo(f"Swapped in {took:.2f} s: the read model is now that of position {read_model.tracked(live)}.")
    return True


def _tell(counts: Counter[tuple[str, Kind]], position: int) -> None:
    if not counts:
        click.echo(f"At position {position} no row of any table differs.")
        return
    click.echo(f"At position {position} these tables differ:")
    click.echo(f"  {'table':<18}{'added':>10}{'removed':>10}{'changed':>10}")
    for table in dict.fromkeys(table for table, _ in counts):
        added, removed, changed = (counts[table, kind] for kind in ("added", "removed", "changed"))
        click.echo(f"  {table:<18}{added:>10,}{removed:>10,}{changed:>10,}")


def _confirm() -> None:
    if not sys.stdin.isatty():
        click.echo("Not swapped: the tables differ, and nobody can be asked here; --yes swaps.", err=True)
        sys.exit(DIFFERS)
    if not click.confirm("Swap it in?"):
        click.echo("Not swapped: the live read model is as it was.", err=True)
        sys.exit(DIFFERS)


@contextmanager
def _reporting(report: Path | None) -> Iterator[Callable[[Change], None]]:
    if report is None:
        yield lambda _: None
        return
    with report.open("w", encoding="utf-8", newline="") as out:
        if report.suffix.lower() == ".csv":
            rows = csv.writer(out)
            rows.writerow(["table", "kind", "key", "position", "column", "before", "after"])
            yield lambda change: rows.writerows(_cells(change))
        else:
            encode = msgspec.json.Encoder().encode
            yield lambda change: print(encode(change).decode(), file=out)


def _cells(change: Change) -> Iterable[tuple[object, ...]]:
    key = msgspec.json.encode(change.key).decode()
    for column, (before, after) in change.columns.items():
        yield change.table, change.kind, key, change.position, column, before, after


@contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on standard error, with the rate and the time left, where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    begin = time.monotonic()
    rates: ProgressBar[str] = click.progressbar(
        length=0, label=label, file=sys.stderr, show_pos=True, item_show_func=lambda rate: rate
    )
    with rates as bar:

        def tell(position: int, end: int) -> None:
            bar.length = end
            rate = position / max(time.monotonic() - begin, 1e-3)
            if position >= end:
                # The last that it is told; what follows takes a third of the time.
                bar.label = f"{label}: indexes and checks"
            bar.update(position - bar.pos, f"{rate:,.0f} events/s")

        yield tell
