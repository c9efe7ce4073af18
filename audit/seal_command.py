"""The command `simtrail seal`, and the sealer's process under `simtrail serve`."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import click
import structlog

from audit import folder as folders
from audit import keys, options, seal_writer, sealer, sealing
from audit.seals import SEALER
from audit.stopping import CUT_SHORT, stopped_by_signals
from audit.supervisor import end_with_supervisor
from ingest import loglines
from schema.errors import LogNotThere, SimtrailError
from schema.log import open_to_read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from audit.folder import DataFolder
    from audit.sealing import Sealing
    from audit.seals import Head
    from schema.log_place import Place

RETRY_S = 1
"""Pause after sealing could not go on: a key that was replaced is taken up by then."""

NICE = 10
"""How far following stands back behind who receives: under more load than the machine has processors for, it signs later."""

_now = partial(datetime.now, UTC)

_lines = structlog.get_logger("simtrail.sealer")


@click.command()
@options.data
@options.log
@options.option("--once", is_flag=True, help="Stop at the log's end, instead of following it.")
@options.supervised
def seal(*, data: Path, place: Place | None, once: bool, supervised: bool) -> None:
    """Run the sealer alone: sign what is recorded.

    Makes the log's key, seal.key, and seals.db where there are none. While events
    come, an anchor is signed every second. sealing.toml names witnesses and more.

    Where the log is not the one that was sealed, nothing is signed until it is, and
    `simtrail status` says so; with --once, that is an error.
    """
    if supervised:
        end_with_supervisor()
    if not once:
        os.nice(NICE)
    loglines.configure()
    folder = folders.existing(data, place)
    received: list[int] = []
    with folders.hold(folder, "sealer"), stopped_by_signals(received) as stop:
        how = sealing.load(folder.sealing)
        last = _once(folder, how, stop) if once else _on(folder, how, stop)
    if not supervised:
        click.echo(f"The log is sealed up to position {last.position if last else 0}.", err=True)
    if once and received:
        sys.exit(CUT_SHORT + received[0])


def _once(folder: DataFolder, how: Sealing, stop: threading.Event) -> Head | None:
    """Seal to the log's end; the last head."""
    from audit import attestations  # noqa: PLC0415 - each process loads what it runs

    with open_to_read(folder.log) as log, _started(folder, how) as (seals, signer):
        sealer.seal(log, seals, signer, clock=_now, stop=stop, once=True, also=how.also)
        attestations.attest_once(seals, how, now=_now())
        return seals.last(signed=True)


def _on(folder: DataFolder, how: Sealing, stop: threading.Event) -> Head | None:
    """Seal until stopped, whatever goes wrong meanwhile; the last head. Ending would end the receiving under `serve`."""
    told: str | None = None
    last = None

    def well(_: Head) -> None:
        nonlocal told
        told = None

    while not stop.is_set():
        try:
            with _started(folder, how) as (seals, signer), _attesting(folder, how):
                with suppress(LogNotThere), open_to_read(folder.log) as log:
                    sealer.seal(log, seals, signer, clock=_now, stop=stop, also=how.also, on_anchor=well)
                last = seals.last(signed=True)
        except SimtrailError as error:
            if str(error) != told:
                told = str(error)
                _lines.error("not sealing", reason=told)
                _refuse(folder, told)
        stop.wait(RETRY_S)
    return last


@contextmanager
def _started(folder: DataFolder, how: Sealing) -> Iterator[tuple[seal_writer.SealWriter, keys.Signer]]:
    seals, signer = keys.start(
        folder.seal_key, folder.seals, origin=how.origin, signer=how.signer, entropy=os.urandom, now=_now()
    )
    with closing(seals):
        yield seals, signer


@contextmanager
def _attesting(folder: DataFolder, how: Sealing) -> Iterator[None]:
    """A thread beside that sees to what others say of the anchors; until the end of the context."""
    if not (how.witnesses or how.copy or how.timestamps):
        yield
        return
    from audit import attestations  # noqa: PLC0415 - each process loads what it runs

    done = threading.Event()

    def attest() -> None:
        with closing(seal_writer.open_to_write(folder.seals, checkpoints=False)) as seals:
            attestations.attest(seals, how, clock=_now, stop=done)

    thread = threading.Thread(target=attest, name="attestations")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _refuse(folder: DataFolder, reason: str) -> None:
    """Store why nothing is signed, for all to see, if that can be stored at all."""
    with suppress(SimtrailError), closing(seal_writer.open_to_write(folder.seals)) as seals:
        seals.refuse(SEALER, reason, now=_now())
