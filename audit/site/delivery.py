"""The page of one delivery: what came, what was read from it, and which rows it made."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import TYPE_CHECKING

from datasette.utils.asgi import Forbidden, Response  # type: ignore[import-untyped]

from audit import roles
from audit.site import page, proof
from audit.site.access import ROLE
from audit.site.installation import installation
from schema.errors import LogError
from schema.log import open_to_read

if TYPE_CHECKING:
    import sqlite3

    from audit.site.installation import Datasette, Request
    from audit.site.page import Row
    from schema.event import Event
    from schema.log_place import Place

ROWS = 200
"""Rows of one table that are listed: a job of a thousand cards is a link away."""

REPEATS = 50

POSITION = re.compile(r"[0-9]{1,18}")
"""What may be a delivery's position: a number that SQLite can hold."""

BODY_CHARACTERS = 100_000
"""Characters of a body on the page: more than anybody reads, and it downloads whole."""


async def delivery(datasette: Datasette, request: Request) -> object:
    """The page."""
    key = page.key_of(request)
    role = ROLE.get()
    told, reached = await page.read(
        datasette, lambda connection: read(connection, int(key), role) if POSITION.fullmatch(key) else None
    )
    if told is None:
        return await page.missing(datasette, request, "delivery", key)
    context = {**told, "reached": reached, "seals": proof.state(installation(datasette))}
    return await page.rendered(datasette, request, "simtrail-delivery.html", context)


def read(connection: sqlite3.Connection, position: int, role: roles.Role | None) -> dict[str, object] | None:
    """What the page shows; None where there is no such delivery."""
    row = connection.execute("SELECT * FROM deliveries WHERE position = ?", (position,)).fetchone()
    if row is None:
        return None

    def at(table: str, order: str = "position", columns: str = "*") -> list[Row]:
        sql = f"SELECT {columns} FROM {table} WHERE position = ? ORDER BY {order} LIMIT {ROWS + 1}"
        return connection.execute(sql, (position,)).fetchall()

    cards = at("sim_events", "item")
    contents = at("delivery_contents") if roles.may_see(role, "delivery_contents") else []
    return {
        "delivery": row,
        "anomalies": json.loads(row["anomalies"]),
        "contents": _shown(contents[0]) if contents else None,
        "cards": [{**dict(card), "changes": json.loads(card["changes"])} for card in cards[:ROWS]],
        "more_cards": len(cards) > ROWS,
        "progress": at("job_progress"),
        "notices": at("bill_notices", "item"),
        "states": at("account_events"),
        "corrections": at("corrections"),
        "files": connection.execute(
            """
            SELECT d.n, d.sha256, d.name, d.media_type, f.content_bytes FROM delivery_files d
            LEFT JOIN files f ON f.sha256 = d.sha256 WHERE d.position = ? ORDER BY d.n
            """,
            (position,),
        ).fetchall(),
        "repeats": connection.execute(
            "SELECT position, received_at FROM deliveries WHERE repeat_of = ? ORDER BY position LIMIT ?",
            (position, REPEATS),
        ).fetchall(),
        "next": connection.execute("SELECT min(position) FROM deliveries WHERE position > ?", (position,)).fetchone()[
            0
        ],
        "previous": connection.execute(
            "SELECT max(position) FROM deliveries WHERE position < ?", (position,)
        ).fetchone()[0],
    }


async def body(datasette: Datasette, request: Request) -> object:
    """The body as it was received, byte for byte, from the log, to be kept as a file."""
    page.require_role()
    if not roles.may_see(ROLE.get(), "delivery_contents"):
        msg = "a body as it was received may name people"
        raise Forbidden(msg)
    position = _position(request)
    installed = installation(datasette)
    folder = page.found(installed.folder if installed else None, "the log")
    event = page.found(await page.in_thread(lambda place: _event(place, position), folder.log), f"event {position}")
    # Never its own type: what a sender says that it is must not make a browser open it here.
    headers = {"content-disposition": f'attachment; filename="simtrail-delivery-{position}.body"'}
    return Response(event.delivery.body, HTTPStatus.OK.value, headers, "application/octet-stream")


def _event(place: Place, position: int) -> Event | None:
    """The event; None where the log is not there, or can't be read now."""
    try:
        with open_to_read(place) as log:
            return log.at(position)
    except LogError:
        return None


def _position(request: Request) -> int:
    return int(page.key_of(request))


def _shown(contents: Row) -> dict[str, object]:
    """What came, as people read it."""
    return {
        "remote": contents["remote"],
        "headers": json.loads(contents["headers"]),
        "body": _pretty(contents["body"]),
    }


def _pretty(text: str) -> dict[str, object]:
    """A published body as people read it: JSON indented, all else as it is; and whether it was cut."""
    try:
        shown, is_json = json.dumps(json.loads(text), ensure_ascii=False, indent=2), True
    except (ValueError, RecursionError):
        shown, is_json = text, False
    return {"text": shown[:BODY_CHARACTERS], "cut": len(shown) > BODY_CHARACTERS, "json": is_json}
