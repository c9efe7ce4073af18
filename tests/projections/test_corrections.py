from __future__ import annotations

import json
from datetime import timedelta

import pytest

from schema import correction as corrections
from schema.correction import Correction, Evidence
from schema.errors import ConfigurationError, LogError

ICCID = "8970100000000000013"
BILL = {"id": 501, "number": "M2M-501", "date": "02.03.2026", "amount": "12345.67"}


def test_a_bill_is_paid_by_a_correction_and_unpaid_by_another(world):
    """What no webhook tells a person may say; the history has a line for each, and the sums follow."""
    world.send({"type": "generate_bill", "items": [BILL]})
    world.send({"type": "unpaid_bill_3", "items": [BILL]})
    world.correct("bill", "main:501", "2026-03-10T00:00:00.000000Z")
    assert world.row("SELECT paid_at, next_notice FROM bills") == {
        "paid_at": "2026-03-10T00:00:00.000000Z",
        "next_notice": None,
    }
    assert world.row("SELECT state, open_bills, open_kopecks FROM accounts") == {
        "state": "good",
        "open_bills": 0,
        "open_kopecks": 0,
    }
    world.correct("bill", "main:501", None)
    assert world.row("SELECT paid_at FROM bills")["paid_at"] is None
    assert world.row("SELECT state FROM accounts")["state"] == "unpaid"
    lines = world.rows("SELECT type, changes FROM bill_notices WHERE position > 2 ORDER BY position")
    assert [(line["type"], json.loads(line["changes"])) for line in lines] == [
        ("correction", {"paid_at": [None, "2026-03-10T00:00:00.000000Z"]}),
        ("correction", {"paid_at": ["2026-03-10T00:00:00.000000Z", None]}),
    ]


def test_a_cards_status_is_corrected_until_a_webhook_says_another(world):
    """A correction is one more piece of evidence, in its place in time."""
    world.send({"type": "msu_lock", "items": [{"iccid": ICCID}]})
    world.correct("sim", f"main:{ICCID}", "active")
    sim = world.row("SELECT status, status_basis, msu_locked_at FROM sims")
    assert tuple(sim.values()) == ("active", "correction", None)
    world.send({"type": "msu_lock", "items": [{"iccid": ICCID, "serial": 2}]})
    assert world.row("SELECT status_basis FROM sims")["status_basis"] == "msu_lock"


def test_an_account_is_released_by_a_correction(world):
    """A restriction ends by evidence, and a person's word is evidence; it is not taken back by the next delivery."""
    world.send({"type": "unpaid_bill_6", "items": [BILL]})
    world.correct("account", "main", "good")
    world.send({"type": "package_empty", "items": []})
    assert world.row("SELECT state FROM accounts")["state"] == "good"
    step = world.rows("SELECT state_before, state, reason FROM account_events ORDER BY position")[-1]
    assert tuple(step.values()) == ("restricted", "good", "correction")


def test_two_cards_are_made_one_by_a_correction(world):
    """The history of both is one; what is said later of either is said of it."""
    world.send({"type": "package_empty", "items": [{"msisdn": "79000000001"}]})
    world.send({"type": "msu_lock", "items": [{"iccid": ICCID}]})
    world.correct("same_sim", "main:+79000000001", f"main:{ICCID}")
    assert world.row("SELECT sim, msisdn FROM sims") == {"sim": f"main:{ICCID}", "msisdn": "+79000000001"}
    world.send({"type": "package_empty", "items": [{"msisdn": "79000000001", "serial": 2}]})
    assert {row["sim"] for row in world.rows("SELECT sim FROM sim_events")} == {f"main:{ICCID}"}


def test_two_iccids_are_never_made_one(world):
    """A correction that contradicts the cards' own identifiers is kept and shown, without effect."""
    world.send({"type": "msu_lock", "items": [{"iccid": ICCID}, {"iccid": "8970100000000000021"}]})
    world.correct("same_sim", f"main:{ICCID}", "main:8970100000000000021")
    assert len(world.rows("SELECT * FROM sims")) == 2
    assert world.row("SELECT effect FROM corrections")["effect"] == "nothing to correct"


@pytest.mark.parametrize(("subject", "value"), [("bill", None), ("sim", "active"), ("same_sim", "main:2")])
def test_a_correction_of_nothing_is_kept_and_shown(world, subject, value):
    """What names no row changes none, and stops nothing."""
    world.correct(subject, "main:1", value)
    assert world.row("SELECT effect FROM corrections")["effect"] == "nothing to correct"
    assert world.row("SELECT kind, outcome FROM deliveries") == {"kind": "correction", "outcome": "read"}


def test_a_void_event_never_was(world, tables_of):
    """The tables are those of the log without it, but for its own row, which names the correction."""
    world.send({"type": "package_empty", "items": [{"iccid": ICCID}]})
    world.send({"type": "unpaid_bill_6", "items": [BILL]})
    world.send({"type": "msu_lock", "items": [{"iccid": ICCID}]})
    world.project()
    world.correct("void", "2")
    assert world.row("SELECT state FROM accounts")["state"] == "good"
    assert world.rows("SELECT * FROM bills") == []
    assert world.rows("SELECT position, voided_by FROM deliveries WHERE voided_by IS NOT NULL") == [
        {"position": 2, "voided_by": 4}
    ]
    assert world.row("SELECT status, package_exhausted_at IS NULL AS never FROM sims") == {
        "status": "blocked",
        "never": 0,
    }
    assert tables_of(world.audit) == tables_of(world.fold_into(world.folder / "anew.db", []))
    assert world.row("SELECT reason, rows_removed > 0 AS removed FROM rebuilds") == {
        "reason": "event 4 makes another void",
        "removed": 1,
    }
    assert {"main:501"} <= {json.loads(row["key"])[0] for row in world.rows("SELECT key FROM rebuild_changes")}


def test_voiding_the_correction_brings_the_event_back(world):
    """A correction is taken back by another, of whichever kind it was."""
    world.send({"type": "unpaid_bill_6", "items": [BILL]})
    first = world.correct("void", "1")
    assert world.rows("SELECT * FROM bills") == []
    world.correct("void", str(first))
    assert world.row("SELECT stage FROM bills")["stage"] == "unpaid_6"
    assert world.row("SELECT state FROM accounts")["state"] == "restricted"


def test_the_same_body_after_a_void_one_is_the_first(world):
    """A repeat of what never was is no repeat."""
    body = {"type": "package_empty", "items": [{"iccid": ICCID}]}
    world.send(body)
    world.correct("void", "1")
    third = world.send(body, after=timedelta(minutes=1))
    assert world.row("SELECT repeat_of FROM deliveries WHERE position = ?", third)["repeat_of"] is None
    assert world.row("SELECT package_exhausted_at IS NOT NULL AS known FROM sims")["known"] == 1


def test_nothing_that_is_yet_to_come_can_be_void(world):
    """A correction speaks of what was."""
    world.correct("void", "2")
    world.send({"type": "package_empty", "items": [{"iccid": ICCID}]})
    assert len(world.rows("SELECT * FROM sims")) == 1


@pytest.mark.parametrize(
    "correction",
    [
        Correction("sim", "main:1", "blue", "a", "b"),
        Correction("account", "main", None, "a", "b"),
        Correction("void", "x", None, "a", "b"),
        Correction("sim", "main:1", "active", " ", "b"),
        Correction("sim", "main:1", "active", "a", "b" * 2001),
        Correction("sim", "main:1", "active", "a", "b", Evidence("e", bytes(corrections.EVIDENCE_BYTES + 1))),
    ],
)
def test_a_correction_that_can_not_be_meant_is_not_recorded(correction):
    """The log is for ever: what makes no sense is refused before it is in it."""
    with pytest.raises(ConfigurationError):
        corrections.encode(correction)


def test_a_damaged_correction_is_the_logs_error():
    """A correction is ours: what can't be read was not written by any version before."""
    with pytest.raises(LogError):
        corrections.decode(b'{"subject": "weather"}')


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-05-01", "2026-05-01T00:00:00.000000Z"),
        ("2026-05-01T03:00:00+03:00", "2026-05-01T00:00:00.000000Z"),
        ("2026-05-01T00:00:00.5Z", "2026-05-01T00:00:00.500000Z"),
    ],
)
def test_a_moment_is_a_date_or_rfc_3339(text, instant):
    """A date is its beginning, in UTC."""
    assert corrections.moment(text) == instant


@pytest.mark.parametrize("text", ["yesterday", "2026-05-01T12:00:00", ""])
def test_a_moment_without_a_zone_is_refused(text):
    """Nobody has to guess which noon was meant."""
    with pytest.raises(ConfigurationError):
        corrections.moment(text)
