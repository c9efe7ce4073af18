"""The simulated platform: the webhooks that it would send in four weeks, as bodies, in the order it would send them."""

from __future__ import annotations

import json
from base64 import b64encode
from collections import deque
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from heapq import heappop, heappush
from itertools import count, islice, takewhile
from random import Random
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from audit import park, pdf
from projections import workdays
from schema.configuration import TIME_ZONE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from audit.park import Card

SPAN = timedelta(days=28)
"""Simulated time that the deliveries of a run are spread over. A bill's last notice
comes on the sixth working day: over New Year that is three weeks on."""

DELIVERIES_PER_HAPPENING = 3.3
"""What happens brings so many deliveries on average (`HAPPENINGS` and their parts)."""

HAPPENINGS = {"job": 72, "package_empty": 14, "msu_lock": 5, "bill": 4, "odd": 5}
"""What happens, of a hundred times."""

OPERATIONS = {
    "sim_lock": 24,
    "sim_unlock": 22,
    "balance": 20,
    "ping": 16,
    "reboot": 10,
    "change_group": 8,
}
"""Queue codes, each of so many jobs of a hundred."""

FATES: tuple[str | None, ...] = ("unpaid_bill_6", None, "unpaid_bill_3", None, None, "unpaid_bill_5", None)
"""The last notice that each bill in turn draws before it is paid, if any: the first
one goes the whole way, so that even a short run shows what comes of it."""

REMINDERS = {"unpaid_bill_3": 3, "unpaid_bill_5": 5, "unpaid_bill_6": 6}
"""On which working day after the bill's date each notice is sent."""

RETRIED = 0.04
"""Share of deliveries that come again, to the byte, as when an answer was lost."""

LATE = 0.05
"""Share of the callbacks between a job's first and last that come behind the last."""

ABANDONED = 0.03
"""Share of jobs that never tell of their end."""

WORDLESS = 0.3
"""Share of jobs that list their cards without a status."""


@dataclass
class _Job:
    qid: str
    queue: str
    added: int
    user: tuple[int, str, str]
    cards: list[Card]
    wordless: bool
    counting: str


@dataclass
class _Bill:
    number: str
    bill_id: int
    issued_on: date
    kopecks: int


def deliveries(seed: int, number: int, cards: int, start: datetime) -> Iterator[bytes]:
    """The first so many bodies that the platform sends, beginning at an aware time.

    The same arguments give the same bodies. The park's cards, its users and bills
    follow from the seed.
    """
    return (body for _, body in timed(seed, number, cards, start))


def timed(seed: int, number: int, cards: int, start: datetime) -> Iterator[tuple[datetime, bytes]]:
    """The same bodies, each with the time in UTC at which it would be sent."""
    return islice(_sent(seed, number, cards, start), number)


def until(seed: int, number: int, cards: int, end: datetime) -> Iterator[tuple[datetime, bytes]]:
    """The same over some weeks up to an aware time: the first so many, and what is sent between them and then."""
    start = begun(seed, number, cards, end)
    return takewhile(lambda sent: sent[0] <= end, _sent(seed, number, cards, start))


def _sent(seed: int, number: int, cards: int, start: datetime) -> Iterator[tuple[datetime, bytes]]:
    """Bodies without end, about so many of them in the simulated time."""
    return _Platform(seed, cards, start, SPAN * DELIVERIES_PER_HAPPENING / max(number, 1)).run()


def begun(seed: int, number: int, cards: int, end: datetime) -> datetime:
    """The last midnight (UTC), four weeks before an aware time at least, from which so many deliveries are all sent by then."""
    day = timedelta(days=1)

    def late(start: datetime) -> timedelta:
        (last,) = deque((at for at, _ in timed(seed, number, cards, start)), maxlen=1)
        return last - end

    start = latest = end.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - SPAN
    while (over := late(start)) > timedelta():
        start -= (over.days + 1) * day
    # Weekends and holidays move bills' notices, so the first try may have gone back too far.
    while start < latest and late(start + day) <= timedelta():
        start += day
    return start


class _Platform:
    """Owns the park's state, the simulated time, and the agenda of what is still to happen."""

    def __init__(self, seed: int, cards: int, start: datetime, pause: timedelta) -> None:
        self._random = Random(seed)  # noqa: S311 - to be foreseen is what it is for
        self._cards = park.of_seed(seed, cards, self._random)
        self._now = start.astimezone(UTC)
        self._pause = pause
        self._restricted = False
        self._fates = count()
        self._bills = count(seed % park.PARKS * 10_000 + 501)
        self._turns = count()
        self._agenda: list[tuple[datetime, int, Callable[[], bytes | None]]] = []

    def run(self) -> Iterator[tuple[datetime, bytes]]:
        """Bodies without end, and when each is sent."""
        self._in(timedelta(hours=9), self._bill)
        self._in(timedelta(), self._happen)
        while True:
            self._now, _, step = heappop(self._agenda)
            body = step()
            if body is not None:
                yield self._now, body

    def _in(self, delay: timedelta, step: Callable[[], bytes | None]) -> None:
        heappush(self._agenda, (self._now + delay, next(self._turns), step))

    def _seconds(self, shortest: int, longest: int) -> timedelta:
        return timedelta(seconds=self._random.randrange(shortest, longest))

    def _happen(self) -> bytes | None:
        self._in(self._pause * self._random.expovariate(1), self._happen)
        (what,) = self._random.choices(list(HAPPENINGS), list(HAPPENINGS.values()))
        match what:
            case "package_empty":
                return self._package_empty()
            case "msu_lock":
                return self._msu_lock()
            case "bill":
                return self._bill()
            case "odd":
                return self._odd()
            case _:
                self._order()
                return None

    def _send(self, message: dict[str, Any]) -> bytes:
        body = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
        if self._random.random() < RETRIED:
            self._in(self._seconds(60, 7200), lambda: body)
        return body

    def _status(self, card: Card) -> str:
        return "blocked" if self._restricted else card.status

    # Jobs.

    def _order(self) -> None:
        if self._restricted:
            return  # So is the API.
        (queue,) = self._random.choices(list(OPERATIONS), list(OPERATIONS.values()))
        size = min(len(self._cards), self._random.choice((1, 1, 2, 3, 5, 8, 20)))
        job = _Job(
            qid=f"q-{self._random.getrandbits(48):012x}",
            queue=queue,
            added=int(self._now.timestamp()),
            user=self._random.choice(park.USERS),
            cards=self._random.sample(self._cards, size),
            wordless=self._random.random() < WORDLESS,
            counting=self._random.choices(("numbers", "text", "percentage"), (85, 5, 10))[0],
        )
        between = sorted(self._random.sample(range(1, size), min(size - 1, self._random.randrange(4))))
        abandoned = self._random.random() < ABANDONED
        delay = self._seconds(1, 20)
        for done in (0, *between, *([] if abandoned else [size])):
            self._in(delay, self._callback_step(job, done))
            delay += self._seconds(20, 600)

    def _callback_step(self, job: _Job, done: int) -> Callable[[], bytes | None]:
        late = 0 < done < len(job.cards) and self._random.random() < LATE

        def step() -> bytes | None:
            body = self._send(self._callback(job, done))
            if not late:
                return body
            self._in(self._seconds(2400, 7200), lambda: body)
            return None

        return step

    def _callback(self, job: _Job, done: int) -> dict[str, Any]:
        for card in job.cards[:done]:
            card.status = {"sim_lock": "blocked", "sim_unlock": "active"}.get(job.queue, card.status)
        user_id, first_name, last_name = job.user
        return {
            "qid": job.qid,
            "added": job.added,
            "queue": job.queue,
            "handler": "https://audit.example/webhooks/main/SECRET",
            "items": [self._item(job, card, told=done > 0) for card in (job.cards[:done] if done else job.cards)],
            "user": {"id": user_id, "first_name": first_name, "last_name": last_name, "company_id": park.COMPANY_ID},
            "status": _progress(job, done),
        }

    def _item(self, job: _Job, card: Card, *, told: bool) -> dict[str, Any]:
        item = card.named()
        if not job.wordless:
            item["status"] = self._status(card)
        if told and job.queue == "balance":
            card.balance_kopecks -= self._random.randrange(5_00)
            item |= {"balance": card.balance, "tariff": card.tariff, "comment": f"касса {card.imsi[-1]}"}
        if told and job.queue == "change_group":
            card.group = self._random.choice(park.GROUPS)
            item["groups"] = [{"id": card.group[0], "name": card.group[1]}]
        return item

    # Notifications.

    def _package_empty(self) -> bytes:
        cards = self._random.sample(self._cards, 1)
        items = [card.named() | {"status": self._status(card)} for card in cards]
        return self._send({"type": "package_empty", "files": [], "items": items})

    def _msu_lock(self) -> bytes:
        cards = self._random.sample(self._cards, min(len(self._cards), self._random.choice((1, 1, 2))))
        for card in cards:
            card.status = "blocked"
        return self._send({"type": "msu_lock", "files": [], "items": [card.named() for card in cards]})

    def _bill(self) -> bytes:
        bill_id = next(self._bills)
        issued_on = self._now.astimezone(ZoneInfo(TIME_ZONE)).date()
        bill = _Bill(f"M2M-{bill_id}", bill_id, issued_on, self._random.randrange(900_00, 90_000_00))
        last = FATES[next(self._fates) % len(FATES)]
        for kind, working_day in REMINDERS.items() if last else ():
            day = workdays.after(issued_on, working_day, {})
            if day is not None:
                self._in(timedelta(days=(day - issued_on).days), partial(self._remind, kind, bill))
            if kind == last:
                break
        return self._send(_notice("generate_bill", bill))

    def _remind(self, kind: str, bill: _Bill) -> bytes:
        if kind == "unpaid_bill_6":
            self._restricted = True
            self._in(timedelta(days=1), self._settled)
        return self._send(_notice(kind, bill))

    def _settled(self) -> None:
        # No notification exists for it: what tells is the next card reported active.
        self._restricted = False

    # What nobody announced.

    def _odd(self) -> bytes:
        card = self._random.choice(self._cards)
        odd: tuple[bytes | dict[str, Any], ...] = (
            {"type": "sim_swap", "files": [], "items": [card.named()]},
            {"type": "package_empty", "files": None, "items": {"0": card.named()}},
            {"qid": self._random.getrandbits(32), "queue": None, "items": [card.named()], "status": "2 of 5"},
            {"event": "ping", "at": self._now.isoformat()},
            b"<html><body><h1>502 Bad Gateway</h1></body></html>",
            b'{"type":"msu_lock","items":[{"iccid":"' + card.iccid[:9].encode(),
            f"type=package_empty&msisdn={card.msisdn}".encode(),
        )
        chosen = self._random.choice(odd)
        return chosen if isinstance(chosen, bytes) else self._send(chosen)


def _progress(job: _Job, done: int) -> dict[str, Any]:
    per_cent = 100 * done // len(job.cards)
    if job.counting == "percentage":
        return {"percentage": per_cent}
    numbers = {"count": len(job.cards), "process": done, "percentage": per_cent}
    return numbers if job.counting == "numbers" else {name: str(number) for name, number in numbers.items()}


def _notice(kind: str, bill: _Bill) -> dict[str, Any]:
    amount = f"{bill.kopecks // 100}.{bill.kopecks % 100:02}"
    lines = [f"Bill {bill.number}", f"of {bill.issued_on}", f"to pay: {amount} RUB"]
    files = [_file(f"schet-{bill.number}.pdf", lines)]
    if kind == "generate_bill":
        files.append(
            _file(f"akt-{bill.number}.pdf", [f"Statement of work for bill {bill.number}", f"of {bill.issued_on}"])
        )
    item = {
        "id": bill.bill_id,
        "number": bill.number,
        "date": f"{bill.issued_on:%d.%m.%Y}",
        "amount": amount,
        "period": f"{bill.issued_on:%Y-%m}",
        "manager": park.MANAGER,
    }
    return {"type": kind, "files": files, "items": [item]}


def _file(name: str, lines: list[str]) -> dict[str, str]:
    content = pdf.document([*lines, "", "Simulated: nobody owes this."])
    return {"type": "base64", "format": "application/pdf", "name": name, "body": b64encode(content).decode()}
