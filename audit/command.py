"""The command `simtrail`: what people type, and what they are told."""

from __future__ import annotations

import json
import os
import runpy
import shlex
import signal
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

import click

from audit import append as capture
from audit import folder as folders
from audit import options, sealing, services
from audit import publish as publishing
from audit.asof import asof
from audit.backup import backup
from audit.correct import correct
from audit.doctor_command import doctor
from audit.export_command import export
from audit.keys_command import keys
from audit.log_command import log
from audit.rebuild import command as rebuild
from audit.seal_command import seal
from audit.services import Address
from audit.simulate import simulate
from audit.sources import sources, webhook_url
from audit.status import status as status_of
from audit.stopping import CUT_SHORT
from audit.supervisor import STOP_SIGNALS, end_with_supervisor, supervise
from audit.tiles_command import tiles
from audit.users_command import users
from audit.verify_command import command as verify
from audit.witness_command import witness
from ingest import sources as registry
from schema import configuration
from schema.errors import SimtrailError, SourceError
from schema.log import open_to_append

if TYPE_CHECKING:
    from collections.abc import Iterator

    from audit.append import Form
    from schema.log_place import Place

FIRST_SOURCE = "main"

_FILE = click.Path(exists=True, dir_okay=False, readable=True, allow_dash=True, path_type=Path)

_now = partial(datetime.now, UTC)


class Commands(click.Group):
    """A group that lists its commands in the order they are written in, and tells errors in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Called by click."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> object:
        """Called by click."""
        try:
            return super().invoke(ctx)
        except SimtrailError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            click.echo(err=True)
            ctx.exit(CUT_SHORT + signal.SIGINT)


@click.group(
    "simtrail",
    cls=Commands,
    context_settings={
        "auto_envvar_prefix": "SIMTRAIL",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
    epilog="""\b
Exit codes:
  0    done, or stopped as asked
  1    it couldn't be done; one line on standard error says why
  2    wrong usage
  3    verify: something does not hold
  130  cut short by Ctrl-C
""",
)
@click.version_option(package_name="simtrail", message="%(prog)s %(version)s", allow_from_autoenv=False)
def main() -> None:
    """An audit store for the webhooks of a SIM-card platform.

    Every webhook is recorded before it is answered, and Datasette shows what they
    say. To begin: simtrail serve
    """


@main.command()
@options.data
@options.log
@options.receiver
@options.front
@options.publisher("publish-")
@options.public
@options.base_url
def serve(  # noqa: PLR0913 - one for each option
    *,
    data: Path,
    place: Place | None,
    host: str,
    port: int,
    front: options.Front,
    publish_host: str,
    publish_port: int,
    public: bool,
    base_url: str | None,
) -> None:
    """Run the receiver, the sealer, the projector and Datasette.

    Makes the data folder and a first source, main, where there are none. Prints the
    webhook URL and Datasette's once both answer. Ctrl-C or SIGTERM stops all four,
    with exit code 0; if one of them ends by itself, the others are stopped, with 1.
    Port 0 takes a free one.
    """
    folder = folders.create(data, place)
    configuration.load(folder.configuration)
    publishing.require_users(folder, publish_host, public=public)
    sealing.load(folder.sealing)
    for role in folders.ROLES if folder.has_log_file else folders.ROLES[1:]:
        folders.require_free(folder, role)
    receiver, publisher = services.free(
        {"--port": Address(host, port, front.tls), "--publish-port": Address(publish_host, publish_port)},
    )
    known = registry.listed(folder.sources)
    secret = None if known else registry.add(folder.sources, FIRST_SOURCE, now=_now(), entropy=os.urandom)
    announced = False

    def announce() -> None:
        nonlocal announced
        if secret is None:
            again = f"simtrail sources rotate {known[0].name} --data {shlex.quote(str(data))} --base-url {base_url or receiver.url}"
            click.echo(f"Webhook URL: shown when it was made, not kept; for a new one: {again}")
        else:
            click.echo(f"Webhook URL: {webhook_url(base_url or receiver.url, FIRST_SOURCE, secret)}")
            click.echo("The webhook URL is shown only now: paste it into the platform.", err=True)
        announced = True
        click.echo(f"Datasette URL: {publisher.url}/")
        click.echo(f"Receiving at {receiver.url}; data in {data}; Ctrl-C stops.", err=True)

    try:
        supervise(
            services.of_installation(folder, receiver, publisher, public=public, receiving=front.variables), announce
        )
    finally:
        if secret is not None and not announced:
            # Nobody has seen its secret: the next start is a first one again.
            registry.remove(folder.sources, FIRST_SOURCE)


@main.command()
@options.data
@options.log
@options.receiver
@options.front
@options.supervised
def receive(  # noqa: PLR0913 - one for each option
    *, data: Path, place: Place | None, host: str, port: int, front: options.Front, supervised: bool
) -> None:
    """Run the receiver alone: record webhooks."""
    from audit import receipts, seal_state  # noqa: PLC0415 - each process loads what it runs
    from audit.lag import lag  # noqa: PLC0415
    from ingest import server, tls  # noqa: PLC0415

    def ready(url: str) -> None:
        folders.tell_receiving(folder, Address(host, int(url.rpartition(":")[2]), front.tls).url)
        if not supervised:
            click.echo(f"Receiving at {url}; Ctrl-C stops.", err=True)

    if supervised:
        end_with_supervisor()
    folder = folders.create(data, place)
    with folders.hold_to_append(folder) as held:
        code = server.serve(
            place=folder.log,
            sources_path=folder.sources,
            clock=_now,
            ready=ready,
            host=host,
            port=port,
            delivery_lines=front.delivery_lines,
            lag=lambda: lag(folder, _now()),
            seals=lambda: seal_state.as_json(folder.seals),
            receipts=receipts.of_folder(folder),
            forwarded_allow_ips=front.forwarded_allow_ips,
            tls=tls.Certificate(front.certificate, front.key) if front.certificate else None,
            held=held,
        )
    sys.exit(code)


@main.command()
@options.data
@options.log
@options.option("--once", is_flag=True, help="Stop at the log's end, instead of following it.")
@options.supervised
def project(*, data: Path, place: Place | None, once: bool, supervised: bool) -> None:
    """Run the projector alone: bring the read model up to the log."""
    from audit import projector  # noqa: PLC0415 - each process loads what it runs

    if supervised:
        end_with_supervisor()
    folder = folders.existing(data, place)
    with folders.hold(folder, "projector"):
        position, stopped_by = projector.run(folder, once=once)
    if not supervised:
        click.echo(f"The read model is at position {position}.", err=True)
    if once and stopped_by:
        sys.exit(CUT_SHORT + stopped_by)


@main.command()
@options.data
@options.log
@options.publisher("")
@options.public
@options.option(
    "--with",
    "beside",
    multiple=True,
    envvar="SIMTRAIL_PUBLISH_WITH",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Show a read model that `simtrail asof` made too, under its file's name; may be given again.",
)
@options.supervised
def publish(  # noqa: PLR0913 - one for each option
    *,
    data: Path,
    place: Place | None,
    publish_host: str,
    publish_port: int,
    public: bool,
    beside: tuple[Path, ...],
    supervised: bool,
) -> None:
    """Run Datasette alone: show the read model."""
    if supervised:
        end_with_supervisor()
    folder = folders.existing(data, place)
    publishing.require_users(folder, publish_host, public=public)
    (address,) = services.free({"--port": Address(publish_host, publish_port)})
    with TemporaryFile() as described:
        # A file without a name, which nothing has to clean up: Datasette is run by this very process.
        metadata = Path(f"/dev/fd/{described.fileno()}") if beside else publishing.metadata_path()
        argv = publishing.publish_command(folder.read_model, metadata, address.host, address.port, beside)
        described.write(publishing.described(publishing.metadata_path(), beside) if beside else b"")
        described.flush()
        os.environ.update(publishing.environment(folder, public=public, entropy=os.urandom))
        if not supervised:
            click.echo(f"Publishing at {address.url}/; Ctrl-C stops.", err=True)
        _run_module(argv)


main.add_command(seal)
main.add_command(sources)
main.add_command(users)
main.add_command(correct)
main.add_command(rebuild)
main.add_command(asof)
main.add_command(export)


@main.command()
@options.data
@options.log
@options.option(
    "--json",
    "as_json",
    is_flag=True,
    envvar="SIMTRAIL_STATUS_JSON",
    help="As one JSON object, with the keys below.",
)
def status(*, data: Path, place: Place | None, as_json: bool) -> None:
    """Tell what is recorded, read and sealed so far.

    \b
    head              position of the log's last event; 0 if there is none
    projected         position that the read model has reached
    lag               events from there to the head
    standstill        why projecting does not go on, and what mends that, or null
    sources           names of the sources
    deliveries        deliveries in the read model
    quarantine        those of them that were not understood
    last_received_at  when the last event came (RFC 3339, UTC), or null
    sealed            position up to which the log is under a signed anchor
    refusals          why nothing is signed, or what a witness holds against the log

    These are the JSON's keys, and stay. Changes nothing; asks no running process.
    """  # noqa: D301 - click's mark of a block
    told = asdict(status_of(folders.existing(data, place)))
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    for key, value in told.items():
        shown = ", ".join(value) if isinstance(value, tuple) else value
        click.echo(f"{key.replace('_', ' ').capitalize():<18}{'none' if shown in (None, '') else shown}")


@main.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=_FILE)
@options.data
@options.log
@options.option("--source", default=FIRST_SOURCE, metavar="NAME", help="The source that the bodies are from.")
@options.option(
    "--format",
    "form",
    type=click.Choice(["json", "ndjson", "raw"]),
    envvar="SIMTRAIL_APPEND_FORMAT",
    help="How the files hold bodies, whatever their names end in.",
)
def append(*, files: tuple[Path, ...], data: Path, place: Place | None, source: str, form: Form | None) -> None:
    """Record captured bodies, as if the platform had sent them now.

    \b
    *.json             one body, the whole file, which must be JSON
    *.ndjson, *.jsonl  one body a line, each of which must be JSON
    any other, or -    one body, the whole file, whatever it is (- is standard input)

    Prints each position with the name of its file, once it is on disk. A receiver
    may run meanwhile.
    """  # noqa: D301 - click's mark of a block
    folder = folders.existing(data, place)
    if source not in {known.name for known in registry.listed(folder.sources)}:
        msg = f"there is no source {source!r}: `simtrail sources add {source}` makes it"
        raise SourceError(msg)
    with open_to_append(folder.log, checkpoints=False) as log:
        recorded = capture.append(log, _captured(files, form), source, now=_now, entropy=os.urandom)
        for position, name in recorded:
            click.echo(f"{position}\t{name}")


main.add_command(verify)
main.add_command(keys)
main.add_command(witness)
main.add_command(tiles)
main.add_command(doctor)
main.add_command(log)
main.add_command(backup)
main.add_command(simulate)


def _run_module(argv: list[str]) -> None:
    """Run `python -m ...` in this process, so that whatever ends this one leaves no other behind.

    A signal to stop ends it with exit code 0, after the module's own handling of it.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: sys.exit(0))
    sys.argv = argv[argv.index("-m") + 1 :]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _captured(files: tuple[Path, ...], form: Form | None) -> Iterator[tuple[str, bytes]]:
    for file in files:
        name = capture.shown_name(file)
        with click.open_file(os.fspath(file), "rb") as stream:
            for body in capture.bodies(stream, form or capture.form_of(file), name):
                yield name, body
