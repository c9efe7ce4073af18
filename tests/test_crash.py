"""SIGKILL at any moment, of any of the processes: nothing acknowledged is lost, nothing is doubled."""

from __future__ import annotations

import json
import random
import sqlite3
import threading
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import httpx
import pytest

from projections.follower import follow
from schema.configuration import Configuration
from schema.log import open_to_read
from schema.tables import FOLDED

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Serve

DEADLINE_S = 60

ROUNDS = 2
"""Kills of each process: the moments differ; `bench/` is where there are many."""


def rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(path)) as connection:
        return {
            table.name: connection.execute(f"SELECT * FROM {table.name} ORDER BY {', '.join(table.key)}").fetchall()
            for table in FOLDED
        }


@pytest.mark.parametrize("victim", ["receiver", "projector", "Datasette"])
def test_a_killed_process_loses_and_doubles_nothing(
    tmp_path: Path,
    serve: Serve,
    victim: str,
) -> None:
    """Started again each time, the log has each acknowledged body once, and the tables are those of one clean projection."""
    data = tmp_path / "data"
    moments = random.Random(victim)  # noqa: S311 - a moment, not a secret
    acknowledged: dict[int, str] = {}
    url, serial = "", 0
    for _ in range(ROUNDS):
        serving = serve(data)
        front = serving.running.said(r"^(?:Receiving at|Webhook URL:) (http://[^/;]+)")
        url = serving.webhook_url or f"{front}/webhooks/{url.split('/webhooks/')[1]}"
        kill_at = serial + moments.randrange(5, 60)
        with httpx.Client() as sender, suppress(httpx.TransportError):
            while serving.running.process.poll() is None:
                body = {
                    "qid": f"q-{serial % 7}",
                    "queue": "sim_lock",
                    "items": [{"msisdn": f"7900000{serial % 50:04}"}],
                }
                answer = sender.post(url, json=body | {"serial": serial})
                assert answer.status_code == 200
                assert answer.json()["position"] not in acknowledged
                acknowledged[answer.json()["position"]] = answer.json()["sha256"]
                serial += 1
                if serial == kill_at:
                    serving.running.kill_child(victim)
        assert serving.running.process.wait(DEADLINE_S) == 1
        assert victim in serving.running.err.read_text()
        serial += 1
    with open_to_read(data / "log.db") as log:
        kept = {event.position: json.loads(event.delivery.body)["serial"] for event in log.after(0, max_events=100_000)}
    assert list(kept) == list(range(1, len(kept) + 1))
    assert acknowledged.keys() <= kept.keys()
    assert len(set(kept.values())) == len(kept)
    for path in (data / "audit.db", tmp_path / "clean.db"):
        follow(data / "log.db", path, Configuration, stop=threading.Event(), once=True)
    assert rows(data / "audit.db") == rows(tmp_path / "clean.db")
    with closing(sqlite3.connect(data / "audit.db")) as audit:
        digests = dict(audit.execute("SELECT position, sha256 FROM deliveries"))
        assert audit.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert acknowledged.items() <= digests.items()
