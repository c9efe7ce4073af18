"""Verifying and sealing: the whole tree from a log, against plain loops of hashlib over the same leaves.

    python bench/verify.py [--events 500000] [--bytes 1000] [--runs 5]

All read the same sealed log, in turn, each a process's CPU and wall time. The first yardstick has the
leaves in memory, and hashes each, and then each pair of hashes up to the root: no log is
read, no event decoded, nothing compared. The second has the events in memory too, and
also hashes each state and each body, as a leaf needs it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from audit import keys, leaf, sealer, verification  # noqa: E402 - run as a script, from the repository itself
from schema.event import Delivery, WebhookReceived, instant, uuid7  # noqa: E402
from schema.event import decode as delivery_in  # noqa: E402
from schema.log import open_to_append, open_to_read  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

START = datetime(2026, 5, 1, tzinfo=UTC)

GROUP = 1_000


def main() -> None:
    """Make a log, seal it, and let each take its turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=500_000, help="in the log (default %(default)s)")
    parser.add_argument("--bytes", type=int, default=1_000, help="of each body (default %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="of each (default %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="simtrail-") as name:
        folder = Path(name)
        say(f"recording {options.events:,} events")
        record(folder, options.events, options.bytes)
        say("sealing them")
        sealing_s = timed(lambda: seal(folder))
        measure(folder, options.events, options.bytes, options.runs, sealing_s)


def record(folder: Path, events: int, size: int) -> None:
    """Append events with bodies of that size."""
    with open_to_append(folder / "log.db") as log:
        for start in range(0, events, GROUP):
            at = START + timedelta(seconds=start)
            log.append([event(at, n, size) for n in range(start, min(events, start + GROUP))])


def event(at: datetime, n: int, size: int) -> WebhookReceived:
    """The n-th event."""
    body = (b'{"n": %d, "more": "' % n).ljust(size - 2, b"x") + b'"}'
    headers = {"content-type": "application/json", "content-length": str(size), "user-agent": "platform/2.1"}
    return WebhookReceived(uuid7(at, os.urandom), 1, Delivery(instant(at), "main", "203.0.113.7", headers, body))


def seal(folder: Path) -> None:
    """Seal the whole log, an anchor for every eight thousand events."""
    seals, signer = keys.start(folder / "seal.key", folder / "seals.db", entropy=os.urandom, now=START)
    with closing(seals), open_to_read(folder / "log.db") as log:
        sealer.seal(log, seals, signer, clock=lambda: START, stop=threading.Event(), once=True)


def measure(folder: Path, events: int, size: int, runs: int, sealing_s: float) -> None:
    """Let verification and yardsticks take turns; print the table."""
    with open_to_read(folder / "log.db") as log:
        rows = log.stored_after(0, max_events=events, max_bytes=1 << 62)
    leaves = [leaf.encode(leaf.of(row)) for row in rows]
    states = [state for _, _, state in rows]
    bodies = [delivery_in(state).body for state in states]
    del rows
    roots: set[bytes] = set()
    turns: dict[str, Callable[[], None]] = {
        "`hashlib` over the leaves and up to the root": lambda: roots.add(tree(leaves)),
        "the same, and over each state and body": lambda: roots.add(tree(leaves, states, bodies)),
        "`simtrail verify`": lambda: verify(folder, events),
    }
    taken: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(runs):
        for name, turn in turns.items():
            say(f"run {number + 1} of {runs}: {name}")
            taken[name].append(timed(turn))
    if len(roots) != 1:
        sys.exit("the yardsticks do not agree on the root")
    first, second = (statistics.median(taken[name]) for name in list(turns)[:2])
    print(f"{events:,} events with bodies of {size:,} bytes, medians of {runs} runs in turn:\n")
    print("| | leaves/s | to the first | to the second |")
    print("|---|--:|--:|--:|")
    for name, each in taken.items():
        median = statistics.median(each)
        print(f"| {name} | {events / median:,.0f} | {first / median:.2f} | {second / median:.2f} |")
    print(
        f"| sealing the whole log, once | {events / sealing_s:,.0f} | {first / sealing_s:.2f} | {second / sealing_s:.2f} |"
    )


def tree(leaves: Sequence[bytes], *contents: Sequence[bytes]) -> bytes:
    """The root over leaves by hashlib alone, after hashing what they are of."""
    for content in contents:
        for each in content:
            sha256(each).digest()
    hashes = [sha256(b"\x00" + each).digest() for each in leaves]
    while len(hashes) > 1:
        above = [sha256(b"\x01" + hashes[at] + hashes[at + 1]).digest() for at in range(0, len(hashes) - 1, 2)]
        if len(hashes) % 2:
            above.append(hashes[-1])
        hashes = above
    return hashes[0]


def verify(folder: Path, events: int) -> None:
    """Verify the whole log, as the command does."""
    from audit import seals  # noqa: PLC0415 - here the name is free

    with open_to_read(folder / "log.db") as log, seals.open_to_read(folder / "seals.db") as reader:
        report = verification.verify(log, reader)
    if not report.sound or report.counts.leaves != events:
        sys.exit(f"what was made does not verify: {report}")


def timed(act: Callable[[], None]) -> float:
    """The seconds that it takes."""
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def say(text: str) -> None:
    """Tell how far it is, on standard error."""
    print(f"{text} …", file=sys.stderr)


if __name__ == "__main__":
    main()
