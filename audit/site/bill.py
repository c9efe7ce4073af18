"""The page of one bill: its steps by the working calendar, its notices and its files."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from audit.site import attributes, page
from audit.site.access import ROLE
from audit.site.installation import installation
from projections import workdays

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from audit.roles import Role
    from audit.site.installation import Datasette, Request
    from audit.site.page import Row

STEPS = {"generate_bill": 0, "unpaid_bill_3": 3, "unpaid_bill_5": 5, "unpaid_bill_6": 6}
"""The working day after the bill's date on which each notice comes, if the bill is unpaid till then."""

NAMES = {
    "generate_bill": "issued",
    "unpaid_bill_3": "unpaid, 3rd working day",
    "unpaid_bill_5": "unpaid, 5th working day",
    "unpaid_bill_6": "unpaid, 6th working day: all cards blocked",
}

NOTICES = 200


async def bill(datasette: Datasette, request: Request) -> object:
    """The page."""
    key = page.key_of(request)
    installed = installation(datasette)
    calendar = installed.configuration.working_days if installed else {}
    role, today = ROLE.get(), datetime.now(UTC).date()
    told, reached = await page.read(datasette, lambda connection: read(connection, key, calendar, today, role))
    if told is None:
        return await page.missing(datasette, request, "bill", key)
    return await page.rendered(datasette, request, "simtrail-bill.html", {**told, "reached": reached})


def read(
    connection: sqlite3.Connection, key: str, calendar: Mapping[str, bool], today: date, role: Role | None
) -> dict[str, object] | None:
    """What the page shows; None where there is no such bill."""
    row = connection.execute("SELECT * FROM bills WHERE bill = ?", (key,)).fetchone()
    if row is None:
        return None
    notices = connection.execute(
        "SELECT * FROM bill_notices WHERE bill = ? ORDER BY position, item LIMIT ?", (key, NOTICES)
    ).fetchall()
    account = connection.execute("SELECT * FROM accounts WHERE source = ?", (row["source"],)).fetchone()
    corrections = connection.execute(
        "SELECT position, at, value, author, reason FROM corrections WHERE subject = 'bill' AND key = ? ORDER BY position",
        (key,),
    ).fetchall()
    settled = row["presumed_settled_on"]
    return {
        "bill": row,
        "account": account,
        "steps": _steps(row, notices, calendar, today),
        "notices": [{**dict(notice), "anomalies": json.loads(notice["anomalies"])} for notice in notices],
        "files": _files(connection, sorted({notice["position"] for notice in notices})),
        "corrections": corrections,
        "attributes": attributes.read(connection, "bill_attributes", key, role),
        "presumed_settled": row["paid_at"] is None and settled is not None and settled <= today.isoformat(),
        "today": today.isoformat(),
    }


def _steps(row: Row, notices: list[Row], calendar: Mapping[str, bool], today: date) -> list[dict[str, object]]:
    """Each step: when it is expected by the working calendar, and when its notice came, if it did."""
    issued_on = _date(row["issued_on"]) or datetime.fromisoformat(row["first_seen_at"]).date()
    arrived = {notice["type"]: notice for notice in reversed(notices) if notice["effect"] != "repeat"}
    steps = []
    for kind, days in STEPS.items():
        expected = workdays.after(issued_on, days, calendar) if days else issued_on
        notice = arrived.get(kind)
        if notice is not None:
            state = "arrived"
        elif row["paid_at"] is not None:
            state = "paid"
        elif expected is not None and expected < today:
            state = "silent"
        else:
            state = "ahead"
        steps.append(
            {
                "name": NAMES[kind],
                "kind": kind,
                "expected": expected.isoformat() if expected else None,
                "notice": notice,
                "state": state,
                "days_to": (expected - today).days if expected else None,
            }
        )
    return steps


def _files(connection: sqlite3.Connection, positions: list[int]) -> list[Row]:
    """The files that came with these deliveries, each once."""
    marks = ", ".join("?" * len(positions))
    return connection.execute(
        f"""
        SELECT f.sha256, f.name, f.media_type, f.content_bytes, min(d.position) AS position
        FROM delivery_files d JOIN files f ON f.sha256 = d.sha256
        WHERE d.position IN ({marks}) GROUP BY f.sha256 ORDER BY min(d.position), f.name
        """,
        positions,
    ).fetchall()


def _date(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        return None
