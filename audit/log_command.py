"""The command `simtrail log`: making a log on a server, and moving one from one place to another."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, get_args

import click

from audit import folder as folders
from audit import log_copy, options
from audit.folder import DataFolder
from audit.options import PLACE
from audit.rebuild import progress
from schema.log import open_to_append, open_to_read
from schema.log_place import Place, Server

if TYPE_CHECKING:
    from collections.abc import Iterator

FROM_TO = tuple(get_args(Place))


@click.group()
def log() -> None:
    """Make a log on a PostgreSQL server, or move one."""


@log.command()
@options.option(
    "--log",
    "place",
    type=PLACE,
    metavar="URL",
    envvar=options.LOG_VARIABLE,
    required=True,
    help="The database, as its owner: postgresql://OWNER@HOST/DATABASE.",
)
@options.option("--role", default="simtrail", metavar="NAME", help="The role that receives and projects.")
@options.option("--sql", is_flag=True, help="Print the statements for someone else to run, and run none.")
def init(*, place: Place, role: str, sql: bool) -> None:
    """Make the log in a PostgreSQL database, and a role that may only append and read.

    Run it as the role that is to own the log: with it anything can be done, so no
    running simtrail should have it. May be run again, as after an upgrade: what is
    there stays. A log in a file needs no such step.
    """
    if not isinstance(place, Server):
        msg = f"{place} is a file, which the receiver makes by itself: init is for postgresql://OWNER@HOST/DATABASE"
        raise click.UsageError(msg)
    from audit import log_making  # noqa: PLC0415 - most have no server

    if sql:
        click.echo(log_making.script(role))
        return
    click.echo(log_making.make(place, role))


@log.command()
@click.argument("source", metavar="FROM", type=PLACE)
@click.argument("target", metavar="TO", type=PLACE)
@options.option("--follow", is_flag=True, help="Go on with what is appended meanwhile, until Ctrl-C or SIGTERM.")
def copy(*, source: Place, target: Place, follow: bool) -> None:
    """Copy a log to another place: sqlite:///PATH or postgresql://USER@HOST/DATABASE.

    Events keep their positions, ids and bytes. Each is read back and compared, those
    too that an earlier run has copied: run it again to go on where it stopped.

    \b
    To move an installation while it receives:
      simtrail log copy --follow FROM TO       until little is left
      stop the receivers                       senders are refused, and try again
      simtrail log copy FROM TO                what came last
      start them with --log TO                 and projectors, whose audit.db stays
    """  # noqa: D301 - click's mark of a block
    if source == target:
        msg = "FROM and TO are the same log"
        raise click.UsageError(msg)
    with (
        _alone(target),
        open_to_read(source) as read,
        open_to_append(target) as written,
        _stopping() as stop,
        progress("Copying") as tell,
    ):
        copied = log_copy.copy(read, written, stop, follow=follow, on_progress=tell)
    click.echo(f"{target} has {copied.events} events, {copied.copied} of them copied now, equal to those of {source}.")
    click.echo(f"SHA-256 of their hashes: {copied.sha256}")
    if copied.left:
        click.echo(f"{copied.left} are not copied yet: run it again.", err=True)
        sys.exit(1)


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; a second one ends at once, and loses nothing either."""
    stop = threading.Event()

    def handle(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        threading.Thread(target=stop.set).start()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _alone(target: Place) -> AbstractContextManager[object]:
    """No receiver may append to a file meanwhile; on a server a copy notices that, and ends."""
    return (
        nullcontext() if isinstance(target, Server) else folders.hold(DataFolder(target.absolute().parent), "receiver")
    )
