"""One log on one PostgreSQL: appending by 1, 2 and 4 at once, receiving by as many, and replay; each beside a yardstick.

    python bench/scale.py [--seconds 5] [--rounds 3] [--groups 1 10 100 1000] [--replay 200000]
    python bench/scale.py --quick       # everything once, small: does it still run?

Prints Markdown. What is compared, on the same server, with the same durability (fsync, synchronous_commit on):

    appends     processes that append groups of 1 KB events as a receiver's writer does, against pgbench with as many
                clients that insert the same rows in batches of the same size into a table with the same columns and
                indexes. pgbench makes its rows on the server: nothing of them is sent, locked, or told to anyone
    receiving   `simtrail receive` processes under load by wrk, 32 connections each; the groups are as large as they become
    replay      `Log.after`, all events decoded, against COPY out of the same columns, not looked at
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import psycopg  # noqa: E402 - run as a script, from the repository itself

from bench.cluster import Postgres  # noqa: E402
from bench.load import client, post  # noqa: E402
from bench.receive import RECEIVE, body_of, say, started  # noqa: E402
from schema.event import Delivery, WebhookReceived, encode, instant, uuid7s  # noqa: E402
from schema.log import open_to_append, open_to_read  # noqa: E402
from schema.log_place import Server, place  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

WRITERS = (1, 2, 4)

CONNECTIONS = 32
"""Connections of each receiver."""

YARDSTICK = """
    DROP TABLE IF EXISTS yardstick;
    CREATE TABLE yardstick (
        originator_id uuid NOT NULL, originator_version bigint NOT NULL, topic text NOT NULL, state bytea NOT NULL,
        notification_id bigserial NOT NULL, PRIMARY KEY (originator_id, originator_version)
    );
    CREATE UNIQUE INDEX ON yardstick (notification_id);
"""

INSERT = """
    INSERT INTO yardstick (originator_id, originator_version, topic, state)
    SELECT {uuid}(), 1, 'webhook.received', '\\x{state}' FROM generate_series(1, {rows});
"""


def delivery() -> Delivery:
    """A job callback of a kilobyte, as received."""
    return Delivery(
        instant(datetime.now(UTC)), "main", "127.0.0.1", {"content-type": "application/json"}, body_of("1KB")
    )


def write(url: str, group: int, seconds: float) -> None:
    """A writer's process: append groups for some seconds; tells how many events, and its own CPU."""
    one, done = delivery(), 0
    with open_to_append(place(url)) as log:
        log.append([])
        print("ready", flush=True)
        sys.stdin.readline()
        until, cpu = time.monotonic() + seconds, time.process_time()
        while time.monotonic() < until:
            # A delivery of its own each, as a receiver has them: what is timed includes the envelope.
            log.append([WebhookReceived(each, 1, one) for each in uuid7s(datetime.now(UTC), group, os.urandom)])
            done += group
    print(done, time.process_time() - cpu)


def appends(server: Postgres, log: Server, writers: int, group: int, seconds: float) -> tuple[float, float, float]:
    """Events a second, and microseconds of CPU an event: the writers', and the server's."""
    with ExitStack() as stack:
        command = [sys.executable, __file__, "--writer", log.url, str(group), str(seconds)]
        processes = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(writers)
        ]
        pipes = [(each.stdin, each.stdout) for each in processes if each.stdin and each.stdout]
        for _, out in pipes:
            out.readline()
        before = server.cpu_s()
        for to, _ in pipes:
            to.write("\n")
            to.flush()
        told = [out.readline().split() for _, out in pipes]
        used = server.cpu_s() - before
    events = sum(int(each[0]) for each in told)
    return events / seconds, sum(float(each[1]) for each in told) / events * 1e6, used / events * 1e6


def pgbench(server: Postgres, clients: int, rows: int, seconds: float) -> float:
    """Rows a second of the yardstick."""
    server.execute(YARDSTICK, "log")
    uuid = "uuidv7" if server.execute("SELECT to_regproc('uuidv7') IS NOT NULL")[0][0] else "gen_random_uuid"
    script = server.folder / "insert.sql"
    statement = " ".join(INSERT.split()).format(uuid=uuid, state=encode(delivery()).hex(), rows=rows)
    script.write_text(statement + "\n")
    said = server.run(
        *("pgbench", "-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres", "-n", "-M", "prepared"),
        *("-c", str(clients), "-j", str(min(clients, 2)), "-T", str(max(1, round(seconds))), "-f", script, "log"),
    )
    return float(said.split("tps = ")[1].split()[0]) * rows


def compare_appends(server: Postgres, groups: Sequence[int], rounds: int, seconds: float) -> None:
    """Print the table of appends."""
    print("\n### Appends of 1 KB events, beside pgbench\n")
    print("| events a group | writers | events/s | pgbench rows/s | ratio | writer's CPU µs | server's CPU µs |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for group in groups:
        for writers in WRITERS:
            runs = []
            for turn in range(rounds):
                say(f"appends: {writers} writers, groups of {group}, {turn + 1} of {rounds}")
                log = server.make_log("log")
                server.execute("CHECKPOINT")
                ours = appends(server, log, writers, group, seconds)
                server.execute("CHECKPOINT")
                runs.append((*ours, pgbench(server, writers, group, seconds)))
            rate, own, theirs, yardstick = (statistics.median(column) for column in zip(*runs, strict=True))
            ratio = statistics.median(run[0] / run[3] for run in runs)
            print(
                f"| {group:,} | {writers} | {rate:,.0f} | {yardstick:,.0f} | {ratio:.2f} | {own:.1f} | {theirs:.1f} |",
                flush=True,
            )


def compare_receiving(server: Postgres, folder: Path, seconds: float) -> None:
    """Print the table of receivers, and what an event costs on the server's disk."""
    print(f"\n### Receiving 1 KB posts, {CONNECTIONS} connections each, client on the same cores\n")
    print("| receivers | req/s | p50 ms | p99 ms | events a group | receiver's CPU µs | server's CPU µs | errors |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|")
    body = folder / "1KB.json"
    body.write_bytes(body_of("1KB"))
    for receivers in WRITERS:
        say(f"receiving: {receivers}")
        log = server.make_log("log")
        os.environ["SIMTRAIL_LOG"] = log.url
        with ExitStack() as stack:
            running = [stack.enter_context(started(folder, RECEIVE)) for _ in range(receivers)]
            for each in running:
                post(each.url, body, connections=CONNECTIONS, seconds=1)
            head, calls = counted(server)
            before, used = sum(each.cpu_s() for each in running), server.cpu_s()
            with ThreadPoolExecutor() as pool:
                load = partial(post, body=body, connections=CONNECTIONS, seconds=seconds)
                loads = list(pool.map(load, [each.url for each in running]))
            own, theirs = sum(each.cpu_s() for each in running) - before, server.cpu_s() - used
        time.sleep(1.2)  # The server's counters are told once a second.
        after, made = counted(server)
        events = after - head
        rate = sum(each.posts / each.seconds for each in loads)
        p50, p99 = (statistics.median(each.ms[n] for each in loads) for n in (0, 1))
        print(
            f"| {receivers} | {rate:,.0f} | {p50:.1f} | {p99:.1f} | {events / max(1, made - calls):.0f} | {own / events * 1e6:.0f} "
            f"| {theirs / events * 1e6:.0f} | {sum(each.errors for each in loads)} |",
            flush=True,
        )
    del os.environ["SIMTRAIL_LOG"]


def counted(server: Postgres) -> tuple[int, int]:
    """The log's head, and how often the function that appends was called."""
    with psycopg.connect(server.url("log")) as connection:
        row = connection.execute(
            "SELECT (SELECT coalesce(max(notification_id), 0) FROM simtrail.stored_events), "
            "(SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_user_functions WHERE funcname = 'append_events')"
        ).fetchone()
    head, calls = row or (0, 0)
    return int(head), int(calls)


def compare_replay(server: Postgres, events: int, rounds: int) -> None:
    """Print the table of replay, and the bytes of an event."""
    log, one = server.make_log("log"), delivery()
    before = server.execute("SELECT pg_current_wal_lsn() - '0/0'")[0][0]
    with open_to_append(log) as opened:
        for _ in range(events // 1_000):
            opened.append([WebhookReceived(each, 1, one) for each in uuid7s(datetime.now(UTC), 1_000, os.urandom)])
    wal = int(str(server.execute("SELECT pg_current_wal_lsn() - '0/0'")[0][0])) - int(str(before))
    size = int(str(server.execute("SELECT pg_total_relation_size('simtrail.stored_events')", "log")[0][0]))
    server.execute("VACUUM ANALYZE simtrail.stored_events", "log")
    runs = []
    for turn in range(rounds):
        say(f"replay, {turn + 1} of {rounds}")
        begun = time.perf_counter()
        with psycopg.connect(log.url) as connection, connection.cursor() as cursor:
            statement = "SELECT notification_id, topic, state FROM simtrail.stored_events ORDER BY notification_id"
            with cursor.copy(f"COPY ({statement}) TO STDOUT (FORMAT binary)".encode()) as out:
                for _ in out:
                    pass
        copied = time.perf_counter() - begun
        begun, position = time.perf_counter(), 0
        with open_to_read(log) as reader:
            while page := reader.after(position):
                position = page[-1].position
        runs.append((events / (time.perf_counter() - begun), events / copied))
    ours, copy = (statistics.median(column) for column in zip(*runs, strict=True))
    ratio = statistics.median(a / b for a, b in runs)
    state = len(encode(one))
    print(f"\n### Replay of {events:,} events, and what one takes on the server's disk\n")
    print(
        "| replay events/s | COPY out rows/s | ratio | envelope bytes | table and indexes, bytes | write-ahead log, bytes |"
    )
    print("|--:|--:|--:|--:|--:|--:|")
    print(f"| {ours:,.0f} | {copy:,.0f} | {ratio:.2f} | {state:,} | {size / events:,.0f} | {wal / events:,.0f} |")


def told_machine(server: Postgres) -> str:
    """What the figures were measured on, and how."""
    version = str(server.execute("SHOW server_version")[0][0])
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, `python {' '.join(sys.argv)}`: {os.cpu_count()} cores, {platform.system()} "
        f"{platform.release()}, Python {platform.python_version()}, PostgreSQL {version}; client {client()}; all on the same "
        f"cores; load average at the start {load}."
    )


def main() -> None:
    """Measure, and print it."""
    if "--writer" in sys.argv:
        write(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5, help="of each run (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each (default %(default)s)")
    parser.add_argument("--groups", type=int, nargs="+", default=(1, 10, 100, 1_000), help="(default 1 10 100 1000)")
    parser.add_argument("--replay", type=int, default=200_000, help="events to replay (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="everything once, as small as can be")
    asked = parser.parse_args()
    if asked.quick:
        asked.seconds, asked.rounds, asked.groups, asked.replay = 1, 1, (10,), 2_000
    begun = time.monotonic()
    with Postgres() as server, tempfile.TemporaryDirectory() as folder:
        server.make().start(track_functions="pl", max_wal_size="4GB", shared_buffers="256MB")
        print(told_machine(server))
        compare_appends(server, asked.groups, asked.rounds, asked.seconds)
        compare_receiving(server, Path(folder), asked.seconds)
        compare_replay(server, asked.replay, asked.rounds)
    print(f"\n{time.monotonic() - begun:.0f} s in all.")


if __name__ == "__main__":
    main()
