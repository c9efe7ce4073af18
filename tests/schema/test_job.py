from __future__ import annotations

import json

import pytest

from schema.readings import JobCallback, Unrecognised, User


def test_a_callback_of_the_platform(decoder, job):
    """Every field of the platform's page is read, the webhook's secret masked."""
    assert decoder.decode(job()) == JobCallback(
        qid="q-1",
        added_at="2025-12-01T09:00:00.000000Z",
        queue="sim_lock",
        handler="https://audit.example/webhooks/main/***",
        user=User("17", "Анна", "Петрова", "42"),
        count=5,
        process=2,
        percentage=40,
        sims=(),
        anomalies=(),
        body=job(handler="https://audit.example/webhooks/main/***")
        .decode("unicode-escape")
        .replace(": ", ":")
        .replace(", ", ","),
    )


@pytest.mark.parametrize(
    "fields",
    [{"queue": "x"}, {"queue": None}, {"items": []}, {"handler": 5}, {"status": {}}],
)
def test_a_qid_and_one_sign_make_a_job(decoder, fields):
    """A job callback has its qid and at least one of its other fields."""
    assert isinstance(decoder.decode(json.dumps({"qid": "q-1", **fields}).encode()), JobCallback)


@pytest.mark.parametrize("fields", [{}, {"status": "done"}, {"type": "x"}])
def test_a_qid_alone_makes_none(decoder, fields):
    """A qid without any of them is not recognised, and no fault of a job's."""
    reading = decoder.decode(json.dumps({"qid": "q-1", **fields}).encode())
    assert isinstance(reading, Unrecognised)
    assert reading.anomalies == ()


@pytest.mark.parametrize("qid", [None, "", "  ", True, 1.5, [], {}, "x" * 513])
def test_a_job_without_a_usable_qid_is_not_recognised(decoder, job, qid):
    """What can't be told from other jobs is no job; its anomaly says why."""
    reading = decoder.decode(job(qid=qid))
    assert isinstance(reading, Unrecognised)
    assert "qid_invalid" in reading.anomalies


def test_a_number_for_a_qid_is_read(decoder, job):
    """A whole number is read as its digits, and named."""
    reading = decoder.decode(job(qid=5))
    assert (reading.qid, reading.anomalies) == ("5", ("number_for_text",))


@pytest.mark.parametrize(
    ("fields", "expected", "anomalies"),
    [
        ({"added": "yesterday"}, {"added_at": None}, ("time_not_understood",)),
        ({"added": ...}, {"added_at": None}, ()),
        ({"queue": 5}, {"queue": "5"}, ("number_for_text",)),
        ({"queue": ["x"]}, {"queue": None}, ("field_not_text",)),
        ({"handler": None}, {"handler": None}, ()),
        ({"handler": "a\0b"}, {"handler": "a␀b"}, ("nul_in_text",)),
        ({"user": None}, {"user": None}, ()),
        ({"user": []}, {"user": None}, ("user_unidentified",)),
        ({"user": {"first_name": "A"}}, {"user": None}, ("user_unidentified",)),
        ({"user": {"id": True}}, {"user": None}, ("id_invalid", "user_unidentified")),
        ({"user": {"id": "u"}}, {"user": User("u", None, None, None)}, ()),
        (
            {"user": {"id": 1, "first_name": 5, "company_id": []}},
            {"user": User("1", "5", None, None)},
            ("id_invalid", "number_for_text"),
        ),
        ({"status": None}, {"count": None, "process": None, "percentage": None}, ("progress_not_understood",)),
        (
            {"status": {"count": "5", "process": -1}},
            {"count": 5, "process": None},
            ("count_as_text", "count_not_integer"),
        ),
        ({"items": None}, {"sims": ()}, ("items_missing",)),
        ({"items": ...}, {"sims": ()}, ("items_missing",)),
        ({"items": "x"}, {"sims": ()}, ("items_not_array",)),
        ({"type": "msu_lock"}, {"queue": "sim_lock"}, ("job_and_notification",)),
    ],
)
def test_a_wrong_field_spoils_no_other(decoder, job, fields, expected, anomalies):
    """What can be read is read; the rest is None and named."""
    reading = decoder.decode(job(**fields))
    assert isinstance(reading, JobCallback)
    assert {name: getattr(reading, name) for name in expected} == expected
    assert reading.anomalies == anomalies


def test_files_of_a_job_are_named_and_taken_out(decoder, job):
    """Files, which a job does not have, are not published."""
    reading = decoder.decode(job(files=[{"type": "base64", "name": "a", "body": "U0VDUkVU"}]))
    assert reading.anomalies == ("files_not_read",)
    assert "U0VDUkVU" not in reading.body


@pytest.mark.parametrize(
    ("items", "ids", "anomalies"),
    [
        ([{"id": 1}, {"id": 2}], ["1", "2"], ()),
        ({"id": 1}, ["1"], ("items_not_array",)),
        ({"0": {"id": 1}, "2": {"id": 2}}, ["1", "2"], ("items_not_array",)),
        ({"0": {"id": 1}, "2": ["x"]}, ["1", None], ("item_not_object", "items_not_array", "sim_unidentified")),
        ({}, [None], ("items_not_array", "sim_unidentified")),
        ([{"id": 1}, {}], ["1", None], ("sim_unidentified",)),
    ],
)
def test_items(decoder, job, items, ids, anomalies):
    """An array's elements, an object, or the values of an array encoded as an object are the job's cards."""
    reading = decoder.decode(job(items=items))
    assert [sim.platform_id for sim in reading.sims] == ids
    assert reading.anomalies == anomalies


def test_anomalies_are_those_of_the_job_and_of_its_items(decoder, job):
    """A reading's anomalies are its own and its items', sorted, each once."""
    reading = decoder.decode(job(queue=5, items=[{"imsi": "x", "id": 1}, {"imsi": "y", "msisdn": "z", "id": 2}]))
    assert reading.anomalies == ("imsi_invalid", "msisdn_invalid", "number_for_text")
    assert reading.sims[0].anomalies == ("imsi_invalid",)
