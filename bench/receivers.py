"""Many receivers on one log: full load, while receivers and their server connections are killed at random.

    python bench/receivers.py [--receivers 8] [--projectors 3] [--seconds 60] [--connections 64] [--seed N]

Receivers are killed with SIGKILL and started again; the server's side of an appending connection is ended
in between. Every acknowledged delivery must be in the log once, at its position, with its bytes, in one order without
gaps; and all projectors, with one that is made anew, must have the same tables. Exit code 1 if not.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import uvloop  # noqa: E402 - run as a script, from the repository itself

from bench.cluster import Postgres  # noqa: E402
from bench.fleet import Fleet, Ledger, judge, send, wait_for_port  # noqa: E402

KILL_EVERY_S = (0.5, 2.0)

END_ONE = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name = 'simtrail' AND query LIKE '%append_events%' ORDER BY random() LIMIT 1
"""


async def run(server: Postgres, folder: Path, options: argparse.Namespace) -> bool:
    """Load, kill, compare, and print; whether all is well."""
    moments = random.Random(options.seed)  # noqa: S311 - moments, not secrets
    fleet, ledger, stop = Fleet(server.make_log("log"), folder), Ledger(), asyncio.Event()
    fleet.start(options.receivers, options.projectors)
    senders = [
        asyncio.ensure_future(send(ledger, fleet.path, list(fleet.receivers), n, stop))
        for n in range(options.connections)
    ]
    killed = ended = 0
    until = asyncio.get_running_loop().time() + options.seconds
    while (left := until - asyncio.get_running_loop().time()) > 0:
        await asyncio.sleep(min(left, moments.uniform(*KILL_EVERY_S)))
        if moments.random() < 0.5:  # noqa: PLR2004 - one or the other
            port = moments.choice(list(fleet.receivers))
            fleet.receivers[port].kill()
            fleet.receivers[port].wait()
            fleet.start_receiver(port)
            killed += 1
        else:
            ended += len(await asyncio.to_thread(server.execute, END_ONE))
    for port in fleet.receivers:
        await asyncio.to_thread(wait_for_port, port)
    stop.set()
    await asyncio.gather(*senders)
    verdict = await asyncio.to_thread(judge, fleet, ledger)
    print(
        "receivers projectors seconds killed ended acknowledged refused unanswered stored missing doubled altered moved digests"
    )
    print(
        f"{options.receivers:>9}{options.projectors:>11}{options.seconds:>8}{killed:>7}{ended:>6}{len(ledger.acknowledged):>13,}"
        f"{ledger.refused:>8,}{ledger.unanswered:>11,}{verdict.stored:>7,}{verdict.missing:>8}{verdict.doubled:>8}"
        f"{verdict.altered:>8}{verdict.moved:>6} {'agree' if verdict.agree else 'DIFFER'}"
    )
    for wrong in verdict.wrong[:10]:
        print(wrong, file=sys.stderr)
    return verdict.good and bool(ledger.acknowledged)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("receivers", 8), ("projectors", 3), ("seconds", 60), ("connections", 64), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default, help="(default %(default)s)")
    with tempfile.TemporaryDirectory(prefix="receivers-") as folder, Postgres() as server:
        server.make().start(max_connections="200")
        sys.exit(not uvloop.run(run(server, Path(folder), parser.parse_args())))


if __name__ == "__main__":
    main()
