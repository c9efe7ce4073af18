"""Rebuilding: how fast the whole log is folded anew, beside the least that it could cost.

    python bench/rebuild.py [--events N [N ...]] [--parts PART [PART ...]] [--seed N] [--folder DIR]

For each number of events a log of job callbacks is made (`bench.callbacks`), and then measured, one after
the other, each in a process of its own:

- rebuild: `projections.rebuild.build`, in its parts: folding and loading, completing the file (rows of
  current states, all indexes), checking it;
- raw insert, the yardstick: the very rows that the rebuild made, ready in memory, into the same tables by
  plain `executemany`, with the same settings of SQLite, all indexes last; nothing is read, decoded, folded or checked;
- follow: `projections.follower.follow` from an empty file, with journal and every index from the start;
- compare: the difference of the two that were made, which must be none, and the digests of all their tables.

Memory is the most that a process and those that help it had at one time, shared pages counted once (PSS).
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from sqlite_utils import Database  # noqa: E402 - run as a script, from the repository itself

from bench import callbacks  # noqa: E402
from projections import difference, loader, rebuild  # noqa: E402
from projections.digest import digests  # noqa: E402
from projections.follower import follow  # noqa: E402
from schema import tables  # noqa: E402
from schema.configuration import Configuration  # noqa: E402
from schema.log import open_to_read  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

EVENTS = 200_000
READY_ROWS = 20_000
"""Rows read into memory at a time, before they are inserted by the clock."""

SAMPLE_S = 0.1
"""Between two looks at the memory that is taken."""

Told = dict[str, float]


def measure_rebuild(folder: Path) -> Told:
    """Seconds of each part of a rebuild."""
    path = folder / "rebuilt.db"
    rebuild.discard(path)
    ends: list[float] = []
    checked: list[float] = []
    check = rebuild.check

    def timed(file: Path) -> None:
        begin = time.perf_counter()
        check(file)
        checked.append(time.perf_counter() - begin)

    with open_to_read(folder / "log.db") as log, mock.patch.object(rebuild, "check", timed):
        begin = time.perf_counter()
        rebuild.build(log, path, Configuration(), on_progress=lambda *_: ends.append(time.perf_counter()))
        total = time.perf_counter() - begin
    folding = ends[-1] - begin
    return {"rebuild": total, "fold": folding, "complete": total - folding - checked[0], "check": checked[0]}


def measure_raw(folder: Path) -> Told:
    """Seconds that the same rows take by themselves."""
    path = folder / "raw.db"
    rebuild.discard(path)
    seconds = 0.0
    with (
        closing(sqlite3.connect(folder / "rebuilt.db")) as ready,
        closing(sqlite3.connect(path, isolation_level=None)) as into,
    ):
        for pragma in loader.PRAGMAS:
            into.execute(f"PRAGMA {pragma}")
        into.execute("BEGIN")
        tables.create(Database(into), lookups=False)
        for table in tables.TABLES:
            marks = ", ".join("?" * len(table.columns))
            stored = ready.execute(f"SELECT * FROM {table.name} ORDER BY {', '.join(table.key)}")
            while rows := stored.fetchmany(READY_ROWS):
                begin = time.perf_counter()
                into.executemany(f"INSERT INTO {table.name} VALUES ({marks})", rows)
                seconds += time.perf_counter() - begin
        begin = time.perf_counter()
        tables.create_indexes(Database(into))
        indexes = time.perf_counter() - begin
        into.execute("COMMIT")
        seconds += time.perf_counter() - begin
    rebuild.discard(path)
    return {"raw": seconds, "indexes": indexes}


def measure_follow(folder: Path) -> Told:
    """Seconds of following from nothing."""
    path = folder / "followed.db"
    rebuild.discard(path)
    begin = time.perf_counter()
    follow(folder / "log.db", path, Configuration, stop=threading.Event(), once=True)
    return {"follow": time.perf_counter() - begin}


def measure_compare(folder: Path) -> Told:
    """Seconds of the difference, and of the digests of both. Exits where there is one."""
    with difference.compared(folder / "followed.db", folder / "rebuilt.db") as connection:
        begin = time.perf_counter()
        found = next(difference.changes(connection), None)
        differed = time.perf_counter() - begin
        begin = time.perf_counter()
        same = digests(connection, "before") == digests(connection)
        hashed = time.perf_counter() - begin
    if found is not None or not same:
        sys.exit(f"following and rebuilding gave different tables: {found}")
    return {"difference": differed, "digests": hashed}


PARTS: dict[str, Callable[[Path], Told]] = {
    "rebuild": measure_rebuild,
    "raw": measure_raw,
    "follow": measure_follow,
    "compare": measure_compare,
}


def part(name: str, folder: Path) -> None:
    """Measure one part in this process, and print it as JSON."""
    json.dump(PARTS[name](folder), sys.stdout)


def pss_bytes(pid: int) -> int:
    """What a process and its children take of memory now; 0 where that can't be told."""
    total = 0
    for process in (pid, *children(pid)):
        with suppress(OSError):
            rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
            total += sum(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))
    return total


def children(pid: int) -> list[int]:
    """The processes that a process has started and not yet buried."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def measured(folder: Path, events: int, seed: int, parts: list[str]) -> Told:
    """The figures of some parts, for a log of so many events."""
    items = callbacks.append(folder / "log.db", events, seed)
    told: Told = {"events": events, "items": items, "log_mb": (folder / "log.db").stat().st_size / 1e6}
    for name in PARTS:
        if name not in parts:
            continue
        print(f"{events:,} events: {name} ...", file=sys.stderr)
        command = [sys.executable, __file__, "--part", name, "--folder", str(folder)]
        peak = 0
        with subprocess.Popen(command, stdout=subprocess.PIPE) as run:
            while True:
                peak = max(peak, pss_bytes(run.pid))
                with suppress(subprocess.TimeoutExpired):
                    run.wait(SAMPLE_S)
                    break
            if run.returncode or run.stdout is None:
                sys.exit(f"{name} ended with {run.returncode}")
            told |= json.loads(run.stdout.read()) | {f"{name}_mb": peak / 1e6}
    told["tables_mb"] = (folder / "rebuilt.db").stat().st_size / 1e6
    for file in folder.glob("*.db*"):
        file.unlink()
    return told


def show(told: Told) -> None:
    """A table, in Markdown."""
    events, raw = told["events"], told["raw"]
    print(
        f"\n{events:,.0f} events, {told['items']:,.0f} items; log {told['log_mb']:,.0f} MB, tables {told['tables_mb']:,.0f} MB\n"
    )
    print("| | seconds | events/s | of the raw insert | memory, MB |")
    print("|---|--:|--:|--:|--:|")

    def line(what: str, seconds: float, memory: float | None = None) -> None:
        shown = "" if memory is None else f"{memory:,.0f}"
        print(f"| {what} | {seconds:,.1f} | {events / seconds:,.0f} | {raw / seconds:.2f} | {shown} |")

    line(f"raw insert of the same rows (of which indexes {told['indexes']:,.1f} s)", raw)
    line("rebuild: folded, loaded, indexed", told["fold"] + told["complete"], told["rebuild_mb"])
    line("rebuild: and checked", told["rebuild"])
    if "follow" in told:
        line("following, from nothing", told["follow"], told["follow_mb"])
    if "difference" in told:
        line("difference of two such read models", told["difference"], told["compare_mb"])
        line("digests of all tables of both", told["digests"])
    print()
    if "follow" in told:
        print(f"Following does {told['rebuild'] / told['follow']:.2f} of the checked rebuild.", end=" ")
    print(f"Folding took {told['fold']:,.1f} s, completing {told['complete']:,.1f} s, checking {told['check']:,.1f} s.")


def main() -> None:
    """Measure each size asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, nargs="+", default=[EVENTS], help="how many events each log has")
    parser.add_argument(
        "--parts", choices=PARTS, nargs="+", default=list(PARTS), help="what is measured: at least rebuild and raw"
    )
    parser.add_argument("--seed", type=int, default=callbacks.SEED)
    parser.add_argument("--folder", type=Path, help="where the files are made; a temporary one otherwise")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.part:
        part(asked.part, asked.folder)
        return
    with tempfile.TemporaryDirectory(dir=asked.folder, prefix="rebuild-") as made:
        for events in asked.events:
            show(measured(Path(made), events, asked.seed, asked.parts))


if __name__ == "__main__":
    main()
