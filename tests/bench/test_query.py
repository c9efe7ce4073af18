"""bench/query.py and the history that it asks about."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from bench import history
from projections.read_model import open_to_write
from schema.configuration import Configuration

ROOT = Path(__file__).parents[2]


def test_a_history_is_a_whole_read_model(tmp_path) -> None:
    """About as many rows as asked for, every reference held, of a version that a projector goes on with; the same each time."""
    until = datetime(2026, 5, 1, tzinfo=UTC)
    for name in ("one.db", "other.db"):
        history.fill(tmp_path / name, 20_000, until)
    with closing(sqlite3.connect(tmp_path / "one.db")) as connection:
        assert connection.execute("SELECT count(*) FROM sim_events").fetchone()[0] >= 19_000
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        (last,) = connection.execute("SELECT max(position) FROM deliveries").fetchone()
        kinds = {kind for (kind,) in connection.execute("SELECT DISTINCT what FROM sim_events")}
    assert kinds == {"job_callback", "package_empty", "msu_lock"}
    model = open_to_write(tmp_path / "one.db", Configuration())
    assert model.position() == last
    model.close()
    dumps = []
    for name in ("one.db", "other.db"):
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            dumps.append(
                [connection.execute(f"SELECT * FROM {table}").fetchall() for table in ("sims", "jobs", "bills")]
            )
    assert dumps[0] == dumps[1]


def test_the_bench_runs(tmp_path) -> None:
    """A small run asks both servers, also while it is written to, and prints a row for each page asked for."""
    command = [sys.executable, "bench/query.py", "--rows=2000", "--runs=1", f"--folder={tmp_path / 'data'}"]
    done = subprocess.run(
        [*command, "--paths=^front page$|^`bills`$|^`msu_locks`$"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines() if line.startswith("| ")]
    assert rows == ["page", "front page", "`bills`", "`msu_locks`"]
    assert "Targets missed:" in done.stdout
