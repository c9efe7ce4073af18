"""The command `simtrail doctor`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from audit import folder as folders
from audit import options
from audit.doctor import examine
from audit.services import receiver_url

if TYPE_CHECKING:
    from pathlib import Path

    from schema.log_place import Place

WIDTH = 15


@click.command()
@options.data
@options.log
@options.receiver
@options.certificate("Look at this certificate too, which the receiver speaks TLS with.")
@options.option("--full", is_flag=True, help="Read every event and check every page, however many.")
@options.option(
    "--json",
    "as_json",
    is_flag=True,
    envvar="SIMTRAIL_DOCTOR_JSON",
    help="As a JSON array of objects: check, state, told, remedy.",
)
def doctor(  # noqa: PLR0913 - one for each option
    *,
    data: Path,
    place: Place | None,
    host: str,
    port: int,
    tls_cert: Path | None,
    tls_key: Path | None,
    full: bool,
    as_json: bool,
) -> None:
    """Look the installation over, and say what to do.

    One line a check: ok, warning or failed; what was found; and, after an arrow, what to
    do about it. Changes nothing, and may run beside everything else. Exits with 1 if
    a check failed.
    """
    folder = folders.existing(data, place)
    url = receiver_url(folder, host, port)
    tls = (tls_cert, tls_key) if tls_cert else None
    findings = []
    for finding in examine(folder, url, datetime.now(UTC), full=full, tls=tls):
        findings.append(finding)
        if not as_json:
            remedy = f" -> {finding.remedy}" if finding.remedy else ""
            click.echo(f"{finding.state:<9}{finding.check:<{WIDTH}}{finding.told}{remedy}")
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    sys.exit(any(finding.state == "failed" for finding in findings))
