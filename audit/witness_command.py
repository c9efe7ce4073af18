"""The command `simtrail witness`."""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import click

from audit import folder as folders
from audit import keys, options
from audit import note as notes
from audit.note import COSIGNATURE, ED25519
from audit.services import Address, free
from ingest import loglines
from schema.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from audit.keys import Signer
    from audit.note import Key
    from audit.witness import Witness

PORT = 8090


@click.command("witness")
@options.data
@options.option(
    "--name", metavar="NAME", help="What the witness is called, like witness.example/office; on the first start only."
)
@options.option(
    "--trust",
    multiple=True,
    metavar="VKEY",
    help="A log's public key, as `simtrail keys show` there shows it. Again for more.",
)
@options.option("--host", envvar="SIMTRAIL_WITNESS_HOST", default=options.LOOPBACK, help="The address to listen at.")
@options.port_option("--port", envvar="SIMTRAIL_WITNESS_PORT", default=PORT, help="The port to listen at.")
def witness(*, data: Path, name: str | None, trust: tuple[str, ...], host: str, port: int) -> None:
    """Cosign other people's anchors.

    A witness cosigns an anchor only where it is shown that all it cosigned before is the
    beginning of it. So nobody whose log it witnesses can change the past unseen: run it
    where those who run the log can't reach.

    DATA gets witness.key and witness.db, and is no log's. The witness's public key alone goes to
    standard output: it belongs into sealing.toml of the log, with this URL.
    """
    from audit import witness as witnesses  # noqa: PLC0415 - each process loads what it runs

    loglines.configure()
    logs = _logs(trust)
    folder = folders.create(data)
    signer = _signer(folder.path, name)
    (address,) = free({"--port": Address(host, port)})
    clock = partial(datetime.now, UTC)
    with witnesses.Witness(folder.path / "witness.db", signer, logs, clock=clock) as made:
        click.echo(signer.key.vkey)
        _serve(
            made, address, lambda: click.echo(f"Witnessing {', '.join(logs)} at {address.url}; Ctrl-C stops.", err=True)
        )


def _logs(trust: tuple[str, ...]) -> dict[str, list[Key]]:
    """The keys that are trusted, by the logs' names."""
    if not trust:
        msg = "whom to witness? Give the public key of a log with --trust, as `simtrail keys show` there shows it"
        raise click.UsageError(msg)
    logs: dict[str, list[Key]] = defaultdict(list)
    for vkey in trust:
        key = notes.parse_key(vkey)
        if key.kind != ED25519:
            msg = f"{vkey} is no log's key, but of kind {key.kind:02x}"
            raise ConfigurationError(msg)
        logs[key.name].append(key)
    return dict(logs)


def _signer(folder: Path, name: str | None) -> Signer:
    """The witness's own signer; made on the first start."""
    from audit.witness import name_in  # noqa: PLC0415 - each process loads what it runs

    path, known = folder / "witness.key", name_in(folder / "witness.db")
    if name is None and known is None:
        msg = "a new witness needs a name, like witness.example/office: give it with --name"
        raise click.UsageError(msg)
    if known is not None and name not in {None, known}:
        msg = f"this witness is called {known} in all that it cosigned; it can't be called {name} now"
        raise ConfigurationError(msg)
    called = known or name or ""
    if known is None and not path.exists():
        return keys.generate(path, called, entropy=os.urandom, kind=COSIGNATURE)
    return keys.load(path, called, COSIGNATURE)


def _serve(made: Witness, address: Address, ready: Callable[[], None]) -> None:
    """Answer until SIGINT or SIGTERM."""
    from audit.witness import create_app  # noqa: PLC0415 - each process loads what it runs
    from ingest.server import STOP_SIGNALS, Server, configuration  # noqa: PLC0415

    config = configuration(create_app(made))
    config.host, config.port = address.host, address.port
    server = Server(config, ready)
    # uvicorn raises the signal that stopped it once more; this is a clean end.
    before = {number: signal.signal(number, lambda *_: None) for number in STOP_SIGNALS}
    try:
        server.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
