"""Exporting: the CSV of a long history, against a bare cursor that writes the same rows.

    python bench/export.py [--rows 500000] [--runs 5] [--formats csv ndjson parquet xlsx]

Each run is a process of its own, so that the memory it took can be told; the two
take turns. The yardstick reads with `sqlite3`, writes with `csv`, and that is all:
no snapshot, no look at a cell, no digest, no fsync, no description.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from sqlite_utils import Database  # noqa: E402 - run as a script, from the repository itself

from audit import destination  # noqa: E402
from audit.export import prepare  # noqa: E402
from audit.formats import FORMATS  # noqa: E402
from audit.selection import PARTS, select  # noqa: E402
from schema import tables  # noqa: E402
from schema.event import instant  # noqa: E402
from schema.log import open_to_append  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

ITEMS = 5
"""SIM cards of each job callback."""

CARDS = 20_000

START = datetime(2026, 5, 1, tzinfo=UTC)

ROWS = 500_000

CHANGES = '{"status":["active","blocked"],"last_job":["main:q-1","main:q-2"]}'


def main() -> None:
    """Make a read model, then let the two write it in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of sim_events (default %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each (default %(default)s)")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=["csv"], help="default csv")
    parser.add_argument("--run", choices=["bare", *FORMATS], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run(arguments.run, arguments.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), arguments.rows)
        compare(Path(folder), arguments.rows, arguments.runs, arguments.formats)


def fill(folder: Path, rows: int) -> None:
    """A data folder whose history has so many rows, and an empty log."""
    open_to_append(folder / "log.db").close()
    with closing(sqlite3.connect(folder / "audit.db")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        tables.create(Database(connection))
        width = len(tables.BY_NAME["sim_events"].columns)
        connection.executemany(f"INSERT INTO sim_events VALUES ({', '.join('?' * width)})", history(rows))
        connection.execute(
            "INSERT INTO tracking VALUES ('audit', (SELECT max(position) FROM sim_events), NULL, ?, 'none')",
            (tables.MODEL_VERSION,),
        )
        tables.create_indexes(Database(connection))
        connection.commit()


def history(rows: int) -> Iterator[tuple[object, ...]]:
    """Rows of ``sim_events``, as job callbacks that list some cards each make them."""
    for number in range(rows):
        position, item = divmod(number, ITEMS)
        card, job = f"main:89701{number % CARDS:014d}", f"main:q-{position // 10:x}"
        at = instant(START + timedelta(seconds=position))
        balance = None if number % 3 else -1520
        said = ("blocked", "blocked", "explicit", balance, CHANGES, "[]")
        yield (position + 1, item, card, "main", at, "job_callback", "lock", job, "applied", *said)


def compare(folder: Path, rows: int, runs: int, formats: list[str]) -> None:
    """Print rows a second, the ratio to the yardstick of the same turn, and memory, at the median."""
    kinds = ["bare", *formats]
    told: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range(runs):
        for kind in kinds:
            told[kind].append(measured(kind, folder))
    print(f"{rows:,} rows of sim_events, medians of {runs} runs")
    print(f"{'':<10}{'rows/s':>12}{'to bare':>10}{'MB':>8}")
    for kind in kinds:
        seconds = statistics.median(each["seconds"] for each in told[kind])
        ratios = (bare["seconds"] / own["seconds"] for bare, own in zip(told["bare"], told[kind], strict=True))
        memory = statistics.median(each["memory_bytes"] for each in told[kind])
        print(f"{kind:<10}{rows / seconds:>12,.0f}{statistics.median(ratios):>10.2f}{memory / 1e6:>8.0f}")


def measured(kind: str, folder: Path) -> dict[str, float]:
    """What a process of its own tells of one run."""
    command = [sys.executable, __file__, "--run", kind, "--folder", str(folder)]
    told: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return told


def run(kind: str, folder: Path) -> None:
    """One run, in this process: seconds, and the most memory that the process took."""
    with tempfile.TemporaryDirectory(dir=folder) as made:
        begun = time.perf_counter()
        if kind == "bare":
            bare(folder / "audit.db", Path(made) / "sim_events.csv")
        else:
            export(folder, kind, Path(made) / "export")
        seconds = time.perf_counter() - begun
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "memory_bytes": memory}))


def bare(read_model: Path, path: Path) -> None:
    """The yardstick."""
    with closing(sqlite3.connect(read_model)) as connection, path.open("w", encoding="utf-8", newline="") as file:
        rows = connection.execute("SELECT * FROM sim_events")
        writer = csv.writer(file)
        writer.writerow(column[0] for column in rows.description)
        writer.writerows(rows)


def export(folder: Path, form: str, target: Path) -> None:
    """The export, as the command makes it."""
    selection = select({"sim_events"}, allowed=frozenset(PARTS))
    with prepare(folder / "audit.db", folder / "log.db", selection, FORMATS[form], now=datetime.now(UTC)) as made:
        destination.write(made, target, lambda _rows: None)


if __name__ == "__main__":
    main()
