"""Crashes of a rebuild: `simtrail rebuild` killed with SIGKILL at random moments, again and again.

    python bench/rebuild_crash.py [--rounds 200] [--events N] [--seed N] [--folder DIR]

One data folder lives through all rounds. In each, the configuration changes, so that the rebuild has rows to
change, and `simtrail rebuild --yes` is killed at a random moment of the time that a whole one takes; every
third within its last part, where it swaps. Then the live read model must be whole: SQLite finds every page,
index and reference right, and the digests of all tables are those of the one reading or of the other,
never a mix; the processes that helped are gone. What is left beside it is left: the next round's
rebuild must throw it away. The last rebuild is not killed, and must leave nothing. Exit code 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from bench import callbacks  # noqa: E402 - run as a script, from the repository itself
from projections import rebuild  # noqa: E402
from projections.digest import Digest, digests  # noqa: E402
from projections.follower import follow  # noqa: E402
from schema import configuration as configurations  # noqa: E402
from schema.log import open_to_read  # noqa: E402

EVENTS = 5_500
"""Enough that the loader is a process of its own."""

SWAP_SHARE = 0.35
"""Of the time of a rebuild the last part, which compares, records and swaps."""

SWAPPING = 3
"""One kill in so many falls into that part."""

TOLD = 20
"""Rounds between two lines that tell how it goes."""

SETTLED_S = 20
"""How long helping processes may take to notice that they have nobody to help."""

LEARNED = f'[sim_aliases]\ntariff = ["{callbacks.MARK}"]\n'


def command(data: Path) -> list[str]:
    """The rebuild that is killed."""
    return [sys.executable, "-P", "-m", "audit", "rebuild", "--yes", f"--data={data}"]


def configure(data: Path, *, learned: bool) -> None:
    """Let the next rebuild read with or without the alias."""
    (data / "simtrail.toml").write_text(LEARNED if learned else "")


def state(audit: Path) -> dict[str, Digest]:
    """The digests of all tables of a read model, whose storage and references are right; exits otherwise."""
    with closing(sqlite3.connect(audit)) as connection:
        storage = connection.execute("PRAGMA integrity_check(1)").fetchone()
        dangling = connection.execute("PRAGMA foreign_key_check").fetchone()
        if storage != ("ok",) or dangling is not None:
            sys.exit(f"the live read model is not whole: {storage}, {dangling}")
        return digests(connection)


def helpers(data: Path) -> list[str]:
    """The processes that still work for a rebuild of this folder, or for any."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = process.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"projections.loader" in words and any(str(data).encode() in word for word in words):
            found.append(process.parent.name)
    return found


def wait_until_alone(data: Path) -> None:
    """Return when no helper is left; exits where one stays."""
    deadline = time.monotonic() + SETTLED_S
    while left := helpers(data):
        if time.monotonic() > deadline:
            sys.exit(f"processes {left} outlived the rebuild that they helped")
        time.sleep(0.02)


def readings(data: Path, scratch: Path) -> dict[bool, dict[str, Digest]]:
    """What the tables are with the alias, and without; the latter is configured then."""
    expected: dict[bool, dict[str, Digest]] = {}
    with open_to_read(data / "log.db") as log:
        for learned in (True, False):
            configure(data, learned=learned)
            rebuild.discard(scratch)
            rebuild.build(log, scratch, configurations.load(data / "simtrail.toml"))
            expected[learned] = state(scratch)
    return expected


def run(folder: Path, rounds: int, events: int, seed: int) -> None:
    """All rounds."""
    rng = random.Random(seed)  # noqa: S311 - to be foreseen is what a seed is for
    data = folder / "data"
    data.mkdir()
    audit = data / "audit.db"
    callbacks.append(data / "log.db", events)
    expected = readings(data, folder / "expected.db")
    follow(
        data / "log.db", audit, lambda: configurations.load(data / "simtrail.toml"), stop=threading.Event(), once=True
    )
    live, outcomes = False, Counter[str]()
    begin = time.monotonic()
    for learned in (True, False):
        configure(data, learned=learned)
        subprocess.run(command(data), check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    whole = (time.monotonic() - begin) / 2
    print(f"A whole rebuild of {events:,} events takes {whole:.1f} s; killing {rounds} of them", file=sys.stderr)
    number = 0
    while outcomes["killed, old"] + outcomes["killed, new"] < rounds:
        number += 1
        begin = time.monotonic()
        configure(data, learned=not live)
        since = 1 - SWAP_SHARE if number % SWAPPING == 0 else 0
        killed_after = whole * rng.uniform(since, 1.05)
        process = subprocess.Popen(command(data), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT)
        try:
            _, said = process.communicate(timeout=killed_after)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            _, said = process.communicate()
        if process.returncode == 0:
            # Faster than it was thought to be: such a round proves nothing, and is not counted.
            whole = min(whole, time.monotonic() - begin)
        if process.returncode not in {0, -signal.SIGKILL}:
            sys.exit(f"round {number}: the rebuild ended with {process.returncode}: {said.decode()}")
        wait_until_alone(data)
        found = state(audit)
        if found not in expected.values():
            sys.exit(f"round {number}, killed after {killed_after:.2f} s: the tables are those of neither reading")
        swapped = found == expected[not live]
        outcomes["ended" if process.returncode == 0 else "killed, new" if swapped else "killed, old"] += 1
        live = live != swapped
        if number % TOLD == 0:
            print(f"{number} rounds: {dict(outcomes)}", file=sys.stderr)
    configure(data, learned=not live)
    subprocess.run(command(data), check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    left = sorted(path.name for path in data.glob("audit.db?*") if path.name not in {"audit.db-wal", "audit.db-shm"})
    if state(audit) != expected[not live] or left:
        sys.exit(f"the rebuild after all of them did not clean up: {left}")
    print(
        f"{rounds} rebuilds killed: {outcomes['killed, old']} before the swap, {outcomes['killed, new']} after it,"
        f" besides {outcomes['ended']} that ended before; the live read model was whole each time"
    )


def main() -> None:
    """Run the rounds asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the files are made; a temporary one otherwise")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder, prefix="rebuild-crash-") as made:
        run(Path(made), asked.rounds, asked.events, asked.seed)


if __name__ == "__main__":
    main()
