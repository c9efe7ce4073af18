"""The command `simtrail verify`."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from audit import anchor as anchors
from audit import bundle as bundles
from audit import folder as folders
from audit import options, sealing, verify_bundle
from audit import seals as sealed
from audit.refold import refold
from audit.stopping import CUT_SHORT, stopped_by_signals
from audit.verification import Report, verify
from audit.walk import Finding, Progress
from schema.errors import ConfigurationError, ProofError
from schema.log import open_to_read

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from audit.folder import DataFolder
    from audit.seals import Seals
    from schema.log import Log
    from schema.log_place import Place

NICE = 10
"""How far it stands back behind others who want the processor: the receiver above all."""

DOES_NOT_HOLD = 3

VERDICTS = {0: 0, 1: DOES_NOT_HOLD, 2: 1}
"""What this ends with, for each that verify.py ends with."""

SHOWN = 20
"""Findings that are told one by one; all are in the JSON."""

_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


@click.command("verify")
@options.data
@options.log
@options.option(
    "--since",
    "kept",
    type=_FILE,
    multiple=True,
    metavar="ANCHOR.txt",
    envvar="SIMTRAIL_VERIFY_SINCE",
    help="Also check against an anchor that was kept elsewhere, or a file of several. Again for more.",
)
@options.option(
    "--refold",
    "refolded",
    is_flag=True,
    envvar="SIMTRAIL_VERIFY_REFOLD",
    help="Also fold the log, and compare every published table.",
)
@options.option("--resume", is_flag=True, help="Go on where the last one was interrupted.")
@options.option(
    "--bundle",
    type=click.Path(exists=True, path_type=Path),
    metavar="PATH",
    help="Check an evidence bundle or a receipt instead, by what verify.py in it does.",
)
@options.option(
    "--key", multiple=True, metavar="VKEY", help="With --bundle: a key of the log that you know. Again for more."
)
@options.option(
    "--witness", multiple=True, metavar="VKEY", help="With --bundle: a key of a witness that you trust. Again for more."
)
@options.option(
    "--certificates",
    type=_FILE,
    metavar="PEM",
    help="With --bundle: certificates of the time-stamp authority that you trust, to check the time-stamps in it.",
)
@options.option(
    "--script",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="DEST",
    help="Write verify.py instead, which checks bundles and receipts with Python alone; prints its SHA-256.",
)
@options.option("--json", "as_json", is_flag=True, envvar="SIMTRAIL_VERIFY_JSON", help="As one JSON object.")
def command(  # noqa: PLR0913 - one for each option
    *,
    data: Path,
    place: Place | None,
    kept: tuple[Path, ...],
    refolded: bool,
    resume: bool,
    bundle: Path | None,
    key: tuple[str, ...],
    witness: tuple[str, ...],
    certificates: Path | None,
    script: Path | None,
    as_json: bool,
) -> None:
    """Check that nothing recorded was changed, removed or put in.

    Makes the whole tree anew from the log, and compares it with every anchor that was
    ever signed, cosigned or time-stamped. Runs beside everything else, and stands back
    for it. Findings name positions. Ctrl-C interrupts; --resume goes on from there.

    \b
    exit code 0    everything holds
              1    it couldn't be checked; one line on standard error says why
              3    something does not hold
              130  interrupted
    """  # noqa: D301 - click's mark of a block
    if script is not None:
        _write_script(script)
        return
    if bundle is not None:
        _check_bundle(bundle, key, witness, kept, certificates)
    if key or witness or certificates:
        msg = "--key, --witness and --certificates are for --bundle: a log is checked with the keys in its seals, and by sealing.toml"
        raise click.UsageError(msg)
    folder = folders.existing(data, place)
    os.nice(NICE)
    received: list[int] = []
    with (
        open_to_read(folder.log) as log,
        sealed.open_to_read(folder.seals) as seals,
        stopped_by_signals(received) as stop,
    ):
        report = _verify(folder, log, seals, kept, stop, resume=resume)
        findings = [*report.findings, *(_stamps(folder, seals) if report.complete else [])]
        tables = None
        if refolded and report.complete:
            with _bar("Folding") as tell:
                position, tables, differ = refold(folder, log, folder.path / "verify.db", tell)
            findings += differ
    if as_json:
        told = msgspec.to_builtins(report)
        del told["progress"]
        told |= {"findings": msgspec.to_builtins(findings)}
        if tables is not None:
            told["tables"] = {"position": position, "digests": msgspec.to_builtins(tables)}
        click.echo(json.dumps(told, indent=2))
    else:
        _tell(report, findings, None if tables is None else (position, len(tables)))
    if received:
        sys.exit(CUT_SHORT + received[0])
    sys.exit(DOES_NOT_HOLD if findings else 0)


def _check_bundle(
    path: Path, keys: tuple[str, ...], witnesses: tuple[str, ...], kept: tuple[Path, ...], certificates: Path | None
) -> None:
    """Check a bundle as whoever has only that does, and its time-stamps where there are certificates; and exit."""
    arguments = [str(path)]
    for name, values in (("--key", keys), ("--witness", witnesses), ("--anchor", kept)):
        arguments += [word for value in values for word in (name, str(value))]
    sys.exit(VERDICTS[verify_bundle.main(arguments, _stamp_check(certificates) if certificates else None)])


def _stamp_check(certificates: Path) -> verify_bundle.StampCheck:
    """What checks a time-stamp in a bundle."""
    from audit import timestamps  # noqa: PLC0415 - few have any

    verify = timestamps.verifier(certificates)

    def check(name: str, token: bytes, text: str) -> datetime:
        try:
            return verify(token, text, None)
        except ProofError as error:
            msg = f"{name}: {error}"
            raise verify_bundle.Failure(msg) from error

    return check


def _write_script(path: Path) -> None:
    """Write verify.py to a file that is not there yet, and say which one it is."""
    program = bundles.verifier()
    try:
        with path.open("xb") as file:
            file.write(program)
    except FileExistsError as error:
        msg = f"{path} is there already: name a file that is not"
        raise ConfigurationError(msg) from error
    except OSError as error:
        msg = f"{path} can't be written: {error.strerror}"
        raise ConfigurationError(msg) from error
    click.echo(f"{hashlib.sha256(program).hexdigest()}  {path}")


def _verify(  # noqa: PLR0913 - what is verified, and how
    folder: DataFolder, log: Log, seals: Seals, kept: tuple[Path, ...], stop: threading.Event, *, resume: bool
) -> Report:
    """Verify; where interrupted, what was done is saved, to be gone on from."""
    path = folder.path / "verify.progress"
    texts = [text for file in kept for text in _kept(file)]
    start = _saved(path) if resume else None
    with _bar("Verifying") as tell:
        report = verify(
            log, seals, kept=texts, resume=start, on_progress=lambda done, size: tell(done.size, size), stop=stop
        )
    if report.complete:
        path.unlink(missing_ok=True)
        return report
    try:
        beside = path.with_name(f".{path.name}.new")
        beside.write_bytes(msgspec.json.encode(report.progress))
        beside.replace(path)
    except OSError as error:
        click.echo(f"How far it came can't be saved: {error}", err=True)
    return report


def _saved(path: Path) -> Progress:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Progress)
    except FileNotFoundError as error:
        msg = f"there is nothing to resume: {path} is not there"
        raise ConfigurationError(msg) from error
    except (OSError, msgspec.DecodeError) as error:
        msg = f"{path} can't be gone on from: {error}; verify without --resume"
        raise ConfigurationError(msg) from error


def _kept(file: Path) -> list[str]:
    """The anchors in a file."""
    try:
        texts = anchors.apart(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{file} can't be read: {error}"
        raise ConfigurationError(msg) from error
    if not texts:
        msg = f"there is no anchor in {file}"
        raise ConfigurationError(msg)
    return texts


def _stamps(folder: DataFolder, seals: Seals) -> Iterator[Finding]:
    """What is wrong with the time-stamps."""
    stamps = sealing.load(folder.sealing).timestamps
    if stamps is None:
        return
    from audit import timestamps  # noqa: PLC0415 - few have any

    check = timestamps.verifier(Path(stamps.certificates))
    size = 0
    while found := seals.timestamps(above=size):
        size = found[0].size
        (head,) = seals.heads(above=size - 1, up_to=size)
        try:
            check(found[0].token, seals.anchor(head.size, head.root).text, None)
        except ProofError as error:
            yield Finding("stamp", head.position, head.position, f"the anchor of size {size}: {error}")


@contextmanager
def _bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """What to tell of progress; a bar on a terminal."""
    with click.progressbar(length=0, label=label, file=sys.stderr) as bar:

        def tell(done: int, size: int) -> None:
            bar.length = size
            bar.update(done - bar.pos)

        yield tell


def _tell(report: Report, findings: list[Finding], tables: tuple[int, int] | None) -> None:
    """Say in plain words what was verified, and what was found."""
    counts = report.counts
    click.echo("DOES NOT HOLD\n" if findings else "HOLDS\n" if report.complete else "INTERRUPTED\n")
    for finding in findings[:SHOWN]:
        click.echo(f"- {finding}")
    if more := max(0, len(findings) - SHOWN) + report.more:
        click.echo(f"- and {more} more; --json lists them")
    if findings:
        click.echo()
    of = "" if report.complete else f" of {report.anchored}"
    click.echo(f"{counts.leaves}{of} events were compared with what was sealed;")
    click.echo(
        f"{counts.anchors} anchors, {counts.signatures} signatures of the log and {counts.cosignatures} of witnesses were verified."
    )
    if report.resumed_from:
        click.echo(f"{report.resumed_from} of the events were compared in an earlier run.")
    if report.skipped:
        click.echo(f"{report.skipped} positions had no event when their neighbours were sealed.")
    if report.unsealed:
        click.echo(f"{report.unsealed} events after position {report.position} are not sealed yet.")
    if tables is not None:
        click.echo(f"{tables[1]} tables were folded anew, and compared as published at position {tables[0]}.")
    if not report.complete:
        click.echo("Interrupted: `simtrail verify --resume` goes on from there.", err=True)
