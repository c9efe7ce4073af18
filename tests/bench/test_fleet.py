"""The proofs of `bench/` with many receivers and with failovers, in small: that they run, and find what is there to find."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.fleet import Fleet, Ledger, body_of, judge
from schema.event import Delivery, WebhookReceived, instant, uuid7
from schema.log import open_to_append

if TYPE_CHECKING:
    from collections.abc import Callable

    from schema.log_place import Server

ROOT = Path(__file__).parents[2]

NOW = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "arguments",
    [
        ("failover.py", "--rounds=1", "--receivers=1", "--connections=8"),
        ("receivers.py", "--seconds=3", "--receivers=2", "--projectors=2", "--connections=8"),
    ],
    ids=["failover", "receivers"],
)
def test_nothing_acknowledged_is_lost(arguments: tuple[str, ...]) -> None:
    """The script itself is the oracle."""
    script, *options = arguments
    done = subprocess.run(
        [sys.executable, ROOT / "bench" / script, *options], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "agree" in done.stdout


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda serials: serials, {}),
        (lambda serials: serials[:-1], {"missing": 1, "moved": 0}),
        (lambda serials: [*serials, serials[0]], {"doubled": 1, "moved": 1}),
        (lambda serials: serials[::-1], {"moved": 4}),
    ],
    ids=["sound", "missing", "doubled", "moved"],
)
def test_what_is_wrong_is_found(
    server_log: Server,
    tmp_path: Path,
    spoil: Callable[[list[int]], list[int]],
    found: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An event that is not there, is there twice, or has another position than was told."""
    for name in [name for name in os.environ if name.startswith("SIMTRAIL_")]:
        monkeypatch.delenv(name)
    ledger = Ledger()
    serials = list(itertools.islice(ledger.serials, 4))
    ledger.acknowledged = {serial: at for at, serial in enumerate(serials, 1)}
    with open_to_append(server_log) as log:
        for serial in spoil(serials):
            delivery = Delivery(instant(NOW), "main", "", {}, body_of(serial))
            log.append([WebhookReceived(uuid7(NOW, os.urandom), 1, delivery)])
    verdict = judge(Fleet(server_log, tmp_path), ledger)
    assert {name: getattr(verdict, name) for name in found} == found
    assert verdict.good == (not found)
