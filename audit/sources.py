"""The commands `simtrail sources`: who may deliver."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import click

from audit import folder as folders
from audit import options
from audit.services import Address, known_receiver_url
from ingest import sources as registry

if TYPE_CHECKING:
    from pathlib import Path

    from audit.folder import DataFolder

_now = partial(datetime.now, UTC)


@click.group()
def sources() -> None:
    """Say who may deliver: add, list, rotate, remove, allow, limit.

    A source stands for one account of the platform. Its secret is a part of its
    webhook URL, is shown once, and is kept as a hash only.
    """


@sources.command()
@click.argument("name")
@options.data
@options.receiver
@options.base_url
def add(*, name: str, data: Path, host: str, port: int, base_url: str | None) -> None:
    """Add a source; its webhook URL alone goes to standard output."""
    folder = folders.create(data)
    secret = registry.add(folder.sources, name, now=_now(), entropy=os.urandom)
    _tell_webhook_url(_front(folder, base_url, host, port), name, secret)


@sources.command("list")
@options.data
@options.option(
    "--json",
    "as_json",
    is_flag=True,
    envvar="SIMTRAIL_SOURCES_LIST_JSON",
    help="As JSON: name, added_at, secrets (id, added_at), networks, per_second of each.",
)
def list_sources(*, data: Path, as_json: bool) -> None:
    """List the sources, with their secrets' ids."""
    listed = registry.listed(folders.existing(data).sources)
    if as_json:
        told = [
            {
                "name": source.name,
                "added_at": source.added_at,
                "secrets": [{"id": secret.id, "added_at": secret.added_at} for secret in source.secrets],
                "networks": source.networks,
                "per_second": source.per_second,
            }
            for source in listed
        ]
        click.echo(json.dumps(told, indent=2))
        return
    for source in listed:
        ids = ", ".join(secret.id for secret in source.secrets)
        networks = f"\tfrom {', '.join(source.networks)}" if source.networks else ""
        rate = f"\tat most {source.per_second} a second" if source.per_second else ""
        click.echo(f"{source.name}\tadded {source.added_at}\tsecrets {ids}{networks}{rate}")


@sources.command()
@click.argument("name")
@options.data
@options.receiver
@options.base_url
@options.option("--drop-old", is_flag=True, help="End all earlier secrets at once, as after a leak.")
def rotate(*, name: str, data: Path, host: str, port: int, base_url: str | None, drop_old: bool) -> None:  # noqa: PLR0913 - one for each option
    """Give a source a new secret; the webhook URL with it alone goes to standard output.

    The earlier secrets stay valid: change the URL at the platform, then end the old
    secret with `simtrail sources remove NAME --secret ID`.
    """
    folder = folders.existing(data)
    secret = registry.rotate(folder.sources, name, now=_now(), entropy=os.urandom, drop_old=drop_old)
    _tell_webhook_url(_front(folder, base_url, host, port), name, secret)


@sources.command()
@click.argument("name")
@options.data
@options.option(
    "--secret",
    "secret_id",
    metavar="ID",
    envvar="SIMTRAIL_SOURCES_REMOVE_SECRET",
    help="Remove only this secret, as `sources list` names it.",
)
def remove(*, name: str, data: Path, secret_id: str | None) -> None:
    """Remove a source, or one of its secrets; what it sent stays recorded."""
    registry.remove(folders.existing(data).sources, name, secret_id=secret_id)
    click.echo(f"Removed {f'secret {secret_id} of ' if secret_id else ''}{name}.", err=True)


@sources.command()
@click.argument("name")
@click.argument("networks", nargs=-1, metavar="[NETWORK]...")
@options.data
def allow(*, name: str, networks: tuple[str, ...], data: Path) -> None:
    """Let a source deliver from these networks or addresses alone; without any, from anywhere.

    Others are answered 403. Behind a proxy, the receiver must know it by --forwarded-allow-ips.
    """
    registry.allow(folders.existing(data).sources, name, networks)
    click.echo(f"{name} may deliver from {', '.join(networks) or 'anywhere'}.", err=True)


@sources.command("limit")
@click.argument("name")
@click.argument("per_second", type=click.IntRange(min=0))
@options.data
def limit_source(*, name: str, per_second: int, data: Path) -> None:
    """Let a source deliver PER_SECOND times a second; with 0, as often as it likes.

    More are answered 429 with Retry-After. A second's worth may come at once.
    """
    registry.limit(folders.existing(data).sources, name, per_second)
    click.echo(f"{name} may deliver {f'{per_second} times a second' if per_second else 'at any rate'}.", err=True)


def webhook_url(front: str, name: str, secret: str) -> str:
    """What to paste into the platform; ``front`` is the URL before the path."""
    return f"{front.rstrip('/')}{registry.webhook_path(name, secret)}"


def _front(folder: DataFolder, base_url: str | None, host: str, port: int) -> str:
    """The front of the webhook URL, told to be a guess where nobody said it."""
    known = base_url or known_receiver_url(folder, host, port)
    if known is not None:
        return known
    guess = Address(host, port).url
    click.echo(
        f"No receiver at work here says where it is reached, so {guess} is a guess: say with --base-url, or --host and --port, where it will be reached, "
        "or put that in the URL's front yourself.",
        err=True,
    )
    return guess


def _tell_webhook_url(front: str, name: str, secret: str) -> None:
    click.echo(webhook_url(front, name, secret))
    click.echo("Shown only now: paste it into the platform.", err=True)
