from __future__ import annotations

import json
from decimal import Decimal

import pytest

from schema.aliases import SIM_ALIASES
from schema.configuration import Configuration
from schema.decode import Decoder
from schema.readings import Notification, SimCard

ICCID = "8970100000000000013"

USABLE = {
    "id": (1001, "platform_id", "1001"),
    "iccid": (ICCID, "iccid", ICCID),
    "msisdn": ("9000000001", "msisdn", "+79000000001"),
    "imsi": ("250010000000001", "imsi", "250010000000001"),
    "imei": ("490154203237518", "imei", "490154203237518"),
    "status": ("blocked", "status", "blocked"),
    "balance": ("-15.20", "balance_kopecks", -1520),
    "groups": ([{"id": 7}], "groups", '[{"id":7}]'),
    "tariff": ("M2M-5", "tariff", "M2M-5"),
    "operator": ("МТС", "operator", "МТС"),
}
FLAGS = {"activated", "enabled", "blocked", "locked"}


@pytest.mark.parametrize(
    ("field", "alias"), [(field, alias) for field, aliases in SIM_ALIASES.items() for alias in aliases]
)
def test_every_alias_is_read_in_every_spelling(read_sim, field, alias):
    """Each alias of each field fills its column, whatever the case and separators, here or one level down."""
    value, column, expected = USABLE[field]
    if alias in FLAGS:
        value = alias in {"blocked", "locked"}
        expected = "blocked" if value else "inactive"
    for name in (alias, alias.upper(), alias.replace("_", "-"), "_".join(alias), f" {alias} "):
        for sim in (read_sim(**{name: value}), read_sim(data={name: value}), read_sim(simCard={name: value})):
            assert getattr(sim, column) == expected
            assert sim.attributes is None


def test_a_card_of_the_platform(read_sim):
    """A plain object fills its columns, and nothing is remarked."""
    assert read_sim(id=1001, iccid=ICCID, msisdn="79000000001", imsi="250010000000001", status="active") == SimCard(
        iccid=ICCID,
        imsi="250010000000001",
        msisdn="+79000000001",
        platform_id="1001",
        status="active",
        status_raw="active",
    )


def test_the_first_usable_alias_wins(read_sim):
    """Table order counts, not the object's; null, blank and unusable values are passed over, and stay if they say something."""
    sim = read_sim(icc=ICCID, iccid=None)
    assert (sim.iccid, sim.attributes, sim.anomalies) == (ICCID, None, ())
    sim = read_sim(icc=ICCID, iccid="")
    assert (sim.iccid, sim.attributes, sim.anomalies) == (ICCID, None, ())
    sim = read_sim(icc=ICCID, iccid="garbage")
    assert (sim.iccid, sim.attributes, sim.anomalies) == (ICCID, '{"iccid":"garbage"}', ("iccid_invalid",))
    sim = read_sim(phone="79000000002", msisdn="79000000001")
    assert (sim.msisdn, sim.attributes) == ("+79000000001", '{"phone":"79000000002"}')
    sim = read_sim(sim_id=1, SIMID=2)
    assert (sim.platform_id, sim.attributes) == ("1", '{"SIMID":2}')


def test_the_object_itself_goes_before_what_it_contains(read_sim):
    """One level down is looked at after the object, and no further."""
    sim = read_sim(
        sim={"iccid": "8970100000000000021", "imsi": "250010000000001", "card": {"msisdn": "79000000001"}}, icc=ICCID
    )
    assert (sim.iccid, sim.imsi, sim.msisdn) == (ICCID, "250010000000001", None)
    assert sim.attributes == '{"sim":{"iccid":"8970100000000000021","card":{"msisdn":"79000000001"}}}'


@pytest.mark.parametrize(
    ("value", "iccid", "msisdn"),
    [
        (ICCID, ICCID, None),
        (int(ICCID), ICCID, None),
        ("79000000001", None, "+79000000001"),
        ("9000000001", None, "+79000000001"),
        ("1001234", None, None),
        (1001, None, None),
        ("Склад 5", None, None),
        (None, None, None),
        ([], None, None),
    ],
)
def test_sim_is_what_it_looks_like(read_sim, value, iccid, msisdn):
    """A field `sim` is an ICCID or an MSISDN if it looks like one; else it is left alone, without remark."""
    sim = read_sim(sim=value, id=5)
    assert (sim.iccid, sim.msisdn) == (iccid, msisdn)
    assert not {"iccid_invalid", "msisdn_invalid"} & set(sim.anomalies)
    assert (sim.attributes is None) == bool(iccid or msisdn or value is None)


def test_an_identifier_may_stand_in_an_object(read_sim):
    """`{imsi: {imsi}}` is read, and the object stays."""
    sim = read_sim(imsi={"imsi": "250010000000001", "state": "on"})
    assert (sim.imsi, sim.attributes) == ("250010000000001", '{"imsi":{"imsi":"250010000000001","state":"on"}}')


def test_a_lossy_iccid_identifies_nothing(decoder):
    """A JSON number with a fraction or exponent has lost digits."""
    body = b'{"type":"msu_lock","items":[{"iccid":8.970100000000000013E18}]}'
    reading = decoder.decode(body)
    assert reading.anomalies == ("iccid_lossy_number", "sim_unidentified")
    assert reading.sims[0].attributes == '{"iccid":8970100000000000013}'


@pytest.mark.parametrize(
    ("fields", "status", "raw"),
    [
        ({"status": "active", "state": "blocked"}, "active", "active"),
        ({"status": 3}, "unknown", "3"),
        ({"status": 3, "state": "blocked"}, "blocked", "blocked"),
        ({"status": {"description": "Активна", "id": 2}}, "active", "Активна"),
        ({"blocked": True, "activated": True}, "blocked", "blocked=true"),
        ({"locked": False, "activated": False}, "inactive", "activated=false"),
        ({"locked": False}, "active", "locked=false"),
        ({"status": 3, "blocked": False}, "unknown", "3"),
        ({"status": 3, "blocked": True}, "blocked", "blocked=true"),
        ({"status": None, "enabled": 1}, "active", "enabled=true"),
        ({"status": None}, None, None),
        ({}, None, None),
    ],
)
def test_status(read_sim, fields, status, raw):
    """Words go before flags, what is known before what is not, and a lock before an activation."""
    sim = read_sim(**fields)
    assert (sim.status, sim.status_raw) == (status, raw)


def test_a_contradicted_status_is_named(read_sim):
    """An active card that is blocked by another field is not silently active."""
    assert "status_contradicted" in read_sim(status="active", blocked=True).anomalies
    assert "status_contradicted" in read_sim(status="active", data={"state": "terminated"}).anomalies
    assert "status_contradicted" not in read_sim(status="blocked", activated=True).anomalies
    assert "status_contradicted" not in read_sim(status="inactive", blocked=True).anomalies
    assert "status_contradicted" not in read_sim(status="active", blocked=False).anomalies


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("balance", 120, 12_000),
        ("lkBalance", -15.2, -1_520),
        ("balance_kopecks", 120, 120),
        ("BalanceKop", "120", 120),
        ("balance_коп", 120, 120),
        ("balance", {"value": "1.50", "currency": "RUB"}, 150),
        ("balance", {"value": "1.50", "currency": "USD"}, None),
        ("balance", "none", None),
    ],
)
def test_balance(read_sim, name, value, expected):
    """A balance is in kopecks; what can't be told stays among the attributes."""
    sim = read_sim(**{name: value})
    assert sim.balance_kopecks == expected
    assert (sim.attributes is None) == (not isinstance(value, dict) and expected is not None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [([], "[]"), ([{"id": 7, "name": "Склад"}], '[{"id":7,"name":"Склад"}]'), (7, "7"), ("a", '"a"'), (None, None)],
)
def test_groups_are_json(read_sim, value, expected):
    """Groups are kept whole as JSON; an empty array says that there are none."""
    sim = read_sim(groups=value)
    assert (sim.groups, sim.attributes) == (expected, None)


def test_everything_else_is_an_attribute(read_sim):
    """Every field without a column is kept, null too, but no secret at any depth."""
    sim = read_sim(
        id=1, apn="m2m", x=None, pin1="1234", deep={"Ki": "00", "a": [1.50, {"puk": 1}]}, tariff={"id": 3, "name": "T"}
    )
    assert sim.tariff == "T"
    assert sim.attributes is not None
    assert json.loads(sim.attributes) == {
        "apn": "m2m",
        "x": None,
        "deep": {"Ki": "(withheld)", "a": [1.5, {"puk": "(withheld)"}]},
        "tariff": {"id": 3, "name": "T"},
    }


@pytest.mark.parametrize("item", [None, 5, "x", True, ["8970100000000000013"], [{"pin": "1234"}]])
def test_an_item_that_is_no_object_is_kept(decoder, item):
    """It is a card of its own, unidentified, with the item among its attributes."""
    reading = decoder.decode(json.dumps({"type": "msu_lock", "items": [item]}).encode())
    (sim,) = reading.sims
    assert sim.anomalies == ("item_not_object", "sim_unidentified")
    assert json.loads(sim.attributes) == {"item": item if item != [{"pin": "1234"}] else [{"pin": "(withheld)"}]}


def test_an_item_that_is_an_iccid_is_a_card(decoder):
    """A list of ICCIDs is understood."""
    reading = decoder.decode(json.dumps({"type": "msu_lock", "items": [ICCID]}).encode())
    assert reading.sims == (SimCard(iccid=ICCID, anomalies=("item_not_object",)),)


def test_a_configuration_adds_aliases_and_words():
    """An alias of a user's own is read after the others, and so is a word."""
    configuration = Configuration(
        sim_aliases={**SIM_ALIASES, "iccid": (*SIM_ALIASES["iccid"], "card_no")}, statuses={"наскладе": "inactive"}
    )
    body = json.dumps({"type": "msu_lock", "items": [{"CardNo": ICCID, "status": "На складе"}]}).encode()
    reading = Decoder(configuration).decode(body)
    assert isinstance(reading, Notification)
    assert (reading.sims[0].iccid, reading.sims[0].status) == (ICCID, "inactive")


def test_equal_values_of_other_types_are_not_taken_for_each_other(decoder):
    """What was read of 1 is not given for true or 1.0, though Python holds them equal."""
    bodies = [b"1", b"true", b"1.0", b'"1"', b"1", b"true", b"1.0", b'"1"']
    ids = [
        decoder.decode(b'{"type":"msu_lock","items":[{"id":' + value + b"}]}").sims[0].platform_id for value in bodies
    ]
    assert ids == ["1", None, "1", "1"] * 2
    statuses = [
        decoder.decode(b'{"type":"msu_lock","items":[{"status":' + value + b"}]}").sims[0].status_raw
        for value in bodies
    ]
    assert statuses == ["1", "true", "1.0", "1"] * 2
    assert Decimal("1.0") == 1
