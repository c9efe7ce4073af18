"""The page of one job: who ordered what, how far it got, and for which cards."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from audit import roles
from audit.site import page
from audit.site.access import ROLE
from audit.site.chart import Point, curve
from schema.views import STALLED_AFTER_HOURS

if TYPE_CHECKING:
    import sqlite3

    from audit.site.installation import Datasette, Request
    from audit.site.page import Row

CALLBACKS = 500
"""Callbacks listed and drawn, the first ones: a queue tells of a job some dozens of times."""

CARDS = 200

CONCERNED = """
    SELECT sim, position, status_after, status_basis, max(position + (set_status << 62)) >> 62 AS set_status
    FROM (
        SELECT *, json_extract(changes, '$.status[0]') IS NOT json_extract(changes, '$.status[1]') AS set_status
        FROM sim_events WHERE job = ? AND sim IS NOT NULL
    )
    GROUP BY sim ORDER BY sim LIMIT ?
"""
"""The job's cards, each with the last delivery of the job's that set its status; where none did, with the last that named it."""


async def job(datasette: Datasette, request: Request) -> object:
    """The page."""
    key = page.key_of(request)
    role = ROLE.get()
    told, reached = await page.read(datasette, lambda connection: read(connection, key, datetime.now(UTC), role))
    if told is None:
        return await page.missing(datasette, request, "job", key)
    return await page.rendered(datasette, request, "simtrail-job.html", {**told, "reached": reached})


def read(connection: sqlite3.Connection, key: str, now: datetime, role: roles.Role | None) -> dict[str, object] | None:
    """What the page shows; None where there is no such job."""
    row = connection.execute("SELECT * FROM jobs WHERE job = ?", (key,)).fetchone()
    if row is None:
        return None
    callbacks = connection.execute(
        "SELECT * FROM job_progress WHERE job = ? ORDER BY position LIMIT ?", (key, CALLBACKS + 1)
    ).fetchall()
    cards = connection.execute(CONCERNED, (key, CARDS + 1)).fetchall()
    silent = now - datetime.fromisoformat(row["last_callback_at"])
    return {
        "job": row,
        "person": _person(connection, row["user"], role),
        "stalled": row["state"] == "running" and silent > timedelta(hours=STALLED_AFTER_HOURS),
        "callbacks": callbacks[:CALLBACKS],
        "more_callbacks": len(callbacks) > CALLBACKS,
        "drawing": curve(
            [point for each in callbacks[:CALLBACKS] if (point := _point(each)) is not None],
            f"Progress of job {row['qid']}; the table below lists every callback",
        ),
        "cards": cards[:CARDS],
        "more_cards": len(cards) > CARDS,
    }


def _person(connection: sqlite3.Connection, user: str | None, role: roles.Role | None) -> Row:
    """Who ordered it, for a role that may know."""
    if user is None or not roles.may_see(role, "users"):
        return None
    return connection.execute("SELECT first_name, last_name FROM users WHERE user = ?", (user,)).fetchone()


def _point(row: Row) -> Point | None:
    """Where a callback is on the curve; None where it doesn't tell how far the job is."""
    if row["processed"] is not None and row["count"]:
        share, done = row["processed"] / row["count"], f"{row['processed']} of {row['count']}"
    elif row["percentage"] is not None:
        share, done = row["percentage"] / 100, f"{row['percentage']} %"
    else:
        return None
    title = f"{row['at'][:10]} {row['at'][11:19]} delivery {row['position']}: {done}, {row['effect']}"
    return Point(datetime.fromisoformat(row["at"]), share, row["effect"] == "applied", title)
