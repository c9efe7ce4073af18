"""Failovers under load: the primary is killed with SIGKILL, its synchronous standby promoted, again and again.

    python bench/failover.py [--rounds 20] [--receivers 2] [--connections 32] [--lag-s 0]

Receivers and a projector know both servers by one URL and are never started again. After each promotion a new standby is
made in the old primary's place, and made synchronous before the next round. Every acknowledged delivery must be in the log
once, at its position, in one order without gaps, and the projector's tables those of a projection made anew. ``--lag-s`` is how long
it takes to notice: what a cluster manager adds to the times shown. Exit code 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import uvloop  # noqa: E402 - run as a script, from the repository itself

from bench.cluster import APPLICATION, Postgres, pair, synchronous  # noqa: E402
from bench.fleet import Fleet, Ledger, judge, send  # noqa: E402
from schema.log_place import Server  # noqa: E402

LOAD_S = 1.5
"""From a round's beginning to its kill."""


async def one_round(primary: Postgres, standby: Postgres, ledger: Ledger, lag_s: float) -> tuple[float, float]:
    """Kill and promote; seconds from the kill to the end of the promotion, and to the first 200 after it."""
    await asyncio.sleep(LOAD_S)
    killed = time.monotonic()
    await asyncio.to_thread(primary.kill)
    # What was committed before may still be answered: only after the promotion is a 200 a new one.
    await asyncio.sleep(lag_s)
    await asyncio.to_thread(standby.promote)
    promoted = time.monotonic()
    ledger.answered.clear()
    await ledger.answered.wait()
    return promoted - killed, time.monotonic() - killed


async def run(folder: Path, options: argparse.Namespace) -> bool:
    """All rounds; prints the table; whether all is well."""
    primary, standby = await asyncio.to_thread(pair)
    try:
        await asyncio.to_thread(primary.make_log, "log")
        hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
        fleet, ledger, stop = (
            Fleet(Server(f"postgresql://{APPLICATION}@{hosts}/log"), folder),
            Ledger(),
            asyncio.Event(),
        )
        fleet.start(options.receivers, 1)
        senders = [
            asyncio.ensure_future(send(ledger, fleet.path, list(fleet.receivers), n, stop))
            for n in range(options.connections)
        ]
        print("round acknowledged refused promoted_s first_200_s")
        times = []
        for number in range(1, options.rounds + 1):
            before, refused = len(ledger.acknowledged), ledger.refused
            promoted, first = await one_round(primary, standby, ledger, options.lag_s)
            times.append(first)
            print(
                f"{number:>5}{len(ledger.acknowledged) - before:>13,}{ledger.refused - refused:>8,}{promoted:>11.2f}{first:>12.2f}",
                flush=True,
            )
            primary, standby = standby, await asyncio.to_thread(replaced, primary, standby)
        await asyncio.sleep(LOAD_S)
        stop.set()
        await asyncio.gather(*senders)
        verdict = await asyncio.to_thread(judge, fleet, ledger)
    finally:
        for server in (primary, standby):
            server.__exit__(None, None, None)
    print(
        f"{len(ledger.acknowledged):,} acknowledged, {ledger.refused:,} refused, {verdict.stored:,} stored, "
        f"{verdict.missing} missing, {verdict.doubled} doubled, {verdict.altered} altered, {verdict.moved} moved, "
        f"{verdict.refused_but_stored} not acknowledged but stored; digests {'agree' if verdict.agree else 'DIFFER'}; "
        f"first 200 after {statistics.median(times):.2f} s (median), {max(times):.2f} s (longest)"
    )
    for wrong in verdict.wrong[:10]:
        print(wrong, file=sys.stderr)
    return verdict.good and bool(ledger.acknowledged)


def replaced(old: Postgres, primary: Postgres) -> Postgres:
    """A new standby in the place of the old primary, in step with the new one."""
    old.__exit__(None, None, None)
    standby = Postgres(bin_path=primary.bin, port=old.port).follow(primary, "standby").start()
    synchronous(primary)
    return standby


def main() -> None:
    """Run the rounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("rounds", 20), ("receivers", 2), ("connections", 32)):
        parser.add_argument(f"--{name}", type=int, default=default, help="(default %(default)s)")
    parser.add_argument("--lag-s", type=float, default=0.0, help="(default %(default)s)")
    with tempfile.TemporaryDirectory(prefix="failover-") as folder:
        sys.exit(not uvloop.run(run(Path(folder), parser.parse_args())))


if __name__ == "__main__":
    main()
