"""Receiving: the receiver against others that do the same work, in turn, under the same load.

    python bench/receive.py [--rounds 3] [--seconds 3] [--sizes …] [--parts …] [--posts 100000] [--events 2000000]
    python bench/receive.py --quick       # everything once, small: does it still run?

Prints Markdown on standard output, and what it is doing on standard error. Each server is
a process of its own, all with their files in one folder; while one is under load the others
wait. The standard run takes about five minutes. What the table compares:

    simtrail       `simtrail receive --no-delivery-lines`: every 2xx after an fsynced commit, as (b), (c) and (d)
    with lines     the same as it is by default, with a line for each delivery in its log
    (a)            the first, with storage left out (`peers/no_storage.py`)
    Starlette      `Request` and `JSONResponse`, no storage, no check of anything (`peers/plain.py`)
    (b)            Starlette, thread pool, `sqlite3`, a commit for each delivery (`peers/thread_pool.py`)
    (c)            `Application.save` of the eventsourcing library for each delivery (`peers/library.py`)
    (d)            node:http, SQLite, all that waits in one commit (`peers/group.js`), where node is installed

The peers neither check a secret nor that a body is JSON; all hash the body and answer position and hash.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import platform
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from audit.seals import open_to_read as open_seals  # noqa: E402 - run as a script, from the repository itself
from bench.load import Load, client, post  # noqa: E402
from ingest import sources  # noqa: E402
from schema.event import Delivery, WebhookReceived, instant, uuid7  # noqa: E402
from schema.log import open_to_append, open_to_read  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CONNECTIONS = 64

START_S = 60
"""How long a server may take to say where it listens."""

OURS, SAME = "simtrail", "(a) the same, no storage"

ARGUMENTS = ("receive", "--port=0", "--no-delivery-lines", "--data")

RECEIVE = (sys.executable, "-m", "audit", *ARGUMENTS)

PEERS: dict[str, tuple[str, ...]] = {
    "simtrail with lines": tuple(word for word in RECEIVE if word != "--no-delivery-lines"),
    SAME: (sys.executable, "-m", "bench.peers.no_storage", *ARGUMENTS),
    "Starlette, no storage": (sys.executable, "-m", "bench.peers.plain"),
    "(b) thread pool, sqlite3": (sys.executable, "-m", "bench.peers.thread_pool"),
    "(c) eventsourcing `save`": (sys.executable, "-m", "bench.peers.library"),
    "(d) node, group commit": ("node", "bench/peers/group.js"),
}

SEAL = (sys.executable, "-m", "audit", "seal", "--data")

SIZES = ("0.5KB", "1KB", "20KB", "1MB")

SMALL = "1KB"
"""The size that the targets speak of."""

BILL_BYTES = 10 * 1024 * 1024
BILL_EVERY_S = 0.5

GROUP = 64
"""Events a commit on the curve of appends: as many as wait where 64 connections post."""

FILL = 1_000
"""Events a commit on the way from one mark of the curve to the next."""

MARKS = (0, 0.05, 0.25, 0.5, 0.75, 1)
"""Where on its way the curve of appends is measured."""

GROUPS_AT_MARK = 200

PARTS: tuple[str, ...] = ("peers", "bills", "sealing", "memory", "appends")


@dataclass(frozen=True)
class Server:
    """A receiver that runs, and where its deliveries go."""

    process: subprocess.Popen[bytes]
    url: str

    def cpu_s(self) -> float:
        """Seconds of processor that it and its processes have used; NaN where the system does not tell."""
        ticks = 0
        for pid in self._processes():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                return float("nan")
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory_mb(self, field: str = "VmRSS") -> float:
        """Megabytes of memory that it and its processes have now, or with ``VmHWM`` had at most."""
        kib = 0
        for pid in self._processes():
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                return float("nan")
            kib += int(status.split(f"{field}:")[1].split()[0])
        return kib * 1024 / 1e6

    def _processes(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [self.process.pid, *map(int, children.read_text().split() if children.exists() else ())]


@dataclass(frozen=True)
class Run:
    """One server under load once."""

    load: Load
    cpu_s: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.load.posts / self.load.seconds


def main() -> None:
    """Measure what is asked for, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="default: all")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=SIZES, help="default: all")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each server (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=3, help="of each run (default %(default)s)")
    parser.add_argument("--posts", type=int, default=100_000, help="for the memory (default %(default)s)")
    parser.add_argument("--events", type=int, default=2_000_000, help="for the appends (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="everything once, as small as can be")
    parser.add_argument("--folder", type=Path, help="on the disk to measure (default: the temporary one)")
    asked = parser.parse_args()
    if asked.quick:
        asked.rounds, asked.seconds, asked.posts, asked.events = 1, 1, 1_000, 10_000
    # Ended by a signal, the servers end as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    begun = time.monotonic()
    measure: dict[str, Callable[[Path], None]] = {
        "peers": lambda folder: compare(folder, asked.sizes, asked.rounds, asked.seconds),
        "bills": lambda folder: disturb(folder, asked.rounds, asked.seconds),
        "sealing": lambda folder: seal_beside(folder, asked.rounds, asked.seconds),
        "memory": lambda folder: watch_memory(folder, asked.posts, asked.seconds),
        "appends": lambda folder: draw_curve(folder, asked.events),
    }
    print(told_machine())
    for part in asked.parts:
        with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
            measure[part](Path(folder))
    print(f"\n{time.monotonic() - begun:.0f} s in all.")


def told_machine() -> str:
    """What the figures were measured on, and how."""
    cpu = "unknown processor"
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    command = " ".join(["python", *sys.argv])
    versions = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    if shutil.which("node"):
        version = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True)  # noqa: S607
        versions += f", node {version.stdout.strip()}"
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, `{command}`: {os.cpu_count()} cores ({cpu}), {platform.system()} "
        f"{platform.release()}, {versions}; client {client()} on the same cores, {CONNECTIONS} connections; "
        f"SQLite WAL, `synchronous=FULL`; load average at the start {load}.\n"
    )


def compare(folder: Path, sizes: Sequence[str], rounds: int, seconds: float) -> None:
    """Print the table of all servers, for each size."""
    body_files = {size: folder / f"{size}.json" for size in sizes}
    for size, file in body_files.items():
        file.write_bytes(body_of(size))
    for size in sizes:
        with ExitStack() as stack:
            servers = {OURS: stack.enter_context(started(folder, RECEIVE))}
            for name, command in PEERS.items():
                try:
                    servers[name] = stack.enter_context(started(folder, command))
                except (FileNotFoundError, RuntimeError) as error:
                    if command[0] != "node":
                        raise
                    say(f"{name} is left out: {error}")
            for server in servers.values():
                load(server, body_files[size], 1)
            runs: dict[str, list[Run]] = {name: [] for name in servers}
            for turn in range(rounds):
                for name, server in servers.items():
                    say(f"{size}, {turn + 1} of {rounds}: {name}")
                    runs[name].append(load(server, body_files[size], seconds))
            memory = {name: server.memory_mb("VmHWM") for name, server in servers.items()}
        print_table(size, body_files[size].stat().st_size, runs, memory)


def print_table(size: str, bytes_each: int, runs: dict[str, list[Run]], memory: dict[str, float]) -> None:
    """One size's table: medians of the runs; a ratio is the median of those of each turn."""
    print(f"\n### {size} ({bytes_each:,} bytes)\n")
    print("| receiver | req/s | ratio | p50 ms | p99 ms | p99.9 ms | p99 ratio | CPU µs | MB | errors |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for name, own in runs.items():
        rate = statistics.median(run.rate for run in own)
        ratio = statistics.median(over(ours.rate, run.rate) for ours, run in zip(runs[OURS], own, strict=True))
        p50, p99, p999 = (statistics.median(run.load.ms[n] for run in own) for n in range(3))
        tail = statistics.median(over(us.load.ms[1], run.load.ms[1]) for us, run in zip(runs[OURS], own, strict=True))
        cpu = statistics.median(over(run.cpu_s, run.load.posts) for run in own) * 1e6
        errors = sum(run.load.errors for run in own)
        print(
            f"| {name} | {rate:,.0f} | {ratio:.2f} | {p50:.1f} | {p99:.1f} | {p999:.1f} | {tail:.2f} "
            f"| {cpu:,.0f} | {memory[name]:.0f} | {errors} |",
        )
    print(
        "\nRatio: what simtrail's figure is to the row's, the median of the turns' ratios. CPU: the server's, for each request. MB: the most it had."
    )


def over(one: float, other: float) -> float:
    """The ratio of one to the other; NaN where a run was too short for a single answer."""
    return one / other if other else float("nan")


def disturb(folder: Path, rounds: int, seconds: float) -> None:
    """Print what a 10 MB bill every half second does to the small posts beside it, as each client sees it."""
    small, bill = folder / "small.json", folder / "bill.json"
    small.write_bytes(body_of(SMALL))
    bill.write_bytes(bill_of(BILL_BYTES))
    clients = [client(), client(bundled=True)] if client() != client(bundled=True) else [client()]
    alone: dict[str, list[Run]] = {name: [] for name in clients}
    beside: dict[str, list[Run]] = {name: [] for name in clients}
    with started(folder, RECEIVE) as server:
        load(server, small, 1)
        for turn in range(rounds):
            for name in clients:
                say(f"bills, {turn + 1} of {rounds}: {name}")
                bundled = name == client(bundled=True)
                alone[name].append(load(server, small, seconds, bundled=bundled))
                with posting(server.url, bill):
                    beside[name].append(load(server, small, seconds, bundled=bundled))
    print(f"\n### One {BILL_BYTES // 1024 // 1024} MB bill every {BILL_EVERY_S} s beside {SMALL} posts\n")
    print("| as seen by | bills | req/s | p50 ms | p99 ms | p99.9 ms | p99 to that without |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for name in clients:
        pairs = zip(alone[name], beside[name], strict=True)
        ratio = statistics.median(over(b.load.ms[1], a.load.ms[1]) for a, b in pairs)
        for bills, runs in (("without", alone[name]), ("with", beside[name])):
            p50, p99, p999 = (statistics.median(run.load.ms[n] for run in runs) for n in range(3))
            rate = statistics.median(run.rate for run in runs)
            told = f"{ratio:.2f}" if bills == "with" else ""
            print(f"| {name} | {bills} | {rate:,.0f} | {p50:.1f} | {p99:.1f} | {p999:.1f} | {told} |")
    print(
        "\nwrk corrects its latencies: a wait counts as all the posts that a steady sender would have made meanwhile."
        " The bundled client counts each post once. The ratio is the median of the turns' ratios."
    )


def seal_beside(folder: Path, rounds: int, seconds: float) -> None:
    """Print what a sealer beside the receiver does to small posts: two receivers in turn, one of them sealed."""
    small = folder / "small.json"
    small.write_bytes(body_of(SMALL))
    runs: list[tuple[Run, Run]] = []
    behind: list[int] = []
    with started(folder, RECEIVE) as alone, started(folder, RECEIVE) as sealed, sealing(sealed) as data:
        for server in (alone, sealed):
            load(server, small, 1)
        for turn in range(rounds):
            say(f"sealing, {turn + 1} of {rounds}")
            # Who comes first takes turns too: the machine's own moods last longer than a run.
            pair = {server: load(server, small, seconds) for server in ((alone, sealed), (sealed, alone))[turn % 2]}
            runs.append((pair[alone], pair[sealed]))
            with open_to_read(data / "log.db") as log, open_seals(data / "seals.db") as seals:
                last = seals.last(signed=True)
                behind.append(log.head() - (last.position if last else 0))
    print(f"\n### A sealer beside {SMALL} posts, {rounds} rounds in turn\n")
    print("| | req/s | p50 ms | p99 ms | receiver CPU s |")
    print("|---|--:|--:|--:|--:|")
    for name, each in (("without", [off for off, _ in runs]), ("with", [on for _, on in runs])):
        p50, p99 = (statistics.median(run.load.ms[n] for run in each) for n in range(2))
        rate, cpu_s = statistics.median(run.rate for run in each), statistics.median(run.cpu_s for run in each)
        print(f"| {name} | {rate:,.0f} | {p50:.1f} | {p99:.1f} | {cpu_s:.2f} |")
    ratio = statistics.median(over(on.rate, off.rate) for off, on in runs)
    print(
        f"\nWith to without, median of the pairs: {ratio:.3f}. Not signed yet at the end of a run: {max(behind):,} events at most."
    )


@contextmanager
def sealing(server: Server) -> Iterator[Path]:
    """A sealer at work on a server's log, as `simtrail serve` runs it; the data folder."""
    data = Path(str(server.process.args[-1]))  # type: ignore[index]
    process = subprocess.Popen([*SEAL, str(data)], cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        yield data
    finally:
        process.terminate()
        process.wait(START_S)


@contextmanager
def posting(url: str, bill: Path) -> Iterator[None]:
    """A bill every half second, one after the other, for the length of the context."""
    over = threading.Event()
    failed: list[Exception] = []
    body = bill.read_bytes()

    def post_bills() -> None:
        due = time.monotonic()
        while not over.wait(max(0, due - time.monotonic())):
            due += BILL_EVERY_S
            try:
                urllib.request.urlopen(url, body, START_S).close()  # noqa: S310 - our own server's
            except OSError as error:
                failed.append(error)
                return

    thread = threading.Thread(target=post_bills)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if failed:
        raise failed[0]


def watch_memory(folder: Path, posts: int, seconds: float) -> None:
    """Print the receiver's memory along many posts, and that each is in the log."""
    small = folder / "small.json"
    small.write_bytes(body_of(SMALL))
    print(f"\n### Memory over {posts:,} posts of {SMALL}\n")
    print("| posts | MB |")
    print("|--:|--:|")
    with started(folder, RECEIVE) as server:
        done, told = 0, 0
        while done < posts:
            one = load(server, small, seconds)
            done += one.load.posts
            if done * 10 // posts > told:
                told = done * 10 // posts
                say(f"memory: {done:,} posts")
                print(f"| {done:,} | {server.memory_mb():.1f} |")
        print(f"\nAt most: {server.memory_mb('VmHWM'):.1f} MB.", end=" ")
        (path,) = folder.glob("*/log.db")
        with open_to_read(path) as log:
            # A client that ends does not count what it has not read: the log may have more, never less.
            print(f"Answered: {done:,}; in the log: {log.head():,}.")


def draw_curve(folder: Path, events: int) -> None:
    """Print what appends cost while the log grows."""
    delivery = Delivery(instant(datetime.now(UTC)), "main", "127.0.0.1", {}, body_of(SMALL)[:200])

    def group(size: int) -> list[WebhookReceived]:
        now = datetime.now(UTC)
        return [WebhookReceived(uuid7(now, os.urandom), 1, delivery) for _ in range(size)]

    print(f"\n### Appends while the log grows, {GROUP} events of {len(delivery.body)} bytes a commit\n")
    print("| events in the log | events/s | p50 ms | p99 ms | log MB |")
    print("|--:|--:|--:|--:|--:|")
    path = folder / "log.db"
    at = 0
    with open_to_append(path) as log:
        for mark in MARKS:
            while at < mark * events:
                at = log.append(group(FILL))[-1]
            say(f"appends: at {at:,} events")
            before, taken = at, []
            for _ in range(GROUPS_AT_MARK):
                batch = group(GROUP)
                begun = time.perf_counter()
                at = log.append(batch)[-1]
                taken.append(time.perf_counter() - begun)
            p50, p99 = statistics.median(taken) * 1000, statistics.quantiles(taken, n=100)[98] * 1000
            size = path.stat().st_size / 1e6
            print(f"| {before:,} | {GROUP * len(taken) / sum(taken):,.0f} | {p50:.2f} | {p99:.2f} | {size:,.0f} |")


@contextmanager
def started(folder: Path, command: Sequence[str]) -> Iterator[Server]:
    """A server on a new data folder, for the length of the context."""
    data = Path(tempfile.mkdtemp(dir=folder))
    secret = sources.add(data / "sources.json", "main", now=datetime.now(UTC), entropy=os.urandom)
    errors = data / "errors"
    with errors.open("wb") as err:
        process = subprocess.Popen([*command, str(data)], cwd=ROOT, stdout=subprocess.PIPE, stderr=err)
    try:
        yield Server(process, _url(process, errors, secret))
    finally:
        process.terminate()
        process.wait(START_S)
        if process.stdout:
            process.stdout.close()


def _url(process: subprocess.Popen[bytes], errors: Path, secret: str) -> str:
    """Where the server takes deliveries, once it says so: a whole URL on its output, or ours on its errors."""
    if process.stdout is None:
        raise TypeError(process)
    os.set_blocking(process.stdout.fileno(), False)
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        if said := process.stdout.read():
            return said.decode().strip()
        _, found, rest = errors.read_text().partition("Receiving at ")
        if found and ";" in rest:
            return f"{rest.split(';')[0]}{sources.webhook_path('main', secret)}"
        time.sleep(0.05)
    msg = f"{' '.join(map(str, process.args))} did not start: {errors.read_text()[-500:]}"  # type: ignore[arg-type]
    raise RuntimeError(msg)


def load(server: Server, body: Path, seconds: float, *, bundled: bool = False) -> Run:
    """One server under load once."""
    before = server.cpu_s()
    seen = post(server.url, body, connections=CONNECTIONS, seconds=seconds, bundled=bundled)
    return Run(seen, server.cpu_s() - before)


def body_of(size: str) -> bytes:
    """A body of a size as the platform sends it: job callbacks of some SIM cards; a bill with its file."""
    if size == "1MB":
        return bill_of(1024 * 1024)
    cards, comment = {"0.5KB": (1, 145), "1KB": (4, 68), "20KB": (100, 76)}[size]
    card = {"msisdn": "79001234567", "status": "active", "balance": "100.00", "comment": "x" * comment}
    items = [{"id": n, "iccid": f"89701{n:015}", **card} for n in range(cards)]
    job = {
        "qid": "q-1f4a",
        "added": 1767261600,
        "queue": "sim_lock",
        "handler": "https://example.org/webhooks/main/0",
        "items": items,
        "user": {"id": 7, "first_name": "A", "last_name": "B", "company_id": 3},
        "status": {"count": cards, "process": cards, "percentage": 100},
    }
    return json.dumps(job).encode()


def bill_of(size: int) -> bytes:
    """A bill whose body has about so many bytes."""
    content = base64.b64encode(os.urandom(size * 3 // 4)).decode()
    file = {"type": "base64", "format": "application/pdf", "name": "bill.pdf", "body": content}
    return json.dumps({"type": "generate_bill", "files": [file], "items": [{"id": 501, "amount": "12345.67"}]}).encode()


def say(text: str) -> None:
    """Tell what is being done."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
