"""The page of one SIM card: what it is now, and everything that made it so."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from audit.site import attributes, page
from audit.site.access import ROLE
from audit.site.chart import Mark, Span, timeline

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from audit.roles import Role
    from audit.site.installation import Datasette, Request
    from audit.site.page import Row

LISTED = 50
"""Entries of the history on a page."""

DRAWN = 2_000
"""Entries of the history that are drawn, the last ones: more than can be told apart."""

JOBS = 12


async def sim(datasette: Datasette, request: Request) -> object:
    """The page."""
    key = page.key_of(request)
    before = page.after_of(request)
    role, now = ROLE.get(), datetime.now(UTC)
    told, reached = await page.read(datasette, lambda connection: read(connection, key, before, now, role))
    if told is None:
        return await page.missing(datasette, request, "sim", key)
    return await page.rendered(datasette, request, "simtrail-sim.html", {**told, "reached": reached})


def read(
    connection: sqlite3.Connection, key: str, before: tuple[int, int] | None, now: datetime, role: Role | None
) -> dict[str, object] | None:
    """What the page shows; None where there is no such card."""
    card = connection.execute("SELECT * FROM sims WHERE sim = ?", (key,)).fetchone()
    if card is None:
        return None
    account = connection.execute("SELECT * FROM accounts WHERE source = ?", (card["source"],)).fetchone()
    states = connection.execute(
        "SELECT position, at, state, state_before, reason, bill FROM account_events WHERE source = ? AND at >= ? ORDER BY position",
        (card["source"], card["first_seen_at"]),
    ).fetchall()
    entries, more = _entries(connection, card, before)
    restricted = account is not None and account["state"] == "restricted" and card["status"] != "terminated"
    return {
        "card": card,
        "account": account,
        "effective": "blocked" if restricted else card["status"],
        "restricted": restricted,
        "groups": _groups(card["groups"]),
        "drawing": _drawing(connection, card, states, now),
        "entries": entries,
        "more": more,
        "first_page": before is None,
        "jobs": _jobs(connection, key),
        "attributes": attributes.read(connection, "sim_attributes", key, role),
    }


def _entries(
    connection: sqlite3.Connection, card: Row, before: tuple[int, int] | None
) -> tuple[list[dict[str, object]], str | None]:
    """A page of the history, newest first, the account's changes among it; and where the next page begins."""
    position, item = before or (1 << 62, 0)
    own = connection.execute(
        """
        SELECT position, item, at, what, operation, job, effect, status_said, status_after, status_basis, changes, anomalies
        FROM sim_events WHERE sim = ? AND (position, item) < (?, ?) ORDER BY position DESC, item DESC LIMIT ?
        """,
        (card["sim"], position, item, LISTED + 1),
    ).fetchall()
    account = connection.execute(
        """
        SELECT position, at, state, state_before, reason, bill FROM account_events
        WHERE source = ? AND at >= ? AND (position, -1) < (?, ?) ORDER BY at DESC, position DESC LIMIT ?
        """,
        (card["source"], card["first_seen_at"], position, item, LISTED + 1),
    ).fetchall()
    entries: list[dict[str, object]] = [
        {
            **dict(row),
            "changes": _changes(row["changes"]),
            "anomalies": json.loads(row["anomalies"]),
            "of": "card",
            "order": (row["position"], row["item"]),
        }
        for row in own
    ]
    # An account's change comes of the same delivery, after the cards in it.
    entries += [{**dict(row), "of": "account", "order": (row["position"], -1)} for row in account]
    entries.sort(key=lambda entry: entry["order"], reverse=True)  # type: ignore[arg-type,return-value]
    shown = entries[:LISTED]
    more = "{},{}".format(*shown[-1]["order"]) if len(entries) > LISTED else None  # type: ignore[misc]
    return shown, more


def _changes(text: str) -> list[tuple[str, object, object]]:
    """What changed: the column, from, to."""
    return [
        (column, _groups(before), _groups(after)) if column == "groups" else (column, before, after)
        for column, (before, after) in json.loads(text).items()
    ]


def _groups(text: str | None) -> str | None:
    """A card's groups by their names, as far as they have any."""
    if text is None:
        return None
    try:
        groups = json.loads(text)
    except ValueError:
        return text
    listed = groups if isinstance(groups, list) else [groups]
    return ", ".join(str(group.get("name", group) if isinstance(group, dict) else group) for group in listed)


def _jobs(connection: sqlite3.Connection, key: str) -> list[Row]:
    return connection.execute(
        """
        SELECT jobs.* FROM (
            SELECT job, max(position) AS last FROM sim_events WHERE sim = ? AND job IS NOT NULL
            GROUP BY job ORDER BY last DESC LIMIT ?
        ) AS own JOIN jobs ON jobs.job = own.job ORDER BY own.last DESC
        """,
        (key, JOBS),
    ).fetchall()


def _drawing(connection: sqlite3.Connection, card: Row, states: list[Row], now: datetime) -> object:
    rows = connection.execute(
        """
        SELECT position, at, what, operation, effect, status_after FROM sim_events
        WHERE sim = ? ORDER BY position DESC, item DESC LIMIT ?
        """,
        (card["sim"], DRAWN),
    ).fetchall()
    rows.reverse()
    if not rows:
        return None
    start = _at(rows[0]["at"])
    title = f"Timeline of the SIM card from {start:%Y-%m-%d} to {now:%Y-%m-%d}; the table below lists every entry"
    return timeline(list(_spans(rows, states, now)), list(_marks(rows, states)), start, now, title)


def _spans(rows: list[Row], states: list[Row], now: datetime) -> Iterable[Span]:
    """The effective status over time."""
    told = [(row["position"], row["at"], "own", row["status_after"] or "unknown") for row in rows]
    told += [(row["position"], row["at"], "account", row["state"]) for row in states]
    told.sort(key=lambda each: each[0])
    own, account = "unknown", "good"
    begun: tuple[datetime, str] | None = None
    for _, at, what, state in told:
        own, account = (state, account) if what == "own" else (own, state)
        effective = "blocked" if account == "restricted" and own != "terminated" else own
        if begun is None:
            begun = (_at(at), effective)
        elif begun[1] != effective:
            yield Span(begun[0], _at(at), begun[1], f"{begun[1]} from {begun[0]:%Y-%m-%d %H:%M:%S} to {_shown(at)}")
            begun = (_at(at), effective)
    if begun is not None:
        yield Span(begun[0], now, begun[1], f"{begun[1]} since {begun[0]:%Y-%m-%d %H:%M:%S}")


_ROWS = {"package_empty": "package", "msu_lock": "MSU"}


def _marks(rows: list[Row], states: list[Row]) -> Iterable[Mark]:
    for row in rows:
        what = row["operation"] or row["what"]
        title = f"{_shown(row['at'])} delivery {row['position']}: {what.replace('_', ' ')}, {row['effect']}"
        kind = "mark-late" if row["effect"] != "applied" else "mark-own"
        yield Mark(_at(row["at"]), _ROWS.get(row["what"], "jobs"), kind, title)
    for row in states:
        title = f"{_shown(row['at'])} delivery {row['position']}: account {row['state']}, {row['reason']}"
        yield Mark(_at(row["at"]), "account", f"mark-{row['state']}", title)


def _shown(at: str) -> str:
    """To the second: what a job does to a card is often less than a minute apart."""
    return f"{at[:10]} {at[11:19]}"


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)
