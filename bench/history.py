"""History: a read model of five years, filled directly into its tables, the same for the same seed.

What the tables would hold of a large account: a park of cards, jobs of five cards each with
some callbacks, notifications, a bill each month, and what was not understood. Rows that say
the same as the projector's would, in the numbers that an auditor's pages meet.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING

from sqlite_utils import Database

from schema import configuration, tables
from schema.event import instant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SEED = 20261124
CARDS = 50_000
"""Of the park; a short history has a smaller one."""

ROWS_A_CARD = 20
ITEMS = 5
"""SIM cards of each callback."""

CALLBACKS = 4
"""Of each job."""

USERS = 40
SPAN = timedelta(days=5 * 365)
BILL_EVERY = timedelta(days=30)
OPEN_BILLS = 3
UNPAID_EVERY = 12
"""Every so many bills the account goes unpaid, and is good again half as many later."""

CALLED_BACK, EMPTIED, LOCKED = 0.93, 0.985, 0.988
"""Shares of events: callbacks up to the first, packages that ran out up to the second, locks up to the third; the rest not understood."""

ODD = 0.01
"""Share of callbacks that come late, and of those that repeat another."""

BATCH_ROWS = 10_000

OPERATIONS = ("lock", "unlock", "balance", "ping", "reboot", "groups")
EMPTY = {"json": "{}", "changes": "{}", "anomalies": "[]", "headers": '{"content-type":"application/json"}'}

Row = tuple[object, ...]


def fill(path: Path, rows: int, until: datetime) -> None:
    """Make a read model whose history has so many rows of ``sim_events``, the last received at a moment."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -262144"):
            connection.execute(f"PRAGMA {pragma}")
        database = Database(connection)
        connection.execute("BEGIN")
        tables.create(database)
        story = _Story(rows * 102 // (100 * ITEMS), min(CARDS, rows // ROWS_A_CARD), until)  # Some events name no card.
        waiting: dict[str, list[Row]] = {}
        for table, row in story.told():
            batch = waiting.setdefault(table, [])
            batch.append(row)
            if len(batch) == BATCH_ROWS:
                _insert(connection, table, batch)
        for table, batch in waiting.items():
            _insert(connection, table, batch)
        tables.create_indexes(database)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")


def _insert(connection: sqlite3.Connection, table: str, batch: list[Row]) -> None:
    marks = ", ".join("?" * len(tables.BY_NAME[table].columns))
    connection.executemany(f"INSERT INTO {table} VALUES ({marks})", batch)
    batch.clear()


def made(table: str, /, **values: object) -> Row:
    """A row of a table; what must be there and isn't given is empty."""
    row = []
    for column, kind in tables.BY_NAME[table].columns.items():
        empty = None if not kind.endswith("!") else 0 if kind == "integer!" else EMPTY.get(column, "")
        row.append(values.get(column, empty))
    return tuple(row)


class _Story:
    """What happens, event by event; it knows the cards and the jobs under way."""

    def __init__(self, events: int, cards: int, until: datetime) -> None:
        self._events = events
        self._cards = cards
        self._start = until - SPAN
        self._pause = SPAN / events
        self._random = Random(SEED)  # noqa: S311 - to be the same each time is what it is for
        self._status = ["active"] * self._cards
        self._last_seen = [0] * self._cards
        self._locked: dict[int, int] = {}
        self._last_job = [""] * self._cards
        self._bills = 0

    def told(self) -> Iterator[tuple[str, Row]]:
        """Every row, with its table."""
        for position in range(1, self._events + 1):
            kind = self._random.random()
            if position * self._pause >= self._bills * BILL_EVERY:
                yield from self._billed(position)
            elif kind < CALLED_BACK:
                yield from self._called_back(position)
            elif kind < EMPTIED:
                yield from self._notified(position, "package_empty")
            elif kind < LOCKED:
                yield from self._notified(position, "msu_lock")
            else:
                yield from self._not_understood(position)
        yield from self._states()

    def _at(self, position: int) -> str:
        return instant((self._start + position * self._pause).astimezone(UTC))

    def _delivery(
        self, position: int, kind: str, summary: str, body: object, **more: object
    ) -> Iterator[tuple[str, Row]]:
        text = body if isinstance(body, str) else json.dumps(body)
        values = {"outcome": "read", "source": "main", "body_bytes": len(text), **more}
        yield (
            "deliveries",
            made(
                "deliveries",
                position=position,
                received_at=self._at(position),
                kind=kind,
                summary=summary,
                sha256=f"{position:064x}",
                **values,
            ),
        )
        yield "delivery_contents", made("delivery_contents", position=position, remote="192.0.2.1", body=text)

    def _touched(self, position: int, item: int, card: int, **more: object) -> tuple[str, Row]:
        self._last_seen[card] = position
        row = made(
            "sim_events",
            position=position,
            item=item,
            sim=_sim(card),
            source="main",
            at=self._at(position),
            **{"effect": "applied", "status_after": self._status[card], "status_basis": "explicit", **more},
        )
        return "sim_events", row

    def _called_back(self, position: int) -> Iterator[tuple[str, Row]]:
        serial, step = divmod(position, CALLBACKS)
        qid, operation = f"q-{serial:07x}", OPERATIONS[serial % len(OPERATIONS)]
        job, late = f"main:{qid}", self._random.random() < ODD
        cards = [(serial * 7919 + item * 104_729) % self._cards for item in range(ITEMS)]
        repeat = position - 1 if self._random.random() < ODD and position > 1 else None
        effect = "late" if late else "repeat" if repeat else "applied"
        body = {"qid": qid, "queue": f"sim_{operation}", "items": [{"iccid": _sim(card)[5:], "status": self._status[card]} for card in cards]}  # fmt: skip
        summary = f"sim_{operation} {qid}: {step + 1} of {CALLBACKS}"
        yield from self._delivery(
            position,
            "job_callback",
            summary,
            body,
            queue=f"sim_{operation}",
            job=job,
            repeat_of=repeat,
            item_count=ITEMS,
        )
        yield "job_progress", made("job_progress", position=position, job=job, source="main", at=self._at(position), count=CALLBACKS, processed=step + 1, complete=int(step + 1 == CALLBACKS), effect=effect, item_count=ITEMS)  # fmt: skip
        for item, card in enumerate(cards):
            changes = f'{{"last_job":["{self._last_job[card]}","{job}"]}}' if self._last_job[card] != job else "{}"
            self._last_job[card] = job
            if operation in {"lock", "unlock"} and effect == "applied":
                self._status[card] = "blocked" if operation == "lock" else "active"
                if operation == "unlock" and card in self._locked:
                    changes = f'{{"msu_locked_at":["{self._at(self._locked.pop(card))}",null]}}'
            yield self._touched(
                position, item, card, what="job_callback", operation=operation, job=job, effect=effect, changes=changes
            )

    def _notified(self, position: int, kind: str) -> Iterator[tuple[str, Row]]:
        cards = [self._random.randrange(self._cards) for _ in range(ITEMS)]
        yield from self._delivery(position, "notification", f"{kind}: {ITEMS} SIM cards", {"type": kind, "items": [{"iccid": _sim(card)[5:]} for card in cards]}, type=kind, item_count=ITEMS)  # fmt: skip
        for item, card in enumerate(cards):
            changes = "{}"
            if kind == "msu_lock":
                self._status[card] = "blocked"
                if card not in self._locked:
                    self._locked[card] = position
                    changes = f'{{"msu_locked_at":[null,"{self._at(position)}"]}}'
            yield self._touched(position, item, card, what=kind, changes=changes)

    def _not_understood(self, position: int) -> Iterator[tuple[str, Row]]:
        outcome = "unreadable" if position % 4 == 0 else "unrecognised"
        body = f"<html>{position:x} gateway timeout</html>" if outcome == "unreadable" else {"type": "tariff_changed", "note": f"{position:x}"}  # fmt: skip
        yield from self._delivery(position, outcome, f"not recognised: {outcome}", body, outcome=outcome)

    def _billed(self, position: int) -> Iterator[tuple[str, Row]]:
        number, self._bills = self._bills, self._bills + 1
        at, bill = self._at(position), f"main:{1000 + number}"
        yield from self._delivery(position, "notification", f"generate_bill: M2M-{number}", {"type": "generate_bill"}, type="generate_bill", item_count=1, file_count=1)  # fmt: skip
        yield "bills", made("bills", bill=bill, source="main", bill_id=str(1000 + number), number=f"M2M-{number}", issued_on=at[:10], amount_kopecks=12_345_678, stage="issued", stage_at=at, first_seen_at=at, paid_at=at if number < SPAN // BILL_EVERY - OPEN_BILLS else None, next_notice="unpaid_bill_3", next_notice_expected_on=at[:10], presumed_settled_on=at[:10], position=position)  # fmt: skip
        yield "bill_notices", made("bill_notices", position=position, bill=bill, source="main", at=at, type="generate_bill", stage_after="issued", effect="applied", amount_kopecks=12_345_678)  # fmt: skip
        content = b"%PDF-1.4\n" + self._random.randbytes(40_000)
        sha256 = f"{number:064x}"
        yield "files", made("files", sha256=sha256, name=f"bill-{number}.pdf", media_type="application/pdf", content_bytes=len(content), content=content, position=position)  # fmt: skip
        yield "delivery_files", made("delivery_files", position=position, sha256=sha256, name=f"bill-{number}.pdf", media_type="application/pdf")  # fmt: skip
        if number % (UNPAID_EVERY // 2) == 0:
            state, before = ("good", "unpaid") if number % UNPAID_EVERY else ("unpaid", "good")
            yield "account_events", made("account_events", position=position, source="main", at=at, state=state, state_before=before, reason="a notice", bill=bill)  # fmt: skip

    def _states(self) -> Iterator[tuple[str, Row]]:
        last = self._at(self._events)
        yield "accounts", made("accounts", source="main", state="good", state_since=self._at(1), open_bills=OPEN_BILLS, open_kopecks=37_037_034, first_seen_at=self._at(1), last_seen_at=last, position=self._events)  # fmt: skip
        for user in range(USERS):
            yield "users", made("users", user=f"main:{user}", source="main", user_id=str(user), first_name="Анна", last_name=f"Вымышленная-{user}", company_id=str(user % 7), first_seen_at=self._at(1), last_seen_at=last, position=self._events)  # fmt: skip
        for card in range(self._cards):
            seen = self._last_seen[card] or 1
            locked = self._locked.get(card)
            yield "sims", made("sims", sim=_sim(card), source="main", iccid=_sim(card)[5:], msisdn=f"+79{card:09d}", imsi=f"25001{card:010d}", platform_id=str(1_000_000 + card), status=self._status[card], status_basis="explicit", status_since=self._at(seen), balance_kopecks=card, tariff=f"M2M-{card % 9}", operator="MTS", msu_locked_at=self._at(locked) if locked else None, last_job=self._last_job[card] or None, first_seen_at=self._at(1), last_seen_at=self._at(seen), position=seen)  # fmt: skip
        for serial in range(self._events // CALLBACKS + 1):
            first, end = max(1, serial * CALLBACKS), min(self._events, serial * CALLBACKS + CALLBACKS - 1)
            operation, done = OPERATIONS[serial % len(OPERATIONS)], serial % 200 != 0
            yield "jobs", made("jobs", job=f"main:q-{serial:07x}", source="main", qid=f"q-{serial:07x}", queue=f"sim_{operation}", operation=operation, added_at=self._at(first), user=f"main:{serial % USERS}", company_id=str(serial % 7), count=CALLBACKS, processed=CALLBACKS if done else 2, state="done" if done else "running", first_callback_at=self._at(first), last_callback_at=self._at(end), completed_at=self._at(end) if done else None, callbacks=CALLBACKS, position=end)  # fmt: skip
        yield "tracking", made("tracking", projection=tables.PROJECTION, position=self._events, received_at=last, model_version=tables.MODEL_VERSION, configuration=configuration.digest(configuration.Configuration()))  # fmt: skip


def _sim(card: int) -> str:
    return f"main:8970199{card:012d}"
