"""A log copied from a file to a server and to another file: equal event by event, and the tables made of each.

    python bench/log_copy.py [--events 200000] [--cards 5000]

The events are those of `simtrail simulate`. Prints how long each way took, with every event read back and compared, as the
command does it. Exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from audit.platform import deliveries  # noqa: E402 - run as a script, from the repository itself
from bench.cluster import Postgres  # noqa: E402
from projections.digest import digests  # noqa: E402
from schema.event import Delivery, WebhookReceived, instant, uuid7s  # noqa: E402
from schema.log import open_to_append, open_to_read  # noqa: E402
from schema.log_place import Place, url  # noqa: E402

START = datetime(2026, 5, 1, tzinfo=UTC)
BATCH = 1_000


def simtrail(*arguments: str) -> tuple[str, float]:
    """What a command printed, and its seconds."""
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "audit", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout, time.perf_counter() - begun


def fill(path: Path, events: int, cards: int) -> None:
    """A log with so many events of the simulated platform, a second apart."""
    bodies = deliveries(1, events, cards, START)
    with open_to_append(path) as log:
        for first in itertools.count(0, BATCH):
            batch = list(itertools.islice(bodies, BATCH))
            if not batch:
                return
            at = START + timedelta(seconds=first)
            ids = uuid7s(at, len(batch), os.urandom)
            log.append(
                [
                    WebhookReceived(each, 1, Delivery(instant(at), "main", "", {}, body))
                    for each, body in zip(ids, batch, strict=True)
                ]
            )


def same(one: Place, other: Place) -> int:
    """How many events the two have, read side by side here and not by the command; raises where any differs."""
    position = 0
    with open_to_read(one) as left, open_to_read(other) as right:
        while page := left.rows_after(position, max_bytes=1 << 40):
            if page != right.rows_after(position, max_bytes=1 << 40):
                msg = f"the two differ after position {position}"
                raise ValueError(msg)
            position = page[-1][0]
        if right.head() != position:
            msg = f"the one ends at {position}, the other at {right.head()}"
            raise ValueError(msg)
    return position


def tables(folder: Path, log: Place) -> str:
    """The digests of the tables that a log gives."""
    folder.mkdir()
    simtrail("project", "--once", f"--data={folder}", f"--log={url(log)}")
    with closing(sqlite3.connect(folder / "audit.db")) as connection:
        return json.dumps(digests(connection), sort_keys=True, default=str)


def main() -> None:
    """Fill, copy, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=200_000, help="(default %(default)s)")
    parser.add_argument("--cards", type=int, default=5_000, help="(default %(default)s)")
    asked = parser.parse_args()
    with Postgres() as server, tempfile.TemporaryDirectory(prefix="copy-") as name:
        folder = Path(name)
        server.make().start(max_wal_size="4GB")
        places: list[Place] = [folder / "origin.db", server.make_log("log"), folder / "back.db"]
        fill(folder / "origin.db", asked.events, asked.cards)
        megabytes = (folder / "origin.db").stat().st_size / 1e6
        hashes = []
        print("| way | events | log MB | seconds | events/s |\n|---|--:|--:|--:|--:|")
        ways = (("SQLite to PostgreSQL", places[0], places[1]), ("PostgreSQL to SQLite", places[1], places[2]))
        for way, source, target in ways:
            said, took = simtrail("log", "copy", url(source), url(target))
            hashes.append(said.splitlines()[1])
            events = same(source, target)
            print(f"| {way} | {events:,} | {megabytes:,.0f} | {took:.1f} | {events / took:,.0f} |", flush=True)
        made = {tables(folder / f"model-{n}", each) for n, each in enumerate(places)}
        good = len(set(hashes)) == 1 and same(places[0], places[2]) == asked.events and len(made) == 1
        print(
            f"\n{hashes[0]}; events {'equal' if good else 'DIFFER'}; tables of the three {'equal' if len(made) == 1 else 'DIFFER'}."
        )
    sys.exit(not good)


if __name__ == "__main__":
    main()
