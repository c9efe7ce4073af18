"""The oracle of `bench/crash.py`: what it is there to find, it finds."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from schema.event import Delivery, WebhookReceived, instant, uuid7
from schema.log import open_to_append

if TYPE_CHECKING:
    from collections.abc import Sequence

SCRIPT = Path(__file__).parents[2] / "bench" / "crash.py"

NOW = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def crash() -> Any:
    """The script, as a module."""
    spec = importlib.util.spec_from_file_location("bench_crash", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def judged(crash: Any, folder: Path, stored: Sequence[bytes], acknowledged: Sequence[tuple[int, bytes]]) -> Any:
    """The oracle, after all, on a log with these bodies and a client with these receipts of nine that it sent."""
    with open_to_append(folder / "log.db") as log:
        for n, body in enumerate(stored):
            delivery = Delivery(instant(NOW), "main", "", {}, body)
            log.append([WebhookReceived(uuid7(NOW, n.to_bytes), 1, delivery)])
    load = crash.Load(b"", serial=9)
    for position, body in acknowledged:
        receipt = {"position": position, "sha256": hashlib.sha256(body).hexdigest()}
        load.answer(body, 200, json.dumps(receipt).encode())
    oracle = crash.Oracle(load, folder / "log.db")
    oracle.after_all()
    return oracle


def test_a_log_that_lost_nothing_passes(crash, tmp_path):
    """What was sent but not answered may be there."""
    one, two, three = (crash.body_of(serial) for serial in (1, 2, 3))
    oracle = judged(crash, tmp_path, [one, two, three], [(1, one), (3, three)])
    assert crash.tell(1, 0, oracle._load, oracle)
    assert (oracle.stored, oracle.missing, oracle.doubled, oracle.altered) == (3, 0, 0, 0)


@pytest.mark.parametrize(
    ("stored", "acknowledged", "found"),
    [
        ([1, 2], [(1, 1), (2, 2), (3, 3)], (1, 0, 0)),
        ([1, 2, 1], [(1, 1), (2, 2)], (0, 1, 0)),
        ([2, 1], [(1, 1), (2, 2)], (0, 0, 2)),
        ([1, 10], [(1, 1)], (0, 0, 1)),
        ([1, 2], [], (0, 0, 0)),
    ],
    ids=["missing", "doubled", "swapped", "never sent", "nothing acknowledged"],
)
def test_what_is_wrong_is_found(crash, tmp_path, stored, acknowledged, found):
    """A lost, doubled or altered event is counted as such, and the verdict is no."""
    receipts = [(position, crash.body_of(serial)) for position, serial in acknowledged]
    oracle = judged(crash, tmp_path, [crash.body_of(serial) for serial in stored], receipts)
    assert (oracle.missing, oracle.doubled, oracle.altered) == found
    assert not crash.tell(1, 0, oracle._load, oracle)


def test_a_body_cut_short_is_altered(crash, tmp_path):
    """Even one that nobody acknowledged: an event is whole, or not there."""
    one, two = crash.body_of(1), crash.body_of(2)
    oracle = judged(crash, tmp_path, [one, two[:-3]], [(1, one)])
    assert oracle.altered == 1


@pytest.mark.parametrize(
    ("receipts", "reason"),
    [
        ([(1, 200, "right"), (1, 200, "right")], "given to two"),
        ([(1, 200, "wrong")], "another sha256"),
        ([(1, 503, "right")], "answered 503"),
    ],
)
def test_what_the_client_is_told_wrong_is_wrong(crash, receipts, reason):
    """A position given twice, a receipt of something else, or a refusal that nothing explains."""

    async def answered() -> Any:
        load = crash.Load(b"", serial=9)
        for position, status, sha256 in receipts:
            digest = hashlib.sha256(b"x").hexdigest() if sha256 == "right" else "0"
            load.answer(b"x", status, json.dumps({"position": position, "sha256": digest}).encode())
        return load

    assert reason in asyncio.run(answered()).wrong[0]


def test_two_rounds_of_the_real_thing(tmp_path):
    """The script runs from anywhere, tells its counts, and leaves nothing behind."""
    command = [sys.executable, str(SCRIPT), "--rounds=2", "--connections=8", "--seed=1", f"--folder={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    rounds, acknowledged, stored, *wrong = done.stdout.splitlines()[1].replace(",", "").split()
    assert (rounds, wrong) == ("2", ["0", "0", "0"])
    assert 0 < int(acknowledged) <= int(stored)
    assert list(tmp_path.iterdir()) == []
