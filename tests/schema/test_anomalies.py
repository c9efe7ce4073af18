from __future__ import annotations

import json
import re

import pytest

from schema.anomalies import ANOMALIES
from schema.configuration import Configuration
from schema.decode import Decoder
from schema.readings import Unreadable


def sims(*items: object) -> dict[str, object]:
    return {"type": "msu_lock", "items": list(items)}


def bills(*items: object, files: object = ()) -> dict[str, object]:
    return {"type": "generate_bill", "items": list(items), "files": files}


def job(**fields: object) -> dict[str, object]:
    return {"qid": "q", "items": [], "status": {"count": 1, "process": 1, "percentage": 1}, **fields}


EXAMPLES: dict[str, object] = {
    "amount_fraction": bills({"id": 1, "amount": "0.001"}),
    "amount_not_understood": sims({"id": 1, "balance": "x"}),
    "attributes_cut": sims({"id": 1, "note": "x" * 20_000}),
    "bill_unidentified": bills({}),
    "byte_order_mark": b"\xef\xbb\xbf1",
    "count_as_text": job(status={"count": "1", "process": 1, "percentage": 1}),
    "count_not_integer": job(status={}),
    "currency_not_rubles": bills({"id": 1, "amount": 1, "currency": "USD"}),
    "field_not_text": job(queue=[]),
    "file_base64": bills(files=[{"type": "base64", "body": "?"}]),
    "file_not_object": bills(files=[1]),
    "file_type": bills(files=[{"body": ""}]),
    "files_not_array": bills(files={}),
    "files_not_read": job(files=[]),
    "flag_not_boolean": sims({"id": 1, "blocked": 1}),
    "flag_not_understood": sims({"id": 1, "blocked": "x"}),
    "iccid_checksum": sims({"iccid": "8970100000000000014"}),
    "iccid_invalid": sims({"iccid": "x"}),
    "iccid_lossy_number": sims({"iccid": 8.97e18}),
    "iccid_prefix": sims({"iccid": "1234567890123456789"}),
    "id_invalid": sims({"id": []}),
    "imei_invalid": sims({"id": 1, "imei": "x"}),
    "imsi_invalid": sims({"imsi": "x"}),
    "item_not_object": sims(1),
    "items_missing": {"type": "msu_lock"},
    "items_not_array": {"type": "msu_lock", "items": 1},
    "job_and_notification": job(type="msu_lock"),
    "msisdn_invalid": sims({"msisdn": "x"}),
    "nul_in_text": {"type": "a\0b"},
    "number_as_text": b"1e9999999",
    "number_for_text": sims({"iccid": 8970100000000000013}),
    "number_is_bank_account": bills({"number": "4" * 20}),
    "paid_contradicted": bills({"id": 1, "paid": False, "paid_at": "2025-12-01"}),
    "paid_not_understood": bills({"id": 1, "paid": "x"}),
    "percentage_fraction": job(status={"count": 1, "process": 1, "percentage": 1.5}),
    "progress_not_understood": job(status=None),
    "qid_invalid": job(qid=None),
    "sim_unidentified": sims({}),
    "status_contradicted": sims({"id": 1, "status": "active", "locked": True}),
    "status_not_understood": sims({"id": 1, "status": 7}),
    "text_cut": sims({"id": 1, "tariff": "x" * 600}),
    "time_not_understood": job(added="x"),
    "user_unidentified": job(user={}),
}


@pytest.mark.parametrize("name", ANOMALIES)
def test_every_anomaly_is_met_by_some_body(name):
    """Each documented anomaly has a body of which it is remarked."""
    example = EXAMPLES[name]
    body = example if isinstance(example, bytes) else json.dumps(example).encode()
    reading = Decoder(Configuration()).decode(body)
    assert not isinstance(reading, Unreadable)
    assert name in reading.anomalies


def test_anomalies_are_named_and_told():
    """Names are short, stable in form and sorted; each has a sentence."""
    assert list(ANOMALIES) == sorted(ANOMALIES) == list(EXAMPLES)
    for name, sentence in ANOMALIES.items():
        assert re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", name)
        assert len(name) <= 24
        assert sentence.endswith(".")
        assert sentence[0].isupper()
