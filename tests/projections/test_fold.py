from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any

import pytest

DAY = timedelta(days=1)
ICCID = "8970100000000000013"


def job(process: int, count: int, *items: dict[str, Any], queue: str = "sim_lock", qid: str = "q-1") -> dict[str, Any]:
    return {
        "qid": qid,
        "added": 1764579600,
        "queue": queue,
        "handler": "https://audit.example/webhooks/main/SECRET",
        "items": list(items),
        "user": {"id": 17, "first_name": "Анна", "last_name": "Петрова", "company_id": 42},
        "status": {"count": count, "process": process, "percentage": 100 * process // count},
    }


def notice(kind: str, *items: dict[str, Any], files: list[Any] | None = None) -> dict[str, Any]:
    return {"type": kind, "files": files or [], "items": list(items)}


BILL = {"id": 501, "number": "M2M-501", "date": "02.03.2026", "amount": "12345.67"}


def test_the_samples_give_the_state_that_their_story_tells(world, samples):
    """The samples in order: a locked card, a done job with one late callback, an unpaid bill, a restricted account."""
    for body in samples:
        world.send(body)
    sim = world.row("SELECT * FROM sim_status WHERE sim = 'main:8970100000000000054'")
    assert (sim["status"], sim["effective_status"], sim["account_state"]) == ("blocked", "blocked", "restricted")
    assert sim["package_exhausted_at"] == "2026-03-02T09:00:09.000000Z"
    done = world.row("SELECT * FROM jobs WHERE job = 'main:q-7f3a'")
    assert (done["state"], done["processed"], done["count"], done["late_callbacks"]) == ("done", 5, 5, 1)
    bill = world.row("SELECT * FROM bills WHERE bill = 'main:501'")
    assert (bill["stage"], bill["amount_kopecks"]) == ("unpaid_6", 1_234_567)
    assert len(world.rows("SELECT * FROM bill_notices WHERE bill = 'main:501'")) == 4
    files = world.rows("SELECT name, content FROM files ORDER BY name")
    assert [file["name"] for file in files] == ["akt-M2M-501.pdf", "schet-M2M-501.pdf"]
    assert all(file["content"].startswith(b"%PDF-1.4") and file["content"].endswith(b"%%EOF\n") for file in files)
    assert world.row("SELECT state FROM accounts")["state"] == "restricted"
    again = world.row("SELECT * FROM deliveries WHERE position = 15")
    assert (again["repeat_of"], again["outcome"], again["type"]) == (9, "read", "package_empty")


def test_a_card_unlocked_by_a_job_without_statuses_is_active_by_implication(world, samples):
    """What a queue code implies holds from the completing callback, and the row says that it is implied."""
    for body in samples[:5]:
        world.send(body)
    sim = world.row("SELECT * FROM sims WHERE sim = ?", f"main:{ICCID}")
    assert (sim["status"], sim["status_basis"], sim["status_raw"]) == ("active", "implied", None)


def test_an_explicit_status_beats_the_implied_one(world):
    """A completed lock does not block a card that its own item reports active."""
    world.send(job(1, 1, {"iccid": ICCID, "status": "active"}))
    sim = world.row("SELECT status, status_basis FROM sims")
    assert (sim["status"], sim["status_basis"]) == ("active", "explicit")


def test_nothing_is_implied_before_completion(world):
    """A lock half done has locked no card that does not say so itself."""
    world.send(job(0, 2, {"iccid": ICCID}))
    assert world.row("SELECT status FROM sims")["status"] == "unknown"


def test_completion_decides_the_cards_that_only_earlier_callbacks_listed(world):
    """A card listed at the start without a status is blocked when the lock completes without naming it again."""
    world.send(job(0, 2, {"iccid": ICCID}, {"msisdn": "79000000002", "status": "active"}))
    world.send(job(2, 2))
    sims = world.rows("SELECT status, status_basis FROM sims ORDER BY sim")
    assert [tuple(sim.values()) for sim in sims] == [("active", "explicit"), ("blocked", "implied")]
    assert world.row("SELECT awaiting FROM jobs")["awaiting"] is None


@pytest.mark.parametrize(("operation", "status"), [("reboot", "unknown"), ("unlock", "active")])
def test_only_lock_and_unlock_imply_a_status(world, operation, status):
    """A completed reboot says nothing of a card's status."""
    world.send(job(1, 1, {"iccid": ICCID}, queue=operation))
    assert world.row("SELECT status FROM sims")["status"] == status


def test_progress_never_goes_backwards(world):
    """A lower count of processed elements is late: in the history, without effect."""
    world.send(job(5, 5, {"iccid": ICCID, "status": "blocked"}))
    world.send(job(2, 5, {"iccid": ICCID, "status": "active"}))
    row = world.row("SELECT processed, percentage, state, callbacks, late_callbacks FROM jobs")
    assert tuple(row.values()) == (5, 100, "done", 2, 1)
    assert [row["effect"] for row in world.rows("SELECT effect FROM job_progress ORDER BY position")] == [
        "applied",
        "late",
    ]
    assert world.row("SELECT status FROM sims")["status"] == "blocked"
    assert [row["effect"] for row in world.rows("SELECT effect FROM sim_events ORDER BY position")] == [
        "applied",
        "late",
    ]


def test_a_late_callback_fills_in_what_was_not_known(world):
    """A card that only a late callback names is kept, with what it says of it."""
    world.send(job(5, 5))
    world.send(job(2, 5, {"iccid": ICCID, "tariff": "M2M-5"}))
    sim = world.row("SELECT tariff, status, status_basis FROM sims")
    assert tuple(sim.values()) == ("M2M-5", "blocked", "implied")


def test_a_repeat_changes_nothing_and_is_marked(world):
    """The same body within the window is marked as a repeat of the first, however often it comes."""
    first = world.send(notice("package_empty", {"iccid": ICCID}))
    before = world.row("SELECT * FROM sims")
    world.send(notice("package_empty", {"iccid": ICCID}), after=timedelta(hours=23))
    world.send(notice("package_empty", {"iccid": ICCID}), after=timedelta(minutes=59))
    assert world.row("SELECT * FROM sims") == before
    marks = world.rows("SELECT repeat_of FROM deliveries ORDER BY position")
    assert [mark["repeat_of"] for mark in marks] == [None, first, first]


def test_the_same_body_after_the_window_is_a_new_fact(world):
    """The window is counted from the first delivery, so repeats can't hide a fact for ever."""
    world.send(notice("package_empty", {"iccid": ICCID}))
    world.send(notice("package_empty", {"iccid": ICCID}), after=timedelta(hours=20))
    third = world.send(notice("package_empty", {"iccid": ICCID}), after=timedelta(hours=20))
    assert world.row("SELECT repeat_of FROM deliveries WHERE position = ?", third)["repeat_of"] is None
    assert world.row("SELECT position FROM sims")["position"] == third


def test_the_same_body_of_another_source_is_no_repeat(world):
    """Sources stand for accounts: what two of them send alike is two facts."""
    world.send(notice("package_empty", {"iccid": ICCID}))
    world.send(notice("package_empty", {"iccid": ICCID}), source="other")
    assert [row["sim"] for row in world.rows("SELECT sim FROM sims ORDER BY sim")] == [
        f"main:{ICCID}",
        f"other:{ICCID}",
    ]


def test_msu_lock_blocks_whatever_the_item_says(world):
    """The notification's own meaning wins over the object's snapshot, and is named as the basis."""
    world.send(notice("msu_lock", {"iccid": ICCID, "status": "active"}))
    sim = world.row("SELECT status, status_basis, msu_locked_at FROM sims")
    assert tuple(sim.values()) == ("blocked", "msu_lock", "2026-03-02T09:00:01.000000Z")
    world.send(job(1, 1, {"iccid": ICCID, "status": "active"}, queue="ping"))
    assert tuple(world.row("SELECT status, msu_locked_at FROM sims").values()) == ("active", None)


def test_a_card_seen_first_without_its_iccid_is_one_card(world):
    """The ICCID that comes later gives the card its key, and the history follows it."""
    world.send(notice("package_empty", {"msisdn": "8 900 000-00-01"}))
    assert world.row("SELECT sim FROM sims")["sim"] == "main:+79000000001"
    world.send(notice("msu_lock", {"msisdn": "79000000001", "iccid": ICCID}))
    assert world.row("SELECT sim FROM sims")["sim"] == f"main:{ICCID}"
    assert [row["sim"] for row in world.rows("SELECT sim FROM sim_events ORDER BY position")] == [f"main:{ICCID}"] * 2
    assert world.row("SELECT package_exhausted_at FROM sims")["package_exhausted_at"] is not None


def test_two_rows_tied_by_one_observation_become_one(world):
    """A card known by its number and one known by its ICCID are merged when a delivery names both."""
    world.send(notice("package_empty", {"msisdn": "79000000001", "tariff": "M2M-5"}))
    world.send(notice("msu_lock", {"iccid": ICCID}))
    world.send(job(1, 1, {"iccid": ICCID, "msisdn": "79000000001"}, queue="ping"))
    sim = world.row("SELECT * FROM sims")
    assert (sim["sim"], sim["status"], sim["tariff"]) == (f"main:{ICCID}", "blocked", "M2M-5")
    assert sim["first_seen_at"] == "2026-03-02T09:00:01.000000Z"
    assert {row["sim"] for row in world.rows("SELECT sim FROM sim_events")} == {f"main:{ICCID}"}


def test_a_number_moves_to_the_card_that_replaces_another(world):
    """Two ICCIDs are two cards: the number leaves the old one, and neither history is mixed."""
    world.send(notice("package_empty", {"iccid": ICCID, "msisdn": "79000000001"}))
    world.send(notice("package_empty", {"iccid": "8970100000000000021", "msisdn": "79000000001"}))
    sims = world.rows("SELECT iccid, msisdn FROM sims ORDER BY iccid")
    assert [tuple(sim.values()) for sim in sims] == [(ICCID, None), ("8970100000000000021", "+79000000001")]


def test_an_iccid_without_its_check_digit_is_the_same_card(world):
    """The longer form stays as the key, whichever comes first."""
    world.send(notice("package_empty", {"iccid": ICCID[:-1]}))
    world.send(notice("msu_lock", {"iccid": ICCID}))
    world.send(notice("package_empty", {"iccid": ICCID[:-1], "tariff": "x"}))
    assert world.row("SELECT sim FROM sims")["sim"] == f"main:{ICCID}"


def test_a_late_callback_takes_no_number_from_the_card_that_has_it(world):
    """What is late makes its card, but never robs one that was seen since."""
    world.send(job(5, 5, {"iccid": ICCID, "msisdn": "79000000001"}))
    world.send(job(1, 5, {"iccid": "8970100000000000021", "msisdn": "79000000001"}))
    sims = world.rows("SELECT iccid, msisdn FROM sims ORDER BY iccid")
    assert [tuple(sim.values()) for sim in sims] == [(ICCID, "+79000000001"), ("8970100000000000021", None)]


def test_an_item_that_names_no_card_is_in_the_history(world):
    """What can't be identified is stored, shown and counted, never dropped."""
    world.send(notice("package_empty", {"colour": "red"}))
    assert world.rows("SELECT * FROM sims") == []
    assert tuple(world.row("SELECT sim, effect FROM sim_events").values()) == (None, "applied")


def test_an_unknown_status_replaces_no_knowledge(world):
    """A status that can't be told is kept as the platform's own value beside what is known."""
    world.send(job(1, 1, {"iccid": ICCID, "status": "blocked"}))
    world.send(job(1, 1, {"iccid": ICCID, "status": 3}, queue="ping", qid="q-2"))
    assert tuple(world.row("SELECT status, status_raw FROM sims").values()) == ("blocked", "3")


def test_bills_walk_through_their_stages_with_estimates(world):
    """Each notice moves the bill on; the next is expected on a Russian working day, labelled by its column."""
    expected = []
    for kind, days in (("generate_bill", 0), ("unpaid_bill_3", 3), ("unpaid_bill_5", 4), ("unpaid_bill_6", 1)):
        world.send(notice(kind, BILL), after=days * DAY)
        bill = world.row("SELECT stage, next_notice, next_notice_expected_on, presumed_settled_on FROM bills")
        expected.append(tuple(bill.values()))
    assert expected == [
        # The 2nd is a Monday; the 8th of March falls on a Sunday, so Monday the 9th is off.
        ("issued", "unpaid_bill_3", "2026-03-05", "2026-03-06"),
        ("unpaid_3", "unpaid_bill_5", "2026-03-10", "2026-03-11"),
        ("unpaid_5", "unpaid_bill_6", "2026-03-11", "2026-03-12"),
        ("unpaid_6", None, None, None),
    ]


def test_a_notice_behind_the_stage_is_late(world):
    """A bill's stage never goes backwards."""
    world.send(notice("unpaid_bill_5", BILL))
    world.send(notice("unpaid_bill_3", BILL))
    assert world.row("SELECT stage FROM bills")["stage"] == "unpaid_5"
    assert [row["effect"] for row in world.rows("SELECT effect FROM bill_notices ORDER BY position")] == [
        "applied",
        "late",
    ]


def test_only_evidence_pays_a_bill(world):
    """An explicit paid field pays; an unpaid notice after it takes that back."""
    world.send(notice("generate_bill", BILL))
    assert world.row("SELECT open_bills, open_kopecks FROM accounts") == {"open_bills": 1, "open_kopecks": 1_234_567}
    world.send(notice("generate_bill", {**BILL, "paid": True}))
    assert world.row("SELECT paid_at FROM bills")["paid_at"] == "2026-03-02T09:00:02.000000Z"
    assert world.row("SELECT open_bills, open_kopecks FROM accounts") == {"open_bills": 0, "open_kopecks": 0}
    world.send(notice("unpaid_bill_3", BILL))
    assert world.row("SELECT paid_at FROM bills")["paid_at"] is None


def test_a_bill_known_by_number_and_by_id_becomes_one(world):
    """An observation that names both ties the two rows together, and the sums stay right."""
    world.send(notice("generate_bill", {"number": "M2M-501", "amount": 10}))
    world.send(notice("generate_bill", {"id": 501, "amount": 10}))
    world.send(notice("unpaid_bill_3", {"id": 501, "number": "M2M-501"}))
    bill = world.row("SELECT bill, stage FROM bills")
    assert tuple(bill.values()) == ("main:501", "unpaid_3")
    assert world.row("SELECT open_bills, open_kopecks FROM accounts") == {"open_bills": 1, "open_kopecks": 1000}
    assert {row["bill"] for row in world.rows("SELECT bill FROM bill_notices")} == {"main:501"}


def test_the_account_walks_from_good_to_restricted_and_back_by_evidence(world):
    """Each change of state is one row that says why; an active card ends a restriction."""
    world.send(notice("generate_bill", BILL))
    world.send(notice("unpaid_bill_3", BILL))
    world.send(notice("unpaid_bill_6", BILL))
    world.send(notice("generate_bill", {**BILL, "paid": True}))
    assert world.row("SELECT state, bill FROM accounts") == {"state": "restricted", "bill": "main:501"}
    world.send(job(1, 1, {"iccid": ICCID, "status": "active"}, queue="ping"))
    steps = world.rows("SELECT state_before, state, reason, bill, sim FROM account_events ORDER BY position")
    assert [tuple(step.values()) for step in steps] == [
        ("good", "unpaid", "unpaid notice", "main:501", None),
        ("unpaid", "restricted", "unpaid_bill_6", "main:501", None),
        ("restricted", "unpaid", "a SIM card is active", None, f"main:{ICCID}"),
    ]


def test_a_bill_that_gets_its_id_within_a_notice_is_the_one_that_restricts(world):
    """One notice names a bill by its number, then by number and id: the account refers to it by the key it ends with."""
    world.send(notice("unpaid_bill_6", {"number": "N1"}, {"number": "N1", "id": 501, "paid": True}))
    assert world.row("SELECT state, bill FROM account_events") == {"state": "restricted", "bill": "main:501"}
    assert world.row("SELECT bill FROM accounts")["bill"] == "main:501"


def test_unpaid_bill_6_without_a_readable_bill_still_restricts(world):
    """The notice's own meaning does not depend on what it names."""
    world.send({"type": "unpaid_bill_6"})
    assert world.row("SELECT state, bill FROM accounts") == {"state": "restricted", "bill": None}


def test_a_restriction_shows_every_card_blocked_and_keeps_its_own_status(world):
    """Effective status is the account's word; a terminated card stays what it is."""
    world.send(
        job(2, 2, {"iccid": ICCID, "status": "active"}, {"msisdn": "79000000002", "status": "terminated"}, queue="ping")
    )
    world.send(notice("unpaid_bill_6", BILL))
    shown = world.rows("SELECT status, effective_status FROM sim_status ORDER BY sim")
    assert [tuple(row.values()) for row in shown] == [("terminated", "terminated"), ("active", "blocked")]


def test_bad_base64_loses_the_file_only(world):
    """The rest of the delivery counts, and the file is in its list without content."""
    good = {
        "type": "base64",
        "format": "application/pdf",
        "name": "../a.pdf",
        "body": base64.b64encode(b"%PDF").decode(),
    }
    world.send(notice("generate_bill", BILL, files=[{**good, "body": "!!"}, good]))
    listed = world.rows("SELECT n, name, sha256 IS NULL AS lost FROM delivery_files ORDER BY n")
    assert [tuple(file.values()) for file in listed] == [(0, "../a.pdf", 1), (1, "../a.pdf", 0)]
    assert world.row("SELECT content FROM files")["content"] == b"%PDF"
    assert "file_base64" in json.loads(world.row("SELECT anomalies FROM deliveries")["anomalies"])
    assert len(world.rows("SELECT * FROM bills")) == 1


def test_what_is_not_understood_is_in_quarantine(world):
    """Unknown shapes and bytes that are no JSON are deliveries like any other."""
    for body in (b"\xff\xfe", b"", b"[1]", b'{"type": "sim_teleported"}'):
        world.send(body)
    rows = world.rows("SELECT outcome, type FROM quarantine ORDER BY position")
    assert [tuple(row.values()) for row in rows] == [
        ("unreadable", None),
        ("unreadable", None),
        ("unrecognised", None),
        ("unrecognised", "sim_teleported"),
    ]


def test_a_published_handler_shows_no_secret(world):
    """The URL's secret is in no table, though every callback carries it."""
    world.send(job(1, 1, {"iccid": ICCID}))
    world.project()
    for name in (world.audit, world.audit.with_name("audit.db-wal")):
        assert not name.exists() or b"SECRET" not in name.read_bytes()
