from __future__ import annotations

import base64
import json
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.aliases import folded
from schema.anomalies import ANOMALIES
from schema.body import MAX_DEPTH
from schema.configuration import Configuration
from schema.decode import VALUES, Decoder, not_json
from schema.readings import (
    BILL_TYPES,
    SIM_TYPES,
    Bill,
    File,
    JobCallback,
    Notification,
    SimCard,
    Unreadable,
    Unrecognised,
)
from schema.redaction import is_secret

SAMPLES = sorted((Path(__file__).parents[1] / "samples").glob("*.json"))

DECODER = Decoder(Configuration())
"""One decoder for all examples: what one body leaves behind must not show in the reading of another."""

KEYS = (
    *("qid", "added", "queue", "handler", "items", "user", "status", "type", "files", "id", "first_name", "count"),
    *(
        "process",
        "percentage",
        "company_id",
        "format",
        "name",
        "body",
        "iccid",
        "icc",
        "sim",
        "simCard",
        "card",
        "data",
    ),
    *("msisdn", "phone", "imsi", "imei", "state", "blocked", "activated", "balance", "balance_kop", "groups", "tariff"),
    *(
        "operator",
        "number",
        "date",
        "amount",
        "sum",
        "currency",
        "vat",
        "due_date",
        "period",
        "paid",
        "paid_at",
        "bill",
    ),
    *("pin1", "PUK", "Ki", "o_p_c", "x", "value", "description"),
)
TEXTS = (
    *(*SIM_TYPES, *BILL_TYPES, "base64", "YWJj", "8970100000000000013", "79000000001", "250010000000001", "active"),
    *(
        "Заблокирована",
        "12 345,67 руб.",
        "01.12.2025",
        "2025-12-01T09:00:00Z",
        "5",
        "-1",
        "a\0b",
        "USD",
        "1e5",
        "x" * 600,
    ),
    *("40702810900000000001", "https://u:p@a.example/webhooks/main/S3CRET", "sim_lock", "true", "", " "),
)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**400), 10**400),
    st.sampled_from([8970100000000000013, 79000000001, 1764579600, 2**63, -(2**63) - 1, 10**4000]),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.sampled_from(
        [Decimal("1E+400"), Decimal("8.97E+18"), Decimal("12345.67"), Decimal("1E+999999"), Decimal("1001.0")]
    ),
    st.sampled_from(TEXTS),
    st.text(),
)
keys = st.one_of(st.sampled_from(KEYS), st.text(max_size=8))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=6)),
    max_leaves=20,
)
objects = st.dictionaries(keys, values, max_size=8)
files = st.lists(
    st.one_of(values, st.fixed_dictionaries({}, optional=dict.fromkeys(("type", "format", "name", "body"), scalars)))
)
jobs = st.fixed_dictionaries(
    {"qid": scalars},
    optional={
        "queue": scalars,
        "added": scalars,
        "handler": scalars,
        "items": st.one_of(st.lists(objects, max_size=4), values),
        "user": st.one_of(objects, values),
        "status": st.one_of(st.dictionaries(st.sampled_from(["count", "process", "percentage"]), scalars), values),
        "files": files,
    },
)
notifications = st.fixed_dictionaries(
    {"type": st.sampled_from([*SIM_TYPES, *BILL_TYPES])},
    optional={"items": st.one_of(st.lists(objects, max_size=4), values), "files": files},
)
shapes = st.one_of(values, objects, jobs, notifications)

_encoder = msgspec.json.Encoder(decimal_format="number")


def as_json(value: object) -> bytes:
    return _encoder.encode(value)


def mutated(body: bytes, draw: st.DataObject) -> bytes:
    place = draw.draw(st.integers(0, len(body)))
    length = draw.draw(st.integers(0, 5))
    return body[:place] + draw.draw(st.binary(max_size=5)) + body[place + length :]


def strings(value: object) -> list[str]:
    """Every string of a reading but its files' contents."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, tuple):
        return [text for entry in value for text in strings(entry)]
    if isinstance(value, msgspec.Struct):
        return [text for field in value.__struct_fields__ for text in strings(getattr(value, field))]
    return []


def check(body: bytes) -> None:
    """The laws that every reading obeys."""
    reading = DECODER.decode(body)
    # Pure: neither an earlier body nor this one leaves a trace.
    assert DECODER.decode(body) == reading
    assert Decoder(Configuration()).decode(body) == reading
    # One verdict: the receiver's check and the reading agree.
    reason = not_json(body)
    assert (reason is not None) == isinstance(reading, Unreadable)
    if isinstance(reading, Unreadable):
        assert reading.reason == reason
    else:
        assert reading.anomalies == tuple(sorted(set(reading.anomalies)))
        assert set(reading.anomalies) <= ANOMALIES.keys()
    # Typed: each field is of its declared type, each number fits SQLite's 64 bits.
    again = msgspec.convert(msgspec.to_builtins(reading, builtin_types=(bytes,)), type(reading), strict=True)
    assert again == reading
    for text in strings(reading):
        text.encode()
        assert "\0" not in text
    if isinstance(reading, JobCallback):
        for number in (reading.count, reading.process, reading.percentage):
            assert number is None or 0 <= number < 2**63
    if isinstance(reading, JobCallback | Notification):
        for sim in reading.sims:
            check_sim(sim)
            assert set(sim.anomalies) <= set(reading.anomalies)
    if isinstance(reading, Notification):
        for bill in reading.bills:
            check_bill(bill)
            assert set(bill.anomalies) <= set(reading.anomalies)


def check_sim(sim: SimCard) -> None:
    assert sim.balance_kopecks is None or abs(sim.balance_kopecks) < 2**63
    assert (sim.status is None) == (sim.status_raw is None)
    assert sim.attributes is None or isinstance(json.loads(sim.attributes), dict)
    assert sim.groups is None or json.loads(sim.groups) != 0.5
    identified = sim.iccid or sim.imsi or sim.msisdn or sim.platform_id
    assert bool(identified) == ("sim_unidentified" not in sim.anomalies)


def check_bill(bill: Bill) -> None:
    for kopecks in (bill.amount_kopecks, bill.vat_kopecks):
        assert kopecks is None or abs(kopecks) < 2**63
    assert bill.paid_at is None or bill.paid
    assert bill.attributes is None or isinstance(json.loads(bill.attributes), dict)
    assert bool(bill.bill_id or bill.number) == ("bill_unidentified" not in bill.anomalies)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_reading(body: bytes):
    """Arbitrary bytes obey the laws of a reading."""
    check(body)


@given(shapes)
def test_json_of_any_shape_gives_a_reading(value: object):
    """JSON of any shape, with known fields of any type, obeys the laws of a reading."""
    check(as_json(value))


@given(st.sampled_from(SAMPLES), st.data())
def test_a_damaged_webhook_gives_a_reading(sample: Path, draw: st.DataObject):
    """A webhook with some bytes replaced obeys the laws of a reading."""
    check(mutated(sample.read_bytes(), draw))


@given(st.integers(1, 3 * MAX_DEPTH), st.sampled_from(['{"items":', "[", '{"sim":', '{"qid":"1","status":']))
def test_a_nested_body_gives_a_reading(depth: int, opening: str):
    """Nesting of any depth obeys the laws of a reading."""
    closing = "]" if opening == "[" else "}"
    check((opening * depth + "1" + closing * depth).encode())


def test_a_body_of_a_hundred_thousand_levels_is_unreadable():
    """No depth is more than the decoder can refuse."""
    for body in (b"[" * 100_000, b'{"a":' * 100_000, b"[" * 100_000 + b"]" * 100_000):
        assert isinstance(DECODER.decode(body), Unreadable)
        assert not_json(body)


SECRET_KEYS = ("pin", "PIN1", "p_i_n", "Puk-2", "ki", "K I", "opc", "O_P_C", "pu\u212a", "pinCode")
TOKEN = "Zq7Zq7Zq7Zq7"  # noqa: S105 - the secret that must not show
CONTENT = base64.b64encode(TOKEN.encode()).decode()


def secret_objects(value: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    secret = st.one_of(
        st.just(TOKEN),
        st.just([TOKEN]),
        st.just({"a": TOKEN}),
        st.just(7727727727727),
        st.just(Decimal("77277277277.27")),
    )
    urls = st.sampled_from(
        [
            f"https://a.example/webhooks/main/{TOKEN}",
            f"see https:\\/\\/a.example\\/webhooks\\/main\\/{TOKEN} !",
            f"?to=%2Fwebhooks%2Fmain%2F{TOKEN}",
            f"https://user:{TOKEN}@a.example/",
            f"ftp://{TOKEN}@a.example/webhooks/main/{TOKEN}",
        ]
    )
    return st.one_of(
        st.dictionaries(st.sampled_from(SECRET_KEYS), secret, min_size=1, max_size=2),
        urls,
        st.dictionaries(urls, value, min_size=1, max_size=1),
        st.dictionaries(keys, value, min_size=1, max_size=3),
        st.lists(value, min_size=1, max_size=2),
    )


secrets = secret_objects(secret_objects(secret_objects(st.just(None))))


@st.composite
def bodies_with_secrets(draw: st.DrawFn) -> bytes:
    hidden = draw(secrets)
    holder = draw(
        st.sampled_from(["items", "user", "status", "handler", "tariff", "groups", "x", "files", "name", "qid", "type"])
    )
    item: dict[str, object] = draw(
        st.sampled_from([{"id": 1}, {"sim": {"iccid": "8970100000000000013"}}, {"id": 1, "id_": 2}])
    )
    value = draw(
        st.sampled_from(
            [
                hidden,
                {"a": hidden},
                {"qid": "1", "queue": "x", "items": [{**item, holder: hidden}]},
                {"qid": "1", "queue": "x", "items": [{**item, "card": {holder: hidden}}, hidden]},
                {"qid": "1", "items": hidden},
                {"qid": "1", "queue": "x", holder: hidden},
                {"qid": "1", "handler": f"https://a.example/webhooks/main/{TOKEN}", "items": [item]},
                {
                    "type": "generate_bill",
                    "items": [{"id": 1, holder: hidden}],
                    "files": [{"name": hidden, "body": CONTENT}],
                },
                {"type": "msu_lock", holder: hidden},
                {"type": hidden, "items": [hidden], "files": [hidden, {"body": CONTENT}]},
            ]
        )
    )
    return json.dumps(value, ensure_ascii=draw(st.booleans()), default=float).encode()


def shows_secret(text: str) -> bool:
    return "Zq7Zq7" in text or "7727727" in text or "Z\u2400q" in text or "WnE3WnE3" in text


@given(bodies_with_secrets(), st.sampled_from(["", "escaped"]))
def test_no_secret_is_published(body: bytes, spelling: str):
    """No text of a reading holds a PIN, PUK, Ki, OPc, a URL's secret or a file's content, wherever they stand."""
    if spelling:
        escaped = json.dumps(json.loads(body))
        body = "".join(f"\\u{ord(c):04x}" if c in "pPkKwW" else c for c in escaped).encode()
    reading = DECODER.decode(body)
    assert not isinstance(reading, Unreadable)
    assert not [text for text in strings(reading) if shows_secret(text)]
    check(body)


def planted(value: object) -> object:
    """The value with the token in every secret field."""
    if isinstance(value, list):
        return [planted(entry) for entry in value]
    if isinstance(value, dict):
        return {key: TOKEN if is_secret(folded(key)) else planted(entry) for key, entry in value.items()}
    return value


@given(shapes)
def test_no_secret_among_known_fields_is_published(value: object):
    """A secret field shows nowhere, among whatever fields it stands."""
    reading = DECODER.decode(as_json(planted(value)))
    assert not [text for text in strings(reading) if shows_secret(text)]


@given(bodies_with_secrets(), st.data())
def test_no_secret_of_unreadable_bytes_is_published(body: bytes, draw: st.DataObject):
    """Neither do bytes that are cut off, followed by others, or of another encoding."""
    cut = body[: draw.draw(st.integers(0, len(body)))]
    for bad in (cut, body + b"x", b"\xff" + body, body.decode().encode("utf-16"), body.decode().encode("utf-32-be")):
        reading = DECODER.decode(bad)
        # A file's base64 is no secret field: only JSON tells it from other text.
        assert not [text for text in strings(reading) if shows_secret(text.replace("WnE3WnE3", ""))]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_the_samples_are_read_without_remark(sample: Path):
    """Every body as the platform may send it is read, identified, and has no anomaly."""
    reading = DECODER.decode(sample.read_bytes())
    assert isinstance(reading, JobCallback | Notification)
    assert reading.anomalies == ()
    check(sample.read_bytes())


def test_a_bill_and_its_files_are_read():
    """The fourth notice of the samples' bill has the amount to the kopeck and the PDF to the byte."""
    reading = DECODER.decode(next(path for path in SAMPLES if path.name.startswith("14")).read_bytes())
    assert isinstance(reading, Notification)
    assert reading.type == "unpaid_bill_6"
    assert reading.bills[0].amount_kopecks == 1_234_567
    assert reading.bills[0].issued_on == "2025-12-01"
    assert reading.files[0].content is not None
    assert reading.files[0].content.startswith(b"%PDF-1.4")
    assert reading.files[0].content.endswith(b"%%EOF\n")
    assert "(base64, 680 characters)" in reading.body


def test_json_of_no_kind_is_unrecognised():
    """What is neither a job callback nor one of the six types keeps its type, files and text."""
    body = b'{"type":"new_type","files":[{"type":"base64","name":"a","format":"b","body":"YWJj"}],"n":1.50}'
    assert DECODER.decode(body) == Unrecognised(
        "new_type",
        (File("a", "b", b"abc"),),
        (),
        '{"type":"new_type","files":[{"type":"base64","name":"a","format":"b","body":"(base64, 4 characters)"}],"n":1.50}',
    )
    for body in (b"null", b"5", b'"x"', b"[]", b"{}", b'{"type":5}', b'{"type":["msu_lock"]}', b'{"type":"MSU_LOCK"}'):
        assert isinstance(DECODER.decode(body), Unrecognised)


def test_a_body_is_published_exactly():
    """Numbers keep their digits, and text its characters, whatever the spelling of the JSON."""
    body = rb'{ "a" : 12345678901234567890123 , "b" : 1.10, "c": "\u0410\u0000", "d" : 1e5, "a": 0.10 }'
    assert DECODER.decode(body).body == r'{"a":0.10,"b":1.10,"c":"А\u0000","d":1E+5}'


def test_a_byte_order_mark_does_no_harm():
    """A webhook behind one is read, and the mark named."""
    body = SAMPLES[0].read_bytes()
    plain, marked = DECODER.decode(body), DECODER.decode(b"\xef\xbb\xbf" + body)
    assert isinstance(plain, JobCallback)
    assert isinstance(marked, JobCallback)
    assert marked.anomalies == ("byte_order_mark",)
    assert (marked.sims, marked.body) == (plain.sims, plain.body)


def test_the_configured_zone_counts():
    """A local time is meant in the configured zone."""
    body = b'{"qid":"1","queue":"x","items":[],"status":{"count":1,"process":1,"percentage":100},"added":"2025-12-01 12:00:00"}'
    reading = Decoder(Configuration(time_zone="UTC")).decode(body)
    assert isinstance(reading, JobCallback)
    assert reading.added_at == "2025-12-01T12:00:00.000000Z"
    assert reading.complete


@pytest.mark.parametrize("piece", [b"{},", b"[[[]]],", b"0,"])
def test_more_values_than_are_read_are_told_and_not_read(piece: bytes) -> None:
    """Nothing but commas and brackets would take many times its size to read; a body of that size with text is read."""
    many = b'{"type": "package_empty", "items": [' + piece * VALUES + b"{}]}"
    text = b'{"type": "package_empty", "items": [], "note": "' + b"n" * len(many) + b'"}'

    reading = DECODER.decode(many)

    assert isinstance(reading, Unreadable)
    assert "more than the 2000000 that are read of one body" in reading.reason
    assert isinstance(DECODER.decode(text), Notification)
