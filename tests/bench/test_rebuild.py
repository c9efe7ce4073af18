"""The benches of rebuilding run, and tell what they are there to tell, at a small size."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


def run(script: str, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, str(BENCH / script), *arguments], check=True, capture_output=True, text=True
    ).stdout


def test_rebuilding_is_measured_beside_its_yardstick() -> None:
    """Every row of the table is there, with its ratio, and following gave what rebuilding gave."""
    told = run("rebuild.py", "--events", "300")
    rows = re.findall(
        r"^\| (raw insert|rebuild: \w+|following|difference|digests).* \| +[\d,.]+ \| +[\d,]+ \|", told, re.MULTILINE
    )
    assert rows == ["raw insert", "rebuild: folded", "rebuild: and", "following", "difference", "digests"]
    assert "of the checked rebuild" in told


def test_a_killed_rebuild_is_looked_at() -> None:
    """A few rounds of the crash bench end well."""
    assert "3 rebuilds killed:" in run("rebuild_crash.py", "--rounds", "3", "--events", "100")


@pytest.mark.parametrize("script", ["rebuild.py", "rebuild_crash.py", "swap.py"])
def test_each_says_what_it_does(script: str) -> None:
    """`--help` is the script's own description."""
    assert "--events" in run(script, "--help")
