from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from projections import attributes

if TYPE_CHECKING:
    from collections.abc import Iterable

ICCID = "8970100000000000013"
IMSI, MSISDN = "250010000000001", "79000000001"


def cards(*items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "package_empty", "files": [], "items": list(items)}


def bills(kind: str, *items: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "files": [], "items": list(items)}


def kept(rows: Iterable[dict[str, Any]]) -> dict[str, tuple[dict[str, Any], int]]:
    """By key, the fields and the position of the event that last changed them."""
    return {key: (json.loads(text), position) for key, text, position in (row.values() for row in rows)}


@pytest.fixture
def sims(world):
    return lambda: kept(world.rows("SELECT * FROM sim_attributes"))


def test_only_what_has_no_column_is_kept_and_only_where_there_is_any(world, sims):
    """A card without such fields has no row; one with them has the newest value of each, and when it last changed."""
    world.send(cards({"iccid": ICCID, "colour": "red", "size": 1}, {"iccid": "8970100000000000021", "tariff": "M"}))
    assert sims() == {f"main:{ICCID}": ({"colour": "red", "size": 1}, 1)}
    world.send(cards({"iccid": ICCID, "colour": "blue"}))
    world.send(cards({"iccid": ICCID, "size": 1, "tariff": "M"}))
    assert sims() == {f"main:{ICCID}": ({"colour": "blue", "size": 1}, 2)}
    assert "blue" not in str(world.rows("SELECT * FROM sim_events"))


def test_they_follow_a_card_to_its_stronger_key(world, sims):
    """A card first seen without its ICCID takes them along."""
    world.send(cards({"imsi": IMSI, "colour": "red"}))
    assert sims() == {f"main:imsi-{IMSI}": ({"colour": "red"}, 1)}
    world.send(cards({"imsi": IMSI, "iccid": ICCID}))
    assert sims() == {f"main:{ICCID}": ({"colour": "red"}, 2)}


@pytest.mark.parametrize("pages", [1, 3])
def test_two_cards_that_are_one_have_those_of_both(world, sims, pages):
    """The newer value of each counts, whichever row stays, within a page of events and over several."""
    items: list[dict[str, Any]] = [
        {"iccid": ICCID, "colour": "red", "shape": "round"},
        {"msisdn": MSISDN, "colour": "blue", "size": 1},
        {"iccid": ICCID, "msisdn": MSISDN},
    ]
    for item in items:
        world.send(cards(item))
        if pages > 1:
            world.project()
    assert sims() == {f"main:{ICCID}": ({"colour": "blue", "shape": "round", "size": 1}, 3)}


def test_a_correction_that_makes_two_cards_one_unites_them(world, sims):
    """So does a person's word."""
    world.send(cards({"msisdn": MSISDN, "size": 1}))
    world.send(cards({"iccid": ICCID, "colour": "red"}))
    world.correct("same_sim", f"main:+{MSISDN}", f"main:{ICCID}")
    assert sims() == {f"main:{ICCID}": ({"size": 1, "colour": "red"}, 3)}


def test_what_is_late_adds_what_was_not_known_and_changes_nothing(world, sims):
    """A callback behind its job's progress fills in; and the history does not tell what, as everybody may read it."""
    done = {"count": 2, "process": 2, "percentage": 100}
    item = {"iccid": ICCID, "colour": "red"}
    world.send({"qid": "q-1", "queue": "ping", "status": done, "items": [item]})
    late = {**item, "colour": "blue", "holder": "Вымышлена"}
    world.send({"qid": "q-1", "queue": "ping", "status": {**done, "process": 1, "percentage": 50}, "items": [late]})
    assert sims() == {f"main:{ICCID}": ({"colour": "red", "holder": "Вымышлена"}, 2)}
    assert "Вымышлена" not in str(world.rows("SELECT * FROM sim_events"))


def test_a_bills_go_with_the_bill(world):
    """Known by its number and by its id, a bill becomes one, with the fields of both; a late notice only adds."""
    world.send(bills("unpaid_bill_5", {"number": "M-1", "manager": "A", "desk": 1}))
    world.send(bills("generate_bill", {"id": 501, "manager": "B"}))
    world.send(bills("unpaid_bill_6", {"id": 501, "number": "M-1"}))
    stored = "SELECT * FROM bill_attributes"
    assert list(kept(world.rows(stored))) == ["main:501"]
    assert kept(world.rows(stored))["main:501"][0] == {"manager": "B", "desk": 1}
    world.send(bills("unpaid_bill_3", {"id": 501, "manager": "C", "floor": 2}))
    assert kept(world.rows(stored)) == {"main:501": ({"manager": "B", "desk": 1, "floor": 2}, 4)}


def test_they_follow_a_bill_to_its_id(world):
    """A bill known by its number takes them along when its id comes."""
    world.send(bills("generate_bill", {"number": "M-1", "manager": "A"}))
    world.send(bills("unpaid_bill_3", {"id": 501, "number": "M-1"}))
    assert kept(world.rows("SELECT * FROM bill_attributes")) == {"main:501": ({"manager": "A"}, 2)}


def test_they_end_where_they_would_grow_without_end(world, sims, monkeypatch):
    """A sender that names each field anew makes no row without bounds: what came last is kept, or what was known if that is late."""
    monkeypatch.setattr(attributes, "ATTRIBUTES_CHARACTERS", 30)
    world.send(cards({"iccid": ICCID, "first": "x" * 10}))
    world.send(cards({"iccid": ICCID, "second": "y" * 10}))
    assert sims() == {f"main:{ICCID}": ({"second": "y" * 10}, 2)}
    assert attributes._merged('{"a":"xxxxxxxxxx"}', '{"b":"yyyyyyyyyy"}', late=True) == '{"a":"xxxxxxxxxx"}'
