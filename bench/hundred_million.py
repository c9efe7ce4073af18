"""The webhooks of 100 million SIM cards: service times measured here, then a simulation of their queue.

    python bench/hundred_million.py [--seconds 60] [--quick]

First it measures, on a PostgreSQL of its own: how long the log is held for a group of n events, the processor time of
a receiver and of the server for each, how fast a projector folds, and what an event takes on disk. Then it
simulates each load in its busiest minute: deliveries arrive at random (Poisson) at receivers that wait for the one log in
turn, and append in each turn all that has come, as the writer does. What the loads assume of the platform is in `LOADS`;
nothing of it is measured, and all of it can be changed.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from bench.cluster import Postgres  # noqa: E402 - run as a script, from the repository itself
from bench.load import post  # noqa: E402
from bench.receive import RECEIVE, body_of, say, started  # noqa: E402
from bench.scale import delivery  # noqa: E402
from ingest.limits import GROUP_DELIVERIES  # noqa: E402
from schema.event import Delivery, WebhookReceived, uuid7s  # noqa: E402
from schema.log import open_to_append  # noqa: E402

CARDS = 100_000_000
DAY_S = 86_400
MONTH_S = 30 * DAY_S

BUSY = 0.6
"""The share of a processor core that a receiver is planned with: more, and its queue grows without bound."""


@dataclass(frozen=True)
class Load:
    """What the platform may send: events a card and month, and how much more than that the busiest minute has."""

    name: str
    per_card_and_month: float
    peak: float

    @property
    def mean_rate(self) -> float:
        """Events a second."""
        return CARDS * self.per_card_and_month / MONTH_S


LOADS = (
    # Half of the cards run out of their package once a month; two in a hundred are locked; each is in two jobs of
    # 200 cards, with three callbacks. Busiest: ten times the mean.
    Load("notices and jobs as documented", 0.5 + 0.02 + 2 / 200 * 3, 10),
    # One more notice or callback for each card, each day. Busiest: five times the mean.
    Load("one event a card and day", 30, 5),
    # Every card once within one hour, once a month: a storm of package_empty, or a status of each.
    Load("every card within one hour", 1, MONTH_S / 3_600),
)


@dataclass(frozen=True)
class Times:
    """What was measured: seconds that the log is held for a group, fixed and for each event; the rest for each event."""

    group_s: float
    event_s: float
    receiver_s: float
    server_s: float
    fold_s: float
    log_bytes: float
    model_bytes: float


def measured(server: Postgres, folder: Path, seconds: float, events: int) -> Times:
    """Measure on this machine."""
    log, one = server.make_log("log"), delivery()
    points = []
    used, done = server.cpu_s(), 0
    with open_to_append(log) as opened:
        for size in (1, 10, 100, 1_000):
            say(f"appends in groups of {size}")
            taken, until = [], time.monotonic() + seconds / 4
            while time.monotonic() < until:
                batch = [WebhookReceived(each, 1, one) for each in uuid7s(datetime.now(UTC), size, os.urandom)]
                begun = time.perf_counter()
                opened.append(batch)
                taken.append(time.perf_counter() - begun)
                done += size
            points.append((size, statistics.median(taken)))
    server_s = (server.cpu_s() - used) / done
    event_s = (points[-1][1] - points[0][1]) / (points[-1][0] - points[0][0])
    group_s = points[0][1] - event_s
    say("a receiver under load")
    body = folder / "1KB.json"
    body.write_bytes(body_of("1KB"))
    os.environ["SIMTRAIL_LOG"] = log.url
    with ExitStack() as stack:
        receiver = stack.enter_context(started(folder, RECEIVE))
        post(receiver.url, body, connections=32, seconds=1)
        before = receiver.cpu_s()
        load = post(receiver.url, body, connections=32, seconds=seconds)
        receiver_s = (receiver.cpu_s() - before) / load.posts
    say("a projector")
    log = server.make_log("log")
    os.environ["SIMTRAIL_LOG"] = log.url
    with open_to_append(log) as opened:
        for first in range(0, events, 1_000):
            ids = uuid7s(datetime.now(UTC), 1_000, os.urandom)
            opened.append([WebhookReceived(each, 1, notice(first + n)) for n, each in enumerate(ids)])
    size = int(str(server.execute("SELECT pg_total_relation_size('simtrail.stored_events')", "log")[0][0]))
    data = folder / "projector"
    data.mkdir()
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "audit", "project", "--once", f"--data={data}"],
        check=True,
        cwd=ROOT,
        capture_output=True,
    )
    fold_s = (time.perf_counter() - begun) / events
    del os.environ["SIMTRAIL_LOG"]
    model = sum(file.stat().st_size for file in data.glob("audit.db*"))
    return Times(group_s, event_s, receiver_s, server_s, fold_s, size / events, model / events)


def notice(serial: int) -> Delivery:
    """A kilobyte about one card of many."""
    one = delivery()
    body = b'{"type": "package_empty", "items": [{"iccid": "89701%015d", "comment": "%s"}]}' % (
        serial * 7_919 % 1_000_000,
        b"x" * 880,
    )
    return Delivery(one.received_at, one.source, one.remote, one.headers, body)


@dataclass(frozen=True)
class Minute:
    """A simulated minute: the mean group, the share of time that the log is held, and waits in milliseconds."""

    group: float
    held: float
    p50_ms: float
    p99_ms: float


def simulate(rate: float, receivers: int, times: Times, seconds: float, seed: int = 1) -> Minute:
    """Receivers take turns at the log. Each appends what came since its last turn, and everyone waits for that commit."""
    chance = random.Random(seed)  # noqa: S311 - a simulation
    now, held, groups, events = 0.0, 0.0, 0, 0
    waiting: list[list[tuple[float, float, int]]] = [[] for _ in range(receivers)]
    seen = [0.0] * receivers
    waits: list[float] = []
    while now < seconds:
        idle = True
        for n in range(receivers):
            # What came since this one's last turn: so many, evenly over that time.
            came = poisson(chance, rate / receivers * (now - seen[n]))
            if came:
                waiting[n].append((seen[n], now, came))
            seen[n] = now
            size = min(GROUP_DELIVERIES, sum(count for _, _, count in waiting[n]))
            if not size:
                continue
            idle = False
            # A delivery is read, checked and answered, too: the receiver's own time for the group, one after the other.
            took = times.group_s + times.event_s * size
            now += took
            held += took
            groups, events = groups + 1, events + size
            taken = 0
            while taken < size:
                start, end, count = waiting[n].pop(0)
                part = min(count, size - taken)
                waits += [now - (start + (end - start) * chance.random()) + times.receiver_s for _ in range(part)]
                if part < count:
                    waiting[n].insert(0, (start, end, count - part))
                taken += part
        if idle:
            # The next one finds the log free, and is appended as it comes.
            now += chance.expovariate(rate)
            seen = [now] * receivers
            waiting[chance.randrange(receivers)].append((now, now, 1))
    waits.sort()
    return Minute(
        events / max(1, groups), held / now, waits[len(waits) // 2] * 1e3, waits[int(len(waits) * 0.99)] * 1e3
    )


def poisson(chance: random.Random, mean: float) -> int:
    """So many events where so many are expected."""
    if mean > 50:  # noqa: PLR2004 - from there on the normal distribution is as good
        return max(0, round(chance.gauss(mean, math.sqrt(mean))))
    count, product, limit = 0, chance.random(), math.exp(-mean)
    while product > limit:
        product *= chance.random()
        count += 1
    return count


def main() -> None:
    """Measure, simulate, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="to simulate of each load (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="as small as can be: does it still run?")
    asked = parser.parse_args()
    seconds, events = (1, 1_000) if asked.quick else (8, 50_000)
    with Postgres() as server, tempfile.TemporaryDirectory() as folder:
        server.make().start(max_wal_size="4GB")
        times = measured(server, Path(folder), seconds, events)
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, `python {' '.join(sys.argv)}`, {os.cpu_count()} cores. Measured, for events of 1 KB:\n"
    )
    print("| the log is held | receiver's CPU | server's CPU | fold | log on disk | read model on disk |")
    print("|--:|--:|--:|--:|--:|--:|")
    print(
        f"| {times.group_s * 1e3:.2f} ms a group and {times.event_s * 1e6:.1f} µs an event | {times.receiver_s * 1e6:.0f} µs "
        f"| {times.server_s * 1e6:.0f} µs | {times.fold_s * 1e6:.0f} µs | {times.log_bytes:,.0f} bytes | {times.model_bytes:,.0f} bytes |"
    )
    full = GROUP_DELIVERIES / (times.group_s + times.event_s * GROUP_DELIVERIES)
    print(f"\nIn groups of {GROUP_DELIVERIES:,}, the largest, the log would take {full:,.0f} events/s.")
    print(f"\nSimulated, {CARDS:,} SIM cards:\n")
    print(
        "| load | events/s, mean | events/s, busiest | receivers | events a group | log held | p50 ms | p99 ms "
        "| server's cores | projector's cores | log GB a day | read model GB a day |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for load in LOADS:
        rate = load.mean_rate * load.peak
        receivers = max(2, math.ceil(rate * times.receiver_s / BUSY))
        minute = simulate(rate, receivers, times, 2 if asked.quick else asked.seconds)
        day = load.mean_rate * DAY_S / 1e9
        print(
            f"| {load.name} | {load.mean_rate:,.0f} | {rate:,.0f} | {receivers} | {minute.group:.1f} | {minute.held:.0%} "
            f"| {minute.p50_ms:.1f} | {minute.p99_ms:.1f} | {rate * times.server_s:.2f} | {rate * times.fold_s:.2f} "
            f"| {day * times.log_bytes:,.1f} | {day * times.model_bytes:,.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
