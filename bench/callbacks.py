"""Callbacks: a log of job callbacks as a platform sends them, the same for the same seed.

A park of cards, each with its numbers, balance and tariff; jobs of 1 to 10 cards (5.5 on
average) under way side by side; of each job some callbacks that list its cards, from the first
to the one that reports it complete; now and then a delivery that comes again.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING

import msgspec

from schema.event import Delivery, WebhookReceived, instant, uuid7
from schema.identifiers import check_digit
from schema.log import open_to_append

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SEED = 20261124

CARDS = 50_000
"""Cards of the account: a large one. Its size is what the read model's state grows with."""

ITEMS = (1, 10)
CALLBACKS = (2, 6)
UNDER_WAY = 300
"""Jobs that the platform works on at a time."""

REPEATED = 0.01
"""Share of deliveries that come again, to the byte."""

START = datetime(2026, 3, 2, tzinfo=UTC)
PAUSE = timedelta(seconds=0.5)
"""Between two deliveries: 172,800 a day, all of which the redelivery window has to know."""

MARK = "plan_code"
MARKED = 50
"""One card in so many has its tariff under a name that only a configuration knows."""

USERS = 40
APPENDED = 1_000
"""Events a commit of the log."""

_QUEUES = ("sim_lock", "sim_unlock", "balance", "ping", "reboot", "sim_hold")
_STATUS = {"sim_lock": "blocked", "sim_unlock": "active"}
_encode = msgspec.json.Encoder().encode


class _Job(msgspec.Struct):
    qid: str
    queue: str
    added: int
    user: dict[str, object]
    items: list[dict[str, object]]
    steps: int
    step: int = 0


def bodies(number: int, seed: int = SEED) -> Iterator[bytes]:
    """The first so many bodies of job callbacks."""
    random = Random(seed)  # noqa: S311 - to be the same each time is what it is for
    balances = [random.randrange(-5_000, 100_000) for _ in range(CARDS)]
    users = [
        {"id": 100 + n, "first_name": "Анна", "last_name": f"Петрова-{n}", "company_id": n % 7} for n in range(USERS)
    ]
    jobs: list[_Job] = []
    before: list[bytes] = []
    for serial in range(number):
        if before and random.random() < REPEATED:
            yield random.choice(before)
            continue
        while len(jobs) < UNDER_WAY:
            jobs.append(_started(random, serial, len(jobs), balances, users))
        at = random.randrange(UNDER_WAY)
        job = jobs[at]
        job.step += 1
        body = _callback(job)
        if job.step == job.steps:
            jobs[at] = _started(random, serial, at, balances, users)
        before = [*before[-50:], body]
        yield body


def _started(random: Random, serial: int, at: int, balances: list[int], users: list[dict[str, object]]) -> _Job:
    queue = random.choice(_QUEUES)
    cards = random.sample(range(CARDS), random.randint(*ITEMS))
    for card in cards:
        balances[card] -= random.randrange(0, 300)
    items = [_item(card, balances[card], _STATUS.get(queue, "active")) for card in cards]
    added = int((START + serial * PAUSE).timestamp())
    return _Job(f"{serial:x}-{at:x}", queue, added, random.choice(users), items, random.randint(*CALLBACKS))


def _item(card: int, balance: int, status: str) -> dict[str, object]:
    digits = f"8970199{card:011d}"
    marked = {MARK: f"P-{card % 11}"} if card % MARKED == 0 else {}
    return {
        "id": 1_000_000 + card,
        "iccid": digits + check_digit(digits),
        "msisdn": f"79{card:09d}",
        "imsi": f"25001{card:010d}",
        "status": status,
        "balance": f"{balance / 100:.2f}",
        "operator": f"operator-{card % 3}",
        **(marked or {"tariff": f"M2M-{card % 9}"}),
    }


def _callback(job: _Job) -> bytes:
    done = len(job.items) * job.step // job.steps
    return _encode(
        {
            "qid": job.qid,
            "added": job.added,
            "queue": job.queue,
            "handler": "https://audit.example.com/webhooks/main/0123456789abcdef0123456789abcdef",
            "items": job.items,
            "user": job.user,
            "status": {
                "count": len(job.items),
                "process": done,
                "percentage": 100 * done // len(job.items),
            },
        },
    )


def append(path: Path, number: int, seed: int = SEED) -> int:
    """Append so many callbacks to a log; the cards that they list, all told."""
    items = 0
    random = Random(seed)  # noqa: S311 - as above
    with open_to_append(path) as log:
        batch: list[WebhookReceived] = []
        for serial, body in enumerate(bodies(number, seed)):
            at = START + serial * PAUSE
            delivery = Delivery(instant(at), "main", "192.0.2.1", {"content-type": "application/json"}, body)
            batch.append(WebhookReceived(uuid7(at, random.randbytes), 1, delivery))
            items += body.count(b'"iccid"')
            if len(batch) == APPENDED:
                log.append(batch)
                batch.clear()
        if batch:
            log.append(batch)
    return items
