"""What nobody should send, sent: each body gets its answer, is in `deliveries`, and stops nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import signal
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Eventually, Serve

COUNT = 200

ICCID = "8970100000000000013"

# Values that have broken decoders, databases and pages, to stand in for any field.
NASTY = [
    "null",
    "true",
    "-0",
    "1e400",
    "-1e-400",
    "1E+999999999999999999999",
    "9" * 30,
    "9" * 4301,
    "9223372036854775808",
    "-9223372036854775809",
    '""',
    '"\\u0000"',
    '"\\ud83d\\ude00"',
    '"\\u202e\\u2066"',
    '"../../../etc/passwd"',
    '"a\\u0000b/../c"',
    '"<script>alert(1)</script>"',
    '"\'; DROP TABLE sims; --"',
    "\"=cmd|' /C calc'!A0\"",
    '"{{7*7}} {% include \\"/etc/passwd\\" %}"',
    '"%s %n {0.__class__}"',
    "[]",
    "{}",
    "[[[[{}]]]]",
    '{"_type_": "uuid_hex", "_data_": "x"}',
    '{"__class__": "os.system", "args": ["true"]}',
    '{"$ref": "../../../etc/passwd"}',
    json.dumps("я" * 70_000),
]

WHOLE = [
    b"",
    b" ",
    b"\x00",
    b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf{}",
    b'\xef\xbb\xbf{"type": "msu_lock", "items": []}',
    b'{"type": "msu_lock\xff"}',
    b'"\xed\xa0\x80"',
    b'"\\ud800"',
    b"NaN",
    b'{"a": NaN}',
    b"Infinity",
    b"1e400",
    b"-",
    b"1.",
    b"01",
    b"'single'",
    b"{,}",
    b"[1,]",
    b'{"a" 1}',
    b"{} {}",
    b"{}x",
    b'{"a": "b',
    b'{"type": "msu_lock", "type": "package_empty", "items": []}',
    b"[" * 100_000,
    b"[" * 100_000 + b"]" * 100_000,
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    b'{"items":' + b"[" * 63 + b"]" * 63 + b"}",
    b"[]",
    b"[{}]",
    b"7",
    b"null",
    b"true",
    b'"text"',
    b"9" * 10_000,
    b"qid=1&queue=sim_lock&status%5Bcount%5D=1",
    b'--b\r\nContent-Disposition: form-data; name="f"; filename="../../x"\r\n\r\nx\r\n--b--\r\n',
    b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b SYSTEM '../../../etc/passwd'>]><a>&b;</a>",
    b"\x80\x04\x95\x17\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
    b"\x1f\x8b\x08\x00" + bytes(100),
    b'{"qid": "q", "items": ' + b'[{"msisdn": "79000000001"}' + b', {"msisdn": "79000000001"}' * 2_000 + b"]}",
    b'{"type": "generate_bill", "items": [], "files": ' + b"[" + b'{"type":"base64","body":""},' * 2_000 + b"{}]}",
]


def bodies() -> Iterator[bytes]:
    """Hostile bodies, each another: whole ones, then ones with something nasty in each field."""
    yield from WHOLE
    job = {"qid": '"q-1"', "added": "1764579600", "queue": '"sim_lock"', "handler": '"https://a.example/"'}
    job |= {"user": '{"id": 17}', "status": '{"count": 1, "process": 1, "percentage": 100}'}
    card = {
        "iccid": f'"{ICCID}"',
        "msisdn": '"79000000001"',
        "status": '"active"',
        "balance": '"1.5"',
        "pin1": '"1234"',
    }
    bill = {"id": "501", "number": '"N"', "date": '"01.12.2025"', "amount": '"1.5"', "paid": "false"}
    file = {"type": '"base64"', "format": '"application/pdf"', "name": '"a.pdf"', "body": '"JVBERg=="'}
    random_of = random.Random(20260302)  # noqa: S311 - a choice, not a secret
    for n, nasty in enumerate(NASTY * 6):
        kind = ("job", "card", "bill", "file", "user", "status")[n // len(NASTY)]
        fields = {"job": job, "card": card, "bill": bill, "file": file}.get(kind, job)
        name = kind if kind in job else random_of.choice(list(fields))
        spoilt = fields | {name: nasty}
        text = "{" + ", ".join(f'"{key}": {value}' for key, value in spoilt.items()) + "}"
        serial = f'"serial": {n}'
        if fields is job:
            yield f'{{{text[1:-1]}, "items": [{{"iccid": "{ICCID}"}}], {serial}}}'.encode()
        elif kind == "card":
            yield f'{{"type": "package_empty", "items": [{text}, {nasty}], {serial}}}'.encode()
        elif kind == "bill":
            yield f'{{"type": "unpaid_bill_3", "items": [{text}, {nasty}], "files": {nasty}, {serial}}}'.encode()
        else:
            yield f'{{"type": "generate_bill", "items": {nasty}, "files": [{text}, {nasty}], {serial}}}'.encode()


def test_two_hundred_hostile_bodies_stop_nothing(tmp_path: Path, serve: Serve, eventually: Eventually) -> None:
    """Each is answered with 200 or 400 and its position, kept byte for byte, shown by every page, and the last good one counts."""
    hostile = list(bodies())
    assert len(set(hostile)) == len(hostile) >= COUNT
    serving = serve(tmp_path / "data")
    good = json.dumps({"type": "msu_lock", "items": [{"iccid": "8970100000000000021"}]}).encode()
    with httpx.Client() as sender:
        answers = [sender.post(serving.webhook_url, content=body) for body in [*hostile, good]]
    assert {answer.status_code for answer in answers} == {200, 400}
    assert [answer.json()["position"] for answer in answers] == list(range(1, len(answers) + 1))
    assert [answer.json()["sha256"] for answer in answers] == [
        hashlib.sha256(body).hexdigest() for body in [*hostile, good]
    ]
    with httpx.Client(base_url=f"{serving.datasette_url}audit", timeout=60, follow_redirects=True) as datasette:

        def caught_up() -> bool:
            found = datasette.get(f"/deliveries/{len(answers)}.json", params={"_shape": "array"})
            return found.status_code == 200

        eventually(caught_up)
        outcomes = {
            row["position"]: row["outcome"]
            for row in datasette.get("/deliveries.json", params={"_shape": "array", "_size": "max"}).json()
        }
        assert sorted(outcomes) == list(range(1, len(answers) + 1))
        for position, answer in enumerate(answers, 1):
            assert (answer.status_code == 400) == (outcomes[position] == "unreadable"), hostile[position - 1][:80]
            assert datasette.get(f"/deliveries/{position}").status_code == 200
        for page in (
            "",
            "/deliveries",
            "/quarantine",
            "/quarantine_contents",
            "/delivery_contents",
            "/sim_attributes",
            "/sims",
            "/sim_status",
            "/sim_events",
            "/jobs",
            "/bills",
            "/files",
        ):
            assert datasette.get(page).status_code == 200
        locked = datasette.get("/sims/main~3A8970100000000000021.json", params={"_shape": "array"}).json()
        assert locked[0]["status"] == "blocked"
    assert serving.running.stop(signal.SIGTERM) == 0
    with closing(sqlite3.connect(tmp_path / "data" / "audit.db")) as audit:
        assert audit.execute("PRAGMA foreign_key_check").fetchall() == []
        published = "".join(
            str(row)
            for table in ("deliveries", "delivery_contents", "sims", "sim_attributes")
            for row in audit.execute(f"SELECT * FROM {table}")
        )
        kept = audit.execute("SELECT content FROM files").fetchall()
    assert (base64.b64decode("JVBERg=="),) in kept
    assert '"pin1":"1234"' not in published
    assert "pin1" in published
    assert not (tmp_path / "etc").exists()
