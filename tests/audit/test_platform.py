"""The simulated platform: what it sends is settled by its arguments, and like what a platform would send."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from audit import platform
from projections import workdays
from schema import identifiers
from schema.configuration import Configuration, operation
from schema.decode import Decoder
from schema.readings import BILL_TYPES, SIM_TYPES, JobCallback, Notification, Unreadable, Unrecognised

if TYPE_CHECKING:
    from schema.readings import Reading

START = datetime(2025, 12, 1, tzinfo=UTC)


def sent(number: int, *, seed: int = 1, cards: int = 200, start: datetime = START) -> list[bytes]:
    return list(platform.deliveries(seed, number, cards, start))


@pytest.fixture(scope="module")
def month() -> list[bytes]:
    return sent(5000)


@pytest.fixture(scope="module")
def readings(month: list[bytes]) -> list[Reading]:
    decoder = Decoder(Configuration())
    return [decoder.decode(body) for body in month]


def understood(bodies: list[bytes]) -> list[dict[str, Any]]:
    """The distinct bodies that are JSON objects, in the order first sent."""
    messages = []
    for body in dict.fromkeys(bodies):
        with suppress(ValueError):
            messages.append(json.loads(body))
    return messages


def callbacks(readings: list[Reading]) -> dict[str, list[JobCallback]]:
    jobs = defaultdict(list)
    for reading in readings:
        if isinstance(reading, JobCallback):
            jobs[reading.qid].append(reading)
    return jobs


def test_the_same_arguments_give_the_same_bodies() -> None:
    """Seed, count, cards and start settle every byte, on any machine."""
    bodies = sent(300)

    assert bodies == sent(300)
    assert (
        hashlib.sha256(b"\n".join(bodies)).hexdigest()
        == "58a123e7326a79a247aaea45f7e5ea8426954378217cb6c0730efa4c8c59a92f"
    )


@pytest.mark.parametrize("other", [{"seed": 2}, {"cards": 201}, {"start": START + timedelta(days=1)}])
def test_other_arguments_give_other_bodies(other: dict[str, Any]) -> None:
    """Each of the arguments matters."""
    assert sent(50, **other) != sent(50)


def test_parks_of_different_seeds_have_no_card_in_common() -> None:
    """Simulations of neighbouring seeds are of different cards, jobs and bills: one doesn't continue the other."""

    def names(seed: int) -> set[str]:
        found = set()
        for message in understood(sent(500, seed=seed)):
            items = message.get("items")
            for item in items if isinstance(items, list) else []:
                found |= {str(item[key]) for key in ("iccid", "msisdn", "imsi", "number") if key in item}
            found.add(str(message.get("qid")))
        return found

    assert names(1) & names(2) <= {"None"}


@pytest.mark.parametrize("number", [1, 2, 17, 500])
def test_so_many_as_asked(number: int) -> None:
    """A run is as long as it was asked to be, from one card on."""
    assert len(sent(number)) == number
    assert len(sent(number, cards=1)) == number


@pytest.mark.parametrize("start", [START, datetime(2025, 12, 29, tzinfo=UTC), datetime(2026, 4, 28, 23, tzinfo=UTC)])
def test_a_short_run_shows_everything(start: datetime) -> None:
    """500 deliveries hold each kind of webhook there is, over holidays too."""
    decoder = Decoder(Configuration())
    readings = [decoder.decode(body) for body in sent(500, start=start)]

    types = {reading.type for reading in readings if isinstance(reading, Notification)}
    assert types == {*SIM_TYPES, *BILL_TYPES}
    queues = {reading.queue for reading in readings if isinstance(reading, JobCallback)} - {None}
    assert {operation(Configuration(), queue) for queue in queues} == {
        "lock",
        "unlock",
        "reboot",
        "balance",
        "ping",
        "groups",
    }
    kinds = Counter(type(reading) for reading in readings)
    assert kinds[Unrecognised] >= 2
    assert kinds[Unreadable] >= 2


def test_the_mix_is_that_of_a_platform(month: list[bytes], readings: list[Reading]) -> None:
    """Most deliveries are job callbacks, a few are odd, and a few come again to the byte."""
    kinds = Counter(type(reading).__name__ for reading in readings)

    assert 0.75 < kinds["JobCallback"] / len(month) < 0.92
    assert 0.07 < kinds["Notification"] / len(month) < 0.20
    assert 0.005 < (kinds["Unrecognised"] + kinds["Unreadable"]) / len(month) < 0.04
    again = Counter(month)
    assert 0.02 < sum(1 for count in again.values() if count > 1) / len(again) < 0.12
    assert 300 < sum(map(len, month)) / len(month) < 3000


def test_jobs_walk_from_nothing_to_all(readings: list[Reading]) -> None:
    """Jobs begin at 0 and mostly end complete, some by percentage alone; some are abandoned, some callbacks late."""
    jobs = callbacks(readings)
    whole = {qid: job for qid, job in jobs.items() if job[0].process == 0 or job[0].percentage == 0}

    assert len(whole) > 0.95 * len(jobs)
    complete = sum(any(callback.complete for callback in job) for job in whole.values())
    assert 0.9 < complete / len(whole) < 1
    assert any(job[-1].complete and job[-1].process is None for job in whole.values())
    behind = [qid for qid, job in jobs.items() if any((a.process or 0) > (b.process or 0) for a, b in pairwise(job))]
    assert 0.01 < len(behind) / len(jobs) < 0.12


def test_cards_are_valid_in_form(readings: list[Reading]) -> None:
    """Each card has a valid ICCID with its check digit, an MSISDN and an IMSI, and keeps them."""
    numbers: dict[str, set[tuple[str | None, str | None]]] = defaultdict(set)
    for job in callbacks(readings).values():
        for card in (card for callback in job for card in callback.sims):
            assert card.anomalies == ()
            if card.iccid is not None:
                assert identifiers.iccid(card.iccid) == (card.iccid, ())
                numbers[card.iccid].add((card.msisdn, card.imsi))

    assert len(numbers) == 200
    assert all(len(names) == 1 for names in numbers.values())
    assert len(set.union(*numbers.values())) == 200


def test_some_cards_are_named_without_iccid_first(readings: list[Reading]) -> None:
    """A few cards are first told of without their ICCID, then with it."""
    first: dict[str | None, bool] = {}
    later: set[str | None] = set()
    for job in callbacks(readings).values():
        for card in (card for callback in job for card in callback.sims):
            first.setdefault(card.imsi, card.iccid is None)
            if card.iccid is not None:
                later.add(card.imsi)
    shy = {imsi for imsi, without in first.items() if without}

    assert 2 <= len(shy) <= 25
    assert shy <= later


def test_some_jobs_list_cards_without_a_status(readings: list[Reading]) -> None:
    """What a card's status is then follows from the job's end."""
    jobs = callbacks(readings)
    wordless = [qid for qid, job in jobs.items() if all(card.status is None for c in job for card in c.sims)]

    assert 0.2 < len(wordless) / len(jobs) < 0.4


def test_notices_come_on_their_working_days(month: list[bytes]) -> None:
    """A bill's notices come in order, each on its working day after the bill's date, as the jobs around them date it."""
    today = START.date()
    seen: dict[str, list[str]] = defaultdict(list)
    for message in understood(month):
        if "added" in message:
            today = datetime.fromtimestamp(message["added"], ZoneInfo("Europe/Moscow")).date()
            continue
        kind = message.get("type")
        if kind not in BILL_TYPES:
            continue
        (bill,) = message["items"]
        seen[bill["number"]].append(kind)
        if kind in platform.REMINDERS:
            issued_on = datetime.strptime(bill["date"], "%d.%m.%Y").replace(tzinfo=UTC).date()
            due = workdays.after(issued_on, platform.REMINDERS[kind], {})
            assert due is not None
            assert due - date.resolution <= today <= due

    walk = ["generate_bill", *platform.REMINDERS]
    assert all(kinds == walk[: len(kinds)] for kinds in seen.values())
    assert {len(kinds) for kinds in seen.values()} == {1, 2, 3, 4}


def test_a_restricted_account_orders_nothing(month: list[bytes]) -> None:
    """From unpaid_bill_6 no job is added for a day, and what is told of cards is that they are blocked."""
    messages = understood(month)
    at = next(n for n, message in enumerate(messages) if message.get("type") == "unpaid_bill_6")
    added = sorted({message["added"] for message in messages if "added" in message})
    before = max(message["added"] for message in messages[:at] if "added" in message)

    (after,) = (b for a, b in pairwise(added) if a == before)
    assert after - before > 86_400
    told = [message for message in messages[at + 1 : at + 10] if message.get("type") == "package_empty"]
    assert told
    assert {item["status"] for message in told for item in message["items"]} == {"blocked"}


def test_bills_carry_their_files(readings: list[Reading]) -> None:
    """A new bill comes with the bill and a statement as PDF, a notice with the bill alone: the same file each time."""
    contents: dict[str | None, set[bytes | None]] = defaultdict(set)
    for reading in readings:
        if isinstance(reading, Notification) and reading.type in BILL_TYPES:
            assert len(reading.files) == (2 if reading.type == "generate_bill" else 1)
            (bill,) = reading.bills
            for file in reading.files:
                contents[file.name].add(file.content)
            drawn = reading.files[0].content or b""
            assert drawn.startswith(b"%PDF-1.4\n")
            assert f"Bill {bill.number}".encode() in drawn
            assert bill.amount_kopecks is not None
            assert f"to pay: {bill.amount_kopecks // 100}.{bill.amount_kopecks % 100:02} RUB".encode() in drawn

    assert len(contents) > 20
    assert all(len(same) == 1 for same in contents.values())
