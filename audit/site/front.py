"""The front page: the state at a look."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from audit.site import page, proof
from audit.site.chart import columns, shares
from audit.site.installation import installation
from audit.standstill import standstill
from schema.errors import SimtrailError
from schema.log import open_to_read
from schema.views import STALLED_AFTER_HOURS

if TYPE_CHECKING:
    import sqlite3

    from audit.site.installation import Datasette, Installation, Request

DAYS = 30
"""Days of deliveries shown: a month, counted by the index of their times."""

SHOWN = 8
"""Rows of a list at most: what is more is a link away."""

FEW = 5
"""Rows of a list beside others."""

DONE_DAYS = 7


async def front(datasette: Datasette, request: Request) -> object:
    """The page."""
    now = datetime.now(UTC)
    told, reached = await page.read(datasette, lambda connection: read(connection, now))
    installed = installation(datasette)
    context = {**told, "reached": reached, "log": _log(installed, reached.position), "seals": proof.state(installed)}
    return await page.rendered(datasette, request, "simtrail-front.html", context)


def read(connection: sqlite3.Connection, now: datetime) -> dict[str, object]:
    """What the page shows. Nothing here reads a growing table whole."""
    since = (now - timedelta(days=DAYS - 1)).date()
    statuses = _statuses(connection)
    return {
        "statuses": statuses,
        "cards": sum(count for _, count in statuses),
        "status_bar": shares(statuses, "SIM cards by effective status; the list beside it has the numbers"),
        "accounts": connection.execute("SELECT * FROM accounts ORDER BY source LIMIT ?", (SHOWN,)).fetchall(),
        "bills": _bills(connection, now.date()),
        "jobs": _jobs(connection, now),
        "days": _days(connection, since, now.date()),
        "since": since.isoformat(),
        "quarantine": _quarantine(connection),
        "latest": connection.execute(
            "SELECT position, received_at, source, summary, outcome, repeat_of FROM deliveries ORDER BY position DESC LIMIT ?",
            (SHOWN,),
        ).fetchall(),
    }


def _statuses(connection: sqlite3.Connection) -> list[tuple[str, int]]:
    """SIM cards by effective status, most first.

    Counted by the index of statuses alone where no account is restricted, or all are.
    """
    counted = dict(connection.execute("SELECT status, count(*) FROM sims GROUP BY status").fetchall())
    states = dict(connection.execute("SELECT source, state FROM accounts").fetchall())
    restricted = [source for source, state in states.items() if state == "restricted"]
    if restricted and len(restricted) == len(states):
        blocked = dict(counted)
    else:
        blocked = {}
        for source in restricted:
            rows = connection.execute("SELECT status, count(*) FROM sims WHERE source = ? GROUP BY status", (source,))
            for status, count in rows:
                blocked[status] = blocked.get(status, 0) + count
    for status in set(blocked) - {"blocked", "terminated"}:
        counted[status] -= blocked[status]
        counted["blocked"] = counted.get("blocked", 0) + blocked[status]
    return sorted(((status, count) for status, count in counted.items() if count), key=lambda each: -each[1])


def _bills(connection: sqlite3.Connection, today: date) -> list[dict[str, object]]:
    """Open bills: those whose next notice is expected soonest first, with the days till then."""
    rows = connection.execute(
        """
        SELECT bill, number, amount_kopecks, stage, issued_on, next_notice, next_notice_expected_on, presumed_settled_on
        FROM bills WHERE paid_at IS NULL AND (presumed_settled_on IS NULL OR presumed_settled_on > :today)
        ORDER BY next_notice_expected_on IS NULL, next_notice_expected_on, issued_on LIMIT :shown
        """,
        {"today": today.isoformat(), "shown": SHOWN},
    ).fetchall()
    return [{**dict(row), "days": _days_to(row["next_notice_expected_on"], today)} for row in rows]


def _days_to(day: str | None, today: date) -> int | None:
    return (date.fromisoformat(day) - today).days if day else None


def _jobs(connection: sqlite3.Connection, now: datetime) -> dict[str, object]:
    silent_since = _text(now - timedelta(hours=STALLED_AFTER_HOURS))
    done_since = _text(now - timedelta(days=DONE_DAYS))
    count = "SELECT count(*) FROM jobs WHERE state = ? AND last_callback_at >= ?"
    (running,) = connection.execute(count, ("running", silent_since)).fetchone()
    (done,) = connection.execute(count, ("done", done_since)).fetchone()
    (stalled,) = connection.execute(
        "SELECT count(*) FROM jobs WHERE state = 'running' AND last_callback_at < ?", (silent_since,)
    ).fetchone()
    shown = connection.execute(
        """
        SELECT job, qid, operation, queue, processed, count, percentage, last_callback_at, last_callback_at < ? AS stalled
        FROM jobs WHERE state = 'running' ORDER BY last_callback_at DESC LIMIT ?
        """,
        (silent_since, SHOWN),
    ).fetchall()
    return {"running": running, "stalled": stalled, "done": done, "done_days": DONE_DAYS, "shown": shown}


def _days(connection: sqlite3.Connection, since: date, until: date) -> dict[str, object]:
    """Deliveries of each day, and those among them that were not understood, by the indexes of their times and outcomes."""
    rows = connection.execute(
        "SELECT substr(received_at, 1, 10) AS day, count(*), min(position) FROM deliveries WHERE received_at >= ? GROUP BY day",
        (since.isoformat(),),
    ).fetchall()
    counted = {day: count for day, count, _ in rows}
    # From the first position of these days: when each was received is in its row, and those of earlier years are not read.
    not_read = dict(
        connection.execute(
            """
            SELECT substr(received_at, 1, 10) AS day, count(*) FROM deliveries
            WHERE outcome IN ('unrecognised', 'unreadable') AND position >= ? AND +received_at >= ? GROUP BY day
            """,
            (min((first for _, _, first in rows), default=0), since.isoformat()),
        ).fetchall()
    )
    drawn = []
    for n in range((until - since).days + 1):
        day = since + timedelta(days=n)
        count, aside = counted.get(day.isoformat(), 0), not_read.get(day.isoformat(), 0)
        said = f"{day:%Y-%m-%d}: {count:,} deliveries" + (f", {aside:,} not understood" if aside else "")
        drawn.append((f"{day:%d %b}", count, aside, said))
    return {
        "drawing": columns(drawn, f"Deliveries per day since {since:%Y-%m-%d}"),
        "count": sum(counted.values()),
        "not_read": sum(not_read.values()),
    }


def _quarantine(connection: sqlite3.Connection) -> dict[str, object]:
    (count,) = connection.execute("SELECT count(*) FROM quarantine").fetchone()
    shown = connection.execute(
        "SELECT position, received_at, summary FROM quarantine ORDER BY position DESC LIMIT ?", (FEW,)
    ).fetchall()
    return {"count": count, "shown": shown}


def _log(installed: Installation | None, projected: int) -> dict[str, object] | None:
    """The log's head, how far the tables are behind, and why, where they stand still; None where there is no log to look at."""
    if installed is None or installed.folder is None:
        return None
    try:
        with open_to_read(installed.folder.log) as log:
            head = log.head()
        why = standstill(installed.folder)
    except SimtrailError as error:
        return {"error": str(error)}
    return {"head": head, "lag": max(0, head - projected), "standstill": why}


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
