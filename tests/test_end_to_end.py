"""The whole way, as people see it: webhooks go into `simtrail serve`, Datasette shows what they say."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from tests.conftest import Eventually, Serve

ROOT = Path(__file__).parents[1]

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


def test_the_readmes_webhook_is_understood(tmp_path: Path, serve: Serve, eventually: Eventually) -> None:
    """What its curl sends, as curl sends it, is a job callback with nothing odd about it, and its card has a page."""
    (written,) = re.findall(
        r"^    (curl [^']*'[^']*')$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    program, url, option, body = shlex.split(written)
    assert (program, option, url) == ("curl", "-d", "URL")
    serving = serve(tmp_path / "data")

    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert httpx.post(serving.webhook_url, content=body, headers=form).status_code == 200

    def rows(table: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = httpx.get(f"{serving.datasette_url}audit/{table}.json?_shape=array").json()
        return found

    (delivery,) = eventually(lambda: rows("deliveries"))
    assert (delivery["kind"], delivery["outcome"], delivery["anomalies"]) == ("job_callback", "read", "[]")
    (sim,) = rows("sims")
    assert (sim["sim"], sim["status"], sim["status_basis"]) == ("main:8970100000000000013", "blocked", "implied")
    assert httpx.get(f"{serving.datasette_url}sim/main~3A8970100000000000013").status_code == 200
    assert serving.running.stop(signal.SIGTERM) == 0


def test_the_demo_can_be_looked_at_and_is_taken_away(
    tmp_path: Path, environment: dict[str, str], eventually: Eventually
) -> None:
    """`make demo` says where its data are and both URLs, shows weeks that end now, and Ctrl-C leaves nothing of it."""
    out = tmp_path / "out"
    variables = {name: value for name, value in environment.items() if not name.startswith("MAKE")}
    with out.open("wb") as file:
        making = subprocess.Popen(
            [shutil.which("make") or "make", "demo", "ARGS=--port 0 --publish-port 0"],
            cwd=ROOT,
            env=variables | {"TMPDIR": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def said(pattern: str) -> str | None:
        assert making.poll() is None, out.read_text()
        found = re.search(pattern, out.read_text(), re.MULTILINE)
        return found[1] if found else None

    try:
        published = eventually(lambda: said(r"^Datasette URL: (http\S+)$"))
        webhook = eventually(lambda: said(r"^Webhook URL: (http\S+)$"))
        data = eventually(lambda: said(r"^  export SIMTRAIL_DATA=(\S+)$"))
        front = eventually(lambda: _days_drawn(published))
        sent = [httpx.post(webhook, content=SAMPLES[0].read_bytes()).status_code for _ in range(3)]
        told = subprocess.run(
            [sys.executable, "-m", "audit", "status", "--json"],
            env=environment | {"SIMTRAIL_DATA": data},
            capture_output=True,
            check=True,
        )
        os.killpg(making.pid, signal.SIGINT)
        making.wait(60)
    finally:
        if making.poll() is None:
            os.killpg(making.pid, signal.SIGKILL)

    assert sum(count > 0 for count in front) > 15
    assert sent == [200] * 3
    assert json.loads(told.stdout)["head"] > 500
    assert '"recorded"' not in out.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def _days_drawn(url: str) -> list[int] | None:
    """The deliveries of each day that the front page draws, once there are any."""
    counts = [int(count) for count in re.findall(r"<title>\d{4}-\d\d-\d\d: (\d+) deliver", httpx.get(url).text)]
    return counts if any(counts) else None
