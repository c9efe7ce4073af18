"""The commands `simtrail keys`: the keys that anchors are signed and cosigned with."""

from __future__ import annotations

import json
import os
import time
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import click

from audit import folder as folders
from audit import keys as signers
from audit import options, seal_writer, sealing
from audit import seals as sealed
from schema.errors import ConfigurationError, SealError, SignerUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from audit.folder import DataFolder
    from audit.keys import Signer
    from audit.seal_writer import SealWriter
    from audit.sealing import Sealing

ATTEMPTS = 10
PAUSE_S = 0.3
"""A sealer at work may be about to sign: it is done in less than a second."""

_now = partial(datetime.now, UTC)


@click.group()
def keys() -> None:
    """Show and replace the keys that anchors are signed with.

    Give the public keys to those who are to check: to auditors, to witnesses.
    """


@keys.command()
@options.data
@options.option(
    "--json",
    "as_json",
    is_flag=True,
    envvar="SIMTRAIL_KEYS_SHOW_JSON",
    help="As a JSON array: role, vkey, since_size, introduced.",
)
def show(*, data: Path, as_json: bool) -> None:
    """Show the public keys: the log's, each with the size from which it signs, and witnesses'."""
    with sealed.open_to_read(folders.existing(data).seals) as seals:
        known = seals.known_keys()
    if as_json:
        told = [
            {"role": each.role, "vkey": each.key.vkey, "since_size": each.since_size, "introduced": each.introduced}
            for each in known
        ]
        click.echo(json.dumps(told, indent=2))
        return
    for each in known:
        click.echo(f"{each.role}\tabove size {each.since_size}\t{each.key.vkey}")


@keys.command()
@options.data
def rotate(*, data: Path) -> None:
    """Replace the log's key; the new public key alone goes to standard output.

    An anchor that names the new key is signed by both, so whoever trusts the old one can
    trust the new one. A sealer may be at work: it takes the new key up by itself.

    With a [signer] in sealing.toml that is not the log's key yet, that key is introduced;
    else a new key file is made. The present key is the file's, or the [former_signer]'s.
    """
    folder = folders.existing(data)
    how = sealing.load(folder.sealing)
    with closing(seal_writer.open_to_write(folder.seals, checkpoints=False)) as seals:
        after = _patiently(lambda: _rotate(folder, seals, how))
    click.echo(after.key.vkey)
    click.echo("Give it to the witnesses: they cosign nothing that a key signed which they don't know.", err=True)


def _rotate(folder: DataFolder, seals: SealWriter, how: Sealing) -> Signer:
    """Replace the key; the signer of the new one."""
    wanted = seals.known_keys("log")[-1].key
    commands = [each for each in (how.signer, how.former_signer) if each is not None and each.key == wanted]
    before = commands[0] if commands else None
    if how.signer is not None and how.signer.key != wanted:
        known = signers.current(folder.seal_key, seals, before)
        signers.introduce(seals, known, how.signer, now=_now())
        return how.signer
    if how.signer is not None:
        msg = "sealing.toml names the log's present key as the [signer]: put the next one there, and this one under [former_signer]"
        raise ConfigurationError(msg)
    return signers.rotate(folder.seal_key, seals, before=before, entropy=os.urandom, now=_now())


def _patiently(act: Callable[[], Signer]) -> Signer:
    """Do it between two anchors of a sealer that is at work."""
    for _ in range(ATTEMPTS - 1):
        try:
            return act()
        except SignerUnavailable:
            raise
        except SealError:
            time.sleep(PAUSE_S)
    return act()
