"""The whole way, as people see it: webhooks go into `simtrail serve`, Datasette shows what they say."""

from __future__ import annotations

import base64
import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from tests.conftest import Eventually, Serve

SAMPLES = sorted((Path(__file__).parent / "samples").glob("*.json"))

SIM = "main:8970100000000000054"


def test_the_samples_become_what_they_say(tmp_path: Path, serve: Serve, eventually: Eventually) -> None:
    """A plausible month of webhooks is answered with 200 each, and soon shows as cards, jobs, bills, files, account."""
    serving = serve(tmp_path / "data")
    with httpx.Client(base_url=f"{serving.datasette_url}audit/") as datasette:

        def rows(table: str, **parameters: str) -> list[dict[str, Any]]:
            answer = datasette.get(f"{table}.json", params={"_shape": "array", **parameters})
            assert answer.status_code == 200, answer.text
            found: list[dict[str, Any]] = answer.json()
            return found

        assert len(SAMPLES) == 15
        answers = [httpx.post(serving.webhook_url, content=sample.read_bytes()) for sample in SAMPLES]
        assert [(answer.status_code, answer.json()["position"]) for answer in answers] == [
            (200, position) for position in range(1, 16)
        ]
        (last,) = eventually(lambda: rows("deliveries", position="15"))
        (job,) = rows("jobs", job="main:q-7f3a")
        (sim,) = rows("sim_status", sim=SIM)
        (bill,) = rows("bills", bill="main:501")
        (account,) = rows("accounts", source="main")
        notices = rows("bill_notices", bill="main:501")
        contents = {
            datasette.get(f"files/{file['sha256']}.blob", params={"_blob_column": "content"}).content
            for file in rows("files")
        }
        deliveries = rows("deliveries")

    assert (last["repeat_of"], last["outcome"]) == (9, "read")
    assert len(deliveries) == 15
    assert sim["effective_status"] == "blocked"
    assert sim["package_exhausted_at"] == answers[8].json()["received_at"]
    assert (job["state"], job["processed"], job["count"], job["late_callbacks"]) == ("done", 5, 5, 1)
    assert (bill["stage"], bill["amount_kopecks"]) == ("unpaid_6", 1_234_567)
    assert sorted(notice["position"] for notice in notices) == [11, 12, 13, 14]
    assert account["state"] == "restricted"
    sent = [file for sample in SAMPLES for file in json.loads(sample.read_bytes()).get("files", [])]
    assert contents == {base64.b64decode(file["body"]) for file in sent}
    assert len(contents) == 2
    assert all(content.startswith(b"%PDF") for content in contents)
    assert serving.running.stop(signal.SIGTERM) == 0
