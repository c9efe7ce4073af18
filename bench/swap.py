"""The swap: an alias is changed and the log rebuilt, while senders post and readers query.

    python bench/swap.py [--events N] [--folder DIR]

A log of job callbacks (`bench.callbacks`) is projected and served by `simtrail serve`. Some connections post
callbacks all the time, others read pages of Datasette. Then the configuration learns a name of a field, and
`simtrail rebuild --yes --report` runs. Shown are: requests that failed, of either kind; whether any page showed a mix
of old and new; whether the report names exactly the rows that an independent query, asked of the old tables, says must
change; how long the swap took; and the longest that a reader and a sender waited, without and with the rebuild.

Exit code 1 if anything is wrong. Everything runs on the same machine, the load too.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from bench import callbacks  # noqa: E402 - run as a script, from the repository itself

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SENDERS = 4
READERS = 3
PAUSE_S = 0.05
"""Between two requests of a connection: a load, not a flood, which would measure the flood."""

QUIET_S = 15
"""How long the load runs before the rebuild, to know what waiting is usual."""

DEADLINE_S = 600

MARKED_SQL = "SELECT sim FROM sim_attributes WHERE attributes ->> '$.plan_code' IS NOT NULL"
"""The cards whose tariff the old reading left among the attributes."""

FIRST_SQL = f"""
    SELECT position, item FROM sim_events e WHERE effect <> 'repeat' AND sim IN ({MARKED_SQL})
    AND position = (SELECT min(position) FROM sim_events f WHERE f.sim = e.sim AND f.effect <> 'repeat')
"""
"""Of each, the line of history in which the new reading sees its tariff for the first time."""


@dataclass
class Seen:
    """What one kind of client saw: when each request began, and how long it took."""

    name: str
    times: list[tuple[float, float]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    counts: set[int] = field(default_factory=set)

    def longest_ms(self, begin: float, end: float) -> float:
        """The longest that a request under way in that time took."""
        return 1_000 * max((took for at, took in self.times if at < end and at + took > begin), default=0.0)


def keep_on(
    seen: Seen, url: str, ask: Callable[[http.client.HTTPConnection], http.client.HTTPResponse], stop: threading.Event
) -> None:
    """Ask again and again on one connection, until told to stop."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=DEADLINE_S)
    while not stop.wait(PAUSE_S):
        at = time.monotonic()
        try:
            answer = ask(connection)
            content = answer.read()
            if answer.status != http.client.OK:
                seen.failed.append(f"{answer.status} {content[:200]!r}")
            elif (
                seen.name == "reader" and (counted := json.loads(content).get("filtered_table_rows_count")) is not None
            ):
                seen.counts.add(counted)
        except (OSError, http.client.HTTPException) as error:
            seen.failed.append(repr(error))
            connection.close()
        seen.times.append((at, time.monotonic() - at))
    connection.close()


def simtrail(*arguments: str) -> list[str]:
    """The command line of a `simtrail` of this repository."""
    return [sys.executable, "-P", "-m", "audit", *arguments]


def posts(
    url: str, bodies: Iterator[bytes], lock: threading.Lock
) -> Callable[[http.client.HTTPConnection], http.client.HTTPResponse]:
    """Posts the next body."""

    def ask(connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
        with lock:
            body = next(bodies)
        connection.request("POST", urlsplit(url).path, body, {"Content-Type": "application/json"})
        return connection.getresponse()

    return ask


def pages(paths: list[str]) -> Callable[[http.client.HTTPConnection], http.client.HTTPResponse]:
    """Gets one page after the other."""
    turn = cycle(paths)

    def ask(connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
        connection.request("GET", next(turn))
        return connection.getresponse()

    return ask


PAGES = [
    "/audit/sims.json?tariff__startswith=P-&_size=1",
    "/audit/sim_status.json?_size=20&_nocount=1",
    "/audit/deliveries.json?_size=20&_nocount=1",
    "/audit/timeline_of_sim.json?sim=8970199000000000507",
]


def run(folder: Path, events: int) -> bool:
    """One swap under load; whether all was as it should be."""
    data = folder / "data"
    subprocess.run(simtrail("sources", "add", "main", f"--data={data}"), check=True, capture_output=True, cwd=ROOT)
    print(f"Making and projecting a log of {events:,} events ...", file=sys.stderr)
    callbacks.append(data / "log.db", events)
    subprocess.run(simtrail("project", "--once", f"--data={data}"), check=True, cwd=ROOT)
    out = folder / "served"
    with out.open("w") as stdout, (folder / "said").open("w") as stderr:
        serving = subprocess.Popen(
            simtrail("serve", f"--data={data}", "--port=0", "--publish-port=0"), stdout=stdout, stderr=stderr, cwd=ROOT
        )
    try:
        while not (published := re.search(r"^Datasette URL: (http://\S+)$", out.read_text(), re.MULTILINE)):
            if serving.poll() is not None:
                sys.exit((folder / "said").read_text())
            time.sleep(0.1)
        front = re.search(r'"url": ?"(http://[^"]+)"', (folder / "said").read_text())
        if front is None:
            sys.exit("the receiver did not say where it listens")
        rotated = subprocess.run(
            simtrail("sources", "rotate", "main", f"--data={data}", f"--base-url={front[1]}"),
            check=True,
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        return under_load(data, rotated.stdout.strip(), published[1], events)
    finally:
        serving.terminate()
        serving.wait()


def under_load(data: Path, webhook_url: str, datasette_url: str, events: int) -> bool:
    """Load, rebuild, look."""
    stop, lock = threading.Event(), threading.Lock()
    sender, reader = Seen("sender"), Seen("reader")
    fresh = islice(callbacks.bodies(100 * events, seed=1), events, None)
    threads = [
        threading.Thread(target=keep_on, args=(sender, webhook_url, posts(webhook_url, fresh, lock), stop))
        for _ in range(SENDERS)
    ] + [threading.Thread(target=keep_on, args=(reader, datasette_url, pages(PAGES), stop)) for _ in range(READERS)]
    for thread in threads:
        thread.start()
    begin = time.monotonic()
    time.sleep(QUIET_S)
    (data / "simtrail.toml").write_text(f'[sim_aliases]\ntariff = ["{callbacks.MARK}"]\n')
    rebuilt_at = time.monotonic()
    rebuilding = subprocess.run(
        simtrail("rebuild", "--yes", f"--report={data / 'changes.ndjson'}", f"--data={data}"),
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    swapped_at = time.monotonic()
    print(rebuilding.stdout, rebuilding.stderr, sep="", end="", file=sys.stderr)
    time.sleep(QUIET_S / 3)
    stop.set()
    for thread in threads:
        thread.join()
    if rebuilding.returncode:
        return False
    took = float(re.findall(r"Swapped in ([0-9.]+) s", rebuilding.stdout)[0])
    return show(data, sender, reader, (begin, rebuilt_at, swapped_at), took)


def show(data: Path, sender: Seen, reader: Seen, at: tuple[float, float, float], took: float) -> bool:
    """Print what was seen; whether it was as it should be."""
    begin, rebuilt_at, swapped_at = at
    told = {"sims": set[str](), "sim_events": set[str]()}
    with (data / "changes.ndjson").open() as report:
        for line in report:
            change = json.loads(line)
            told.setdefault(change["table"], set()).add(json.dumps(change["key"]))
    with closing(sqlite3.connect(data / "audit.db")) as connection:
        (position,) = connection.execute(
            "SELECT position_before FROM rebuilds ORDER BY rebuild DESC LIMIT 1"
        ).fetchone()
    expected = independent(data, position)
    exact = told == expected
    # Cards that came meanwhile may add to the new count; nothing between none and all of the old ones may show.
    mixed = any(0 < count < len(expected["sims"]) for count in reader.counts)
    print("\n| | senders | readers |")
    print("|---|--:|--:|")
    print(f"| requests | {len(sender.times):,} | {len(reader.times):,} |")
    print(f"| failed | {len(sender.failed)} | {len(reader.failed)} |")
    for label, since, until in (
        ("before the rebuild", begin, rebuilt_at),
        ("during the rebuild", rebuilt_at, swapped_at),
        ("during the swap and the second around it", swapped_at - took - 1, swapped_at + 1),
    ):
        print(
            f"| longest wait {label}, ms | {sender.longest_ms(since, until):,.0f} | {reader.longest_ms(since, until):,.0f} |"
        )
    print(f"\nThe rebuild took {swapped_at - rebuilt_at:,.1f} s, of which the swap {took:.2f} s.", end=" ")
    print(f"Its report names {len(told['sims']):,} cards and {len(told['sim_events']):,} lines of history,", end=" ")
    print(
        "exactly those of the independent query."
        if exact
        else f"NOT those of the independent query: {difference(told, expected)}"
    )
    print(f"A page that counts the cards with such a tariff showed {' or '.join(map(str, sorted(reader.counts)))}.")
    for failure in (sender.failed + reader.failed)[:5]:
        print(f"failed: {failure}")
    return exact and not sender.failed and not reader.failed and not mixed


def independent(data: Path, position: int) -> dict[str, set[str]]:
    """By table, the keys of the rows that must change: asked of the old reading, made apart up to that position."""
    then = data / "then.db"
    toml = data / "simtrail.toml"
    learned = toml.read_text()
    toml.unlink()
    subprocess.run(
        simtrail("asof", f"--position={position}", str(then), f"--data={data}"),
        check=True,
        capture_output=True,
        cwd=ROOT,
    )
    toml.write_text(learned)
    with closing(sqlite3.connect(then)) as connection:
        marked = {json.dumps([sim]) for (sim,) in connection.execute(MARKED_SQL)}
        return {
            "sims": marked,
            "sim_attributes": marked,
            "sim_events": {json.dumps(list(key)) for key in connection.execute(FIRST_SQL)},
        }


def difference(told: dict[str, set[str]], expected: dict[str, set[str]]) -> str:
    """Where the two part, in short."""
    return "; ".join(
        f"{table}: {len(told.get(table, set()) - expected.get(table, set()))} too many, {len(expected.get(table, set()) - told.get(table, set()))} missing"
        for table in sorted(told.keys() | expected.keys())
    )


def main() -> None:
    """Run it once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--folder", type=Path, help="where the files are made; a temporary one otherwise")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder, prefix="swap-") as made:
        sys.exit(0 if run(Path(made), asked.events) else 1)


if __name__ == "__main__":
    main()
