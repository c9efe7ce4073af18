"""The commands `simtrail users`: who may look."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import click

from audit import folder as folders
from audit import options
from audit import users as registry
from audit.roles import Role

if TYPE_CHECKING:
    from pathlib import Path

_now = partial(datetime.now, UTC)

_role = options.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    default=Role.AUDITOR.value,
    envvar="SIMTRAIL_USERS_ADD_ROLE",
    help="What the user may see.",
)


@click.group()
def users() -> None:
    """Say who may look: add, list, change, remove.

    \b
    auditor  everything but personal data and bodies as received
    privacy  these too
    admin    these too, and what is for the installation's keeper

    A person logs in with a password, a program sends a token. Both are kept as hashes
    only. While there are no users, Datasette answers on this machine alone, to anyone
    on it. A running Datasette takes changes up by itself.
    """  # noqa: D301 - click's mark of a block


@users.command()
@click.argument("name")
@options.data
@_role
@options.option(
    "--token",
    "program",
    is_flag=True,
    envvar="SIMTRAIL_USERS_ADD_TOKEN",
    help="Add a program: print a token for it, instead of asking for a password.",
)
def add(*, name: str, data: Path, role: str, program: bool) -> None:
    """Add a user; ask for the password, or read a line of standard input if that is no terminal."""
    path = folders.create(data).users
    if program:
        token = registry.add_program(path, name, Role(role), now=_now(), entropy=os.urandom)
        _tell_token(token)
        return
    registry.add(path, name, Role(role), _password(), now=_now(), entropy=os.urandom)
    click.echo(f"Added {name}, {role}.", err=True)


@users.command("list")
@options.data
@options.option(
    "--json",
    "as_json",
    is_flag=True,
    envvar="SIMTRAIL_USERS_LIST_JSON",
    help="As JSON: name, role, kind (person or program), added_at, changed_at of each.",
)
def list_users(*, data: Path, as_json: bool) -> None:
    """List the users."""
    told = [
        {
            "name": user.name,
            "role": user.role.value,
            "kind": "person" if user.password else "program",
            "added_at": user.added_at,
            "changed_at": user.changed_at,
        }
        for user in registry.listed(folders.existing(data).users)
    ]
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    if not told:
        click.echo("There are no users: Datasette is open to anyone on this machine.", err=True)
    for user in told:
        click.echo(f"{user['name']}\t{user['role']}\t{user['kind']}\tadded {user['added_at']}")


@users.command()
@click.argument("name")
@options.data
@options.option(
    "--token",
    "program",
    is_flag=True,
    envvar="SIMTRAIL_USERS_CHANGE_TOKEN",
    help="Print a new token, instead of asking for a password.",
)
def change(*, name: str, data: Path, program: bool) -> None:
    """Give a user a new password or token; the former one, and who is logged in with it, ends at once."""
    path = folders.existing(data).users
    if program:
        _tell_token(registry.change_token(path, name, now=_now(), entropy=os.urandom))
        return
    registry.change_password(path, name, _password(), now=_now(), entropy=os.urandom)
    click.echo(f"Changed the password of {name}.", err=True)


@users.command()
@click.argument("name")
@options.data
def remove(*, name: str, data: Path) -> None:
    """Remove a user; who is logged in by that name no longer is."""
    path = folders.existing(data).users
    registry.remove(path, name)
    click.echo(f"Removed {name}.", err=True)
    if not registry.listed(path):
        click.echo("No user is left: from its next start Datasette is open to anyone on this machine.", err=True)


def _password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    asked: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return asked


def _tell_token(token: str) -> None:
    click.echo(token)
    click.echo("Shown only now: send it as Authorization: Bearer TOKEN.", err=True)
