"""The commands `simtrail correct`: what no webhook tells, said by a person."""

from __future__ import annotations

import os
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, get_args

import click

from audit import append, options
from audit import folder as folders
from projections.read_model import open_to_read as open_read_model
from schema import correction as corrections
from schema.correction import AccountState, Correction, Evidence, Subject
from schema.errors import ConfigurationError
from schema.event import CorrectionRecorded, Delivery, instant, uuid7
from schema.log import open_to_append, open_to_read
from schema.log_place import Server
from schema.readings import Status

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from audit.folder import DataFolder

_Command = TypeVar("_Command", bound="Callable[..., None]")

TABLES: dict[Subject, str] = {"bill": "bills", "sim": "sims", "same_sim": "sims", "account": "accounts"}


@click.group()
def correct() -> None:
    """Record what no webhook tells, with your name and reason.

    A correction is an event in the log like any other: it is shown in the history,
    applied by the projections, and taken back only by another one, `correct void`.
    """


def _signed(command: _Command) -> _Command:
    """What every correction needs: who says it, why, and what shows it."""
    by = options.option("--by", required=True, metavar="NAME", help="Who says so.")
    why = options.option("--why", required=True, metavar="TEXT", help="Why, for the auditor who reads it.")
    evidence = options.option(
        "--evidence",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        help="A file that shows it, kept in the log.",
    )
    return options.data(options.log(by(why(evidence(command)))))


@correct.command()
@click.argument("bill", metavar="BILL")
@_signed
@options.option("--paid-at", metavar="MOMENT", help="When it was paid: a date, or RFC 3339.")
@options.option("--not-paid", is_flag=True, help="That it was not paid after all.")
def bill(*, bill: str, paid_at: str | None, not_paid: bool, **said: object) -> None:
    """Say that a bill, such as main:501, was paid, or was not."""
    if (paid_at is None) != not_paid:
        msg = "say either --paid-at or --not-paid"
        raise click.UsageError(msg)
    _record("bill", bill, None if paid_at is None else corrections.moment(paid_at), said)


@correct.command()
@click.argument("sim", metavar="SIM")
@_signed
@options.option("--status", required=True, type=click.Choice(get_args(Status)), help="Its own status, now.")
def sim(*, sim: str, status: str, **said: object) -> None:
    """Say what status a SIM card, such as main:8970100000000000013, has."""
    _record("sim", sim, status, said)


@correct.command()
@click.argument("source", metavar="SOURCE")
@_signed
@options.option("--state", required=True, type=click.Choice(get_args(AccountState)), help="Its state, now.")
def account(*, source: str, state: str, **said: object) -> None:
    """Say what state the account of a source is in."""
    _record("account", source, state, said)


@correct.command("same-sim")
@click.argument("sim", metavar="SIM")
@click.argument("other", metavar="OTHER")
@_signed
def same_sim(*, sim: str, other: str, **said: object) -> None:
    """Say that the SIM card SIM is the SIM card OTHER.

    No two that have different ICCIDs, IMSIs, MSISDNs or ids can be one.
    """
    _record("same_sim", sim, other, said)


@correct.command()
@click.argument("position", type=click.IntRange(min=1))
@_signed
def void(*, position: int, **said: object) -> None:
    """Say that the event at a position counts for nothing, as if it had never come.

    It stays in the log, and in `deliveries`, marked. The projector makes the tables
    anew without it. To take that back, void the correction itself.
    """
    _record("void", str(position), None, said)


def _record(subject: Subject, key: str, value: str | None, said: dict[str, object]) -> None:
    data, place, evidence = said["data"], said["place"], said["evidence"]
    if not isinstance(data, Path) or not isinstance(place, Path | Server | None):
        raise TypeError(data, place)
    folder = folders.existing(data, place)
    kept = Evidence(append.shown_name(evidence), evidence.read_bytes()) if isinstance(evidence, Path) else None
    correction = Correction(subject, key, value, str(said["by"]), str(said["why"]), kept)
    body = corrections.encode(correction)
    source = _require(folder, correction)
    now = datetime.now(UTC)
    delivery = Delivery(instant(now), source, "correction", {}, body)
    with open_to_append(folder.log, checkpoints=False) as log:
        (position,) = log.append([CorrectionRecorded(uuid7(now, os.urandom), 1, delivery)])
    click.echo(position)


FORMS = {
    "bills": "a key is SOURCE:ID, such as main:501 (~3A in a page's address is the colon); the bill's page shows it",
    "sims": "a key is SOURCE:ICCID, such as main:8970100000000000013 (~3A in a page's address is the colon); the card's page shows it",
    "accounts": "it is named as its source is; `simtrail sources list` shows them",
}
"""How what is to be corrected is named, in each table."""


def _require(folder: DataFolder, correction: Correction) -> str:
    """The source that a correction is about; an error where it names nothing that is there to be corrected."""
    if correction.subject == "void":
        with open_to_read(folder.log) as log:
            event = log.at(int(correction.key))
        if event is None:
            msg = f"there is no event at position {correction.key}"
            raise ConfigurationError(msg)
        return event.delivery.source
    table = TABLES[correction.subject]
    named = [correction.key, *([correction.value or ""] if correction.subject == "same_sim" else [])]
    with closing(open_read_model(folder.read_model)) as connection:
        for key in named:
            if not _is_there(connection, table, key):
                msg = f"there is no {key!r} in {table}: {FORMS[table]}"
                raise ConfigurationError(msg)
    return corrections.source_of(correction)


def _is_there(connection: sqlite3.Connection, table: str, key: str) -> bool:
    column = {"bills": "bill", "sims": "sim", "accounts": "source"}[table]
    return connection.execute(f"SELECT 1 FROM {table} WHERE {column} = ?", (key,)).fetchone() is not None
