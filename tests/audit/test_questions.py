"""The canned queries, asked of a read model that the projector made: what an audit asks, and what was the case."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from audit import publish
from projections.follower import apply
from projections.read_model import open_to_write
from projections.reading import read
from schema.configuration import Configuration
from schema.decode import Decoder
from schema.event import Delivery, Event, instant

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]

QUERIES: dict[str, dict[str, Any]] = yaml.safe_load(publish.metadata_path().read_text(encoding="utf-8"))["databases"][
    "audit"
]["queries"]

A, B, C = "8970100000000000013", "8970100000000000021", "8970100000000000039"

STORY: tuple[tuple[str, object], ...] = (
    ("2026-03-02T07:00:00Z", {"type": "generate_bill", "items": [{"id": 1, "number": "M-1", "date": "2026-03-02"}]}),
    ("2026-03-03T07:00:00Z", {"type": "msu_lock", "items": [{"iccid": A}, {"iccid": B}]}),
    ("2026-03-04T07:00:00Z", {"type": "msu_lock", "items": [{"iccid": A, "note": "again"}]}),
    ("2026-03-05T07:00:00Z", {"type": "package_empty", "items": [{"iccid": A}]}),
    ("2026-03-05T08:00:00Z", {"type": "package_empty", "items": [{"iccid": A}]}),
    ("2026-03-10T07:00:00Z", {"type": "unpaid_bill_3", "items": [{"id": 1, "number": "M-1", "date": "2026-03-02"}]}),
    ("2026-03-10T07:00:01Z", {"type": "generate_bill", "items": [{"id": 1, "number": "M-1", "period": "late"}]}),
    ("2026-03-13T07:00:00Z", {"type": "package_empty", "items": [{"iccid": A}, {"iccid": C}]}),
    ("2026-03-13T19:00:00Z", {"qid": "q1", "added": 1773428400, "queue": "sim_unlock", "items": [{"iccid": A, "status": "active"}], "user": {"id": 17, "first_name": "Иван", "last_name": "Фёдоров", "company_id": 1}, "status": {"count": 1, "process": 1}}),
    ("2026-03-20T07:00:00Z", {"qid": "q2", "added": 1773990000, "queue": "sim_lock", "items": [{"iccid": C}], "user": {"id": 18, "first_name": "П", "last_name": "О", "company_id": 1}, "status": {"count": 4, "process": 2}}),
    ("2026-03-20T07:00:01Z", {"qid": "q2", "added": 1773990000, "queue": "sim_lock", "items": [{"iccid": C}], "user": {"id": 18, "first_name": "П", "last_name": "О", "company_id": 1}, "status": {"count": 4, "process": 1}}),
    ("2026-04-01T07:00:00Z", {"type": "package_empty", "items": [{"iccid": A}]}),
    ("2026-04-02T07:00:00Z", {"type": "something_new"}),
    ("2026-04-03T07:00:00Z", b"not JSON"),
)  # fmt: skip

MARCH = {"since": "2026-03-01", "until": "2026-03-31"}
ALL = {"since": "2026-01-01"}


def event(position: int, at: str, body: object) -> Event:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Event(position, Delivery(instant(datetime.fromisoformat(at)), "main", "", {}, raw))


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path = tmp_path_factory.mktemp("story") / "audit.db"
    model = open_to_write(path, Configuration())
    events = [event(number, at, body) for number, (at, body) in enumerate(STORY, 1)]
    apply(model, read(events, Decoder(Configuration())), since=0)
    model.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        yield connection


@pytest.fixture
def ask(story: sqlite3.Connection):
    def ask(name: str, **parameters: str) -> list[dict[str, Any]]:
        query = QUERIES[name]
        assert set(parameters) <= set(query["params"])
        return [dict(row) for row in story.execute(query["sql"], dict.fromkeys(query["params"], "") | parameters)]

    return ask


def test_a_lock_lasts_until_the_card_is_active_again(ask) -> None:
    """One row for each lock, however often it was notified, with its days; a card still locked has no end."""
    still, ended = ask("msu_locks")

    assert (ended["sim"], ended["locked_at"], ended["active_at"]) == (f"main:{A}", "2026-03-03T07:00:00.000000Z", "2026-03-13T19:00:00.000000Z")  # fmt: skip
    assert (ended["days"], ended["still_locked"], ended["position"], ended["ended_by"]) == (10.5, 0, 2, 9)
    assert (still["sim"], still["active_at"], still["still_locked"], still["ended_by"]) == (f"main:{B}", None, 1, None)
    assert still["days"] > 200
    assert [row["sim"] for row in ask("msu_locks", still="1")] == [f"main:{B}"]
    assert ask("msu_locks", since="2026-03-04") == ask("msu_locks", until="2026-03-02") == []
    assert len(ask("msu_locks", since="2026-03-03", until="2026-03-03", source="main")) == 2


def test_packages_are_counted_per_card_and_month(ask) -> None:
    """Each month has its cards, the most often empty first; a repeated delivery is no second time."""
    rows = [(row["month"], row["sim"].removeprefix("main:"), row["times"]) for row in ask("packages_run_out", **ALL)]

    assert rows == [("2026-04", A, 1), ("2026-03", A, 2), ("2026-03", C, 1)]
    assert len(ask("packages_run_out", since="2026-03", until="2026-03")) == 2
    assert [row["times"] for row in ask("packages_run_out", since="2026-03", times="2")] == [2]
    assert ask("packages_run_out") == ask("packages_run_out", since="2026-05") == []


def test_jobs_that_never_finished(ask) -> None:
    """A job without a callback that completes it is listed with what is left; a completed one is not."""
    (job,) = ask("unfinished_jobs")

    assert (job["job"], job["processed"], job["count"], job["left_over"], job["late_callbacks"]) == ("main:q2", 2, 4, 2, 1)  # fmt: skip
    assert job["silent_hours"] > 1000
    assert ask("unfinished_jobs", silent_hours="1000000") == ask("unfinished_jobs", source="other") == []


def test_who_ordered_what(ask) -> None:
    """Jobs by when they were ordered, newest first, by user, operation and period."""
    assert [(row["job"], row["user"], row["operation"]) for row in ask("orders", **MARCH)] == [
        ("main:q2", "main:18", "lock"),
        ("main:q1", "main:17", "unlock"),
    ]
    assert [row["job"] for row in ask("orders", **ALL, user="17")] == ["main:q1"]
    assert [row["job"] for row in ask("orders", **ALL, user="main:18")] == ["main:q2"]
    assert [row["job"] for row in ask("orders", **ALL, operation="lock")] == ["main:q2"]
    assert [row["job"] for row in ask("orders", since="2026-03-14")] == ["main:q2"]
    assert ask("orders") == []


def test_notices_are_measured_by_the_working_calendar(ask) -> None:
    """The third working day after 2 March 2026 is the 5th; a notice on the 10th came two working days late."""
    first, third, late = ask("bills_and_notices")

    assert (first["type"], first["expected_on"], first["delay_workdays"]) == ("generate_bill", None, None)
    assert (third["type"], third["expected_on"], third["delay_workdays"]) == ("unpaid_bill_3", "2026-03-05", 2)
    assert (late["type"], late["effect"]) == ("generate_bill", "late")
    assert {row["stage_now"] for row in (first, third, late)} == {"unpaid_3"}
    assert len(ask("bills_and_notices", number="M-1", since="2026-03-02", until="2026-03-02", source="main")) == 3
    assert len(ask("bills_and_notices", number="main:1")) == 3
    assert ask("bills_and_notices", number="M-2") == ask("bills_and_notices", since="2026-03-03") == []


def test_what_happened_between_two_moments(ask) -> None:
    """Every delivery between the moments, both included, in order, with what it changed."""
    rows = ask("happened_between", since="2026-03-10", until="2026-03-13")

    assert [row["position"] for row in rows] == [6, 7, 8, 9]
    assert [(row["cards_changed"], row["bills_changed"]) for row in rows] == [(0, 1), (0, 1), (2, 0), (1, 0)]
    assert [row["account"] for row in rows] == ["good -> unpaid", None, None, None]
    assert [row["position"] for row in ask("happened_between", since="2026-03-10", until="2026-03-13", after="7")] == [8, 9]  # fmt: skip
    moments = {"since": "2026-03-13T10:00+03:00", "until": "2026-03-13T07:00:00Z"}
    assert [row["position"] for row in ask("happened_between", **moments)] == [8]
    assert ask("happened_between") == ask("happened_between", **ALL, source="other") == []


def test_deliveries_that_are_odd(ask) -> None:
    """Repeats, late callbacks and notices, and what was not understood: each with why, newest first."""
    rows = ask("odd_deliveries", **ALL)

    assert [(row["position"], row["why"]) for row in rows] == [
        (14, "unreadable"),
        (13, "unrecognised"),
        (11, "late"),
        (7, "late"),
        (5, "repeat"),
    ]
    assert rows[-1]["repeat_of"] == 4
    assert [row["position"] for row in ask("odd_deliveries", **MARCH, why="late")] == [11, 7]
    assert ask("odd_deliveries") == ask("odd_deliveries", **ALL, source="other") == []


def test_differences_of_the_last_rebuild_are_with_it(story, ask) -> None:
    """Each change is shown with the last rebuild, by table and kind; without one there is nothing."""
    assert ask("rebuild_differences") == []
    with closing(story.cursor()) as cursor:
        for number in (1, 2):
            cursor.execute(
                "INSERT INTO rebuilds VALUES (?, '', '', ?, '', 2, NULL, '', NULL, 0, 0, 0, 0, '', '')",
                (number, f"reason {number}"),
            )
        cursor.execute("INSERT INTO rebuild_changes VALUES (1, 'sims', 'changed', '[]', 3, '{}')")
        cursor.execute("INSERT INTO rebuild_changes VALUES (2, 'bills', 'added', '[]', 4, '{}')")
        assert [(row["table_name"], row["reason"]) for row in ask("rebuild_differences")] == [
            ("sims", "reason 2"),
            ("bills", "reason 2"),
        ]
        assert [row["n"] for row in ask("rebuild_differences", kind="added")] == [2]
        assert [row["n"] for row in ask("rebuild_differences", in_table="sims")] == [1]
    story.rollback()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0013", [("card", f"main:{A}")]),
        ("ICCID", []),
        ("89701 00000 00000 0013", [("card", f"main:{A}")]),
        ("M-1", [("bill", "main:1"), ("delivery", None), ("delivery", None), ("delivery", None)]),
        ("something_NEW", [("delivery", None)]),
        ("8970", [("card", f"main:{C}"), ("card", f"main:{B}"), ("card", f"main:{A}")]),
        ("13", []),
        ("", []),
        ('"', []),
        ("0013\0", [("card", f"main:{A}")]),
        ("Ф", []),
    ],
)
def test_a_piece_of_text_is_found(ask, text: str, found: list[tuple[str, str | None]]) -> None:
    """Cards, bills and deliveries are found by any part of what can be searched, from three characters on."""
    rows = ask("search", text=text)

    assert [(row["kind"], row["sim"] or row["bill"]) for row in rows] == found
    for kind in ("card", "bill", "delivery"):
        assert ask("search", text=text, kind=kind) == [row for row in rows if row["kind"] == kind]


@pytest.mark.parametrize("text", ["+7 900 123-45-67", "8 (900) 123-45-67", "9001234567", "79001234567", "1234567"])
def test_a_telephone_number_is_found_in_any_form(tmp_path, text: str) -> None:
    """However it is written, a number finds the card that has it."""
    path = tmp_path / "audit.db"
    model = open_to_write(path, Configuration())
    card = {"iccid": A, "msisdn": "79001234567"}
    apply(
        model,
        read(
            [event(1, "2026-03-01T00:00:00Z", {"type": "package_empty", "items": [card]})],
            Decoder(Configuration()),
        ),
        since=0,
    )
    model.close()
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute(QUERIES["search"]["sql"], {"text": text, "kind": "card"}).fetchall()
    assert [row[3] for row in found] == [f"main:{A}"]


def test_users_and_bodies_are_searched_apart(ask) -> None:
    """What is not for every eye has a search of its own: names, and the words of what was not understood."""
    assert [row["user"] for row in ask("search_users", text="фёдор")] == ["main:17"]
    assert ask("search", text="фёдор") == ask("search_bodies", text="фёдор") == []
    assert [row["position"] for row in ask("search_bodies", text="T JSO")] == [14]
    assert ask("search_bodies", text="T JSO")[0]["around"] == "not JSON"
    assert [row["position"] for row in ask("search_bodies", text="something_new")] == [13]
    assert ask("search_bodies", text="msu_lock") == ask("search_users", text="") == []


def test_periods_are_the_last_days_by_themselves(tmp_path: Path) -> None:
    """Where no moment is named, questions about a period are about the time up to now."""
    path = tmp_path / "audit.db"
    now = datetime.now(UTC)
    model = open_to_write(path, Configuration())
    events = [
        event(1, (now - timedelta(days=40)).isoformat(), b"old"),
        event(2, (now - timedelta(days=20)).isoformat(), b"recent"),
        event(3, (now - timedelta(hours=2)).isoformat(), b"new"),
    ]
    apply(model, read(events, Decoder(Configuration())), since=0)
    model.close()
    with closing(sqlite3.connect(path)) as connection:

        def positions(name: str) -> list[int]:
            cursor = connection.execute(QUERIES[name]["sql"], dict.fromkeys(QUERIES[name]["params"], ""))
            place = [column[0] for column in cursor.description].index("position")
            return [row[place] for row in cursor]

        assert positions("odd_deliveries") == [3, 2]
        assert positions("happened_between") == [3]


def test_every_question_is_documented() -> None:
    """docs/auditing.md names each canned query, under what people want to know."""
    document = (ROOT / "docs" / "auditing.md").read_text(encoding="utf-8")
    table = document.split("## The questions")[1].split("\n## ")[0]
    assert set(re.findall(r"`(\w+)`", table)) == set(QUERIES)
