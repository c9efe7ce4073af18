"""Asking: every page and canned query over five million rows of history, against plain Datasette on the same file.

    python bench/query.py [--rows 5000000] [--runs 7] [--folder FOLDER] [--paths REGEX]
    python bench/query.py --fill --folder FOLDER        # only make the data folder, which a later run takes

Prints Markdown on standard output, and what it is doing on standard error. `simtrail publish` and
`datasette` with its default settings serve the same file, one after the other, to one client over
HTTP, in milliseconds until the whole answer has come:

    cold     the first answer, with nothing of the file in the system's page cache
    warm     the median of the runs that follow
    writing  the same while the projector's own fold writes 1,000 events a second to the file

Plain Datasette knows no canned queries: it is given their SQL. Where it gives up, or leaves
something out since its time was over, the cell says so.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import httpx
import msgspec

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from audit import folder as folders  # noqa: E402 - run as a script, from the repository itself
from audit import publish  # noqa: E402
from bench import callbacks, history  # noqa: E402
from projections.follower import apply  # noqa: E402
from projections.read_model import open_to_write  # noqa: E402
from projections.reading import read  # noqa: E402
from schema.configuration import Configuration  # noqa: E402
from schema.decode import Decoder  # noqa: E402
from schema.event import Delivery, Event, instant  # noqa: E402
from schema.log import open_to_append  # noqa: E402
from schema.tables import BY_NAME  # noqa: E402
from schema.views import VIEWS  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS = 5_000_000
EVENTS_A_SECOND = 1_000
EVENTS_A_PAGE = 100
START_S = 60
ANSWER_S = 60

TARGET_MS = 150
FRONT_TARGET_MS = 100
WHILE_WRITING = 2
"""Times as long at most while the projector writes."""

SIM, JOB, BILL = "main:8970199000000004242", "main:q-0012345", "main:1042"
TILDE = str.maketrans({":": "~3A", "-": "-"})


def pages() -> dict[str, str]:
    """Every page, by what it is called in the table: its path with us."""
    mine = {
        "front page": "/",
        "one SIM card": f"/sim/{SIM.translate(TILDE)}",
        "one job": f"/job/{JOB.translate(TILDE)}",
        "one bill": f"/bill/{BILL.translate(TILDE)}",
        "one delivery": "/delivery/500000",
        "form of an export": "/-/export",
        "list of tables": "/audit",
        "row of `sims`": f"/audit/sims/{SIM.translate(TILDE)}",
        "row of `deliveries`": "/audit/deliveries/500000",
    }
    tables = {f"`{name}`": f"/audit/{name}" for name in (*BY_NAME, *VIEWS)}
    asked = {
        "history of one card": f"/audit/sim_events?{urlencode({'sim': SIM})}",
        "`sims`, searched": "/audit/sims?_search=4242",
    }
    return mine | tables | asked


def questions() -> dict[str, tuple[str, dict[str, str]]]:
    """Every canned query, as its page opens, and some with what people ask."""
    opened: dict[str, tuple[str, dict[str, str]]] = {f"`{name}`": (name, {}) for name in queries()}
    year_ago = (datetime.now(UTC) - timedelta(days=365)).date().isoformat()
    return opened | {
        "`timeline_of_sim`, a card": ("timeline_of_sim", {"sim": SIM}),
        "`sims_as_of`, a year ago": ("sims_as_of", {"moment": year_ago}),
        "`progress_of_job`, a job": ("progress_of_job", {"job": JOB}),
        "`search`, part of a number": ("search", {"text": "4242"}),
        "`search`, a frequent word": ("search", {"text": "lock"}),
        "`search_users`, a name": ("search_users", {"text": "вымышл"}),
        "`search_bodies`, a word": ("search_bodies", {"text": "gateway"}),
        "`happened_between`, an hour": ("happened_between", {"since": f"{year_ago}T10:00Z", "until": f"{year_ago}T11:00Z"}),
    }  # fmt: skip


def queries() -> dict[str, dict[str, Any]]:
    """The canned queries of metadata.yml."""
    metadata = msgspec.yaml.decode(publish.metadata_path().read_bytes())
    found: dict[str, dict[str, Any]] = metadata["databases"]["audit"]["queries"]
    return found


def main() -> None:
    """Fill a folder, ask both, and tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of sim_events (default %(default)s)")
    parser.add_argument("--runs", type=int, default=7, help="warm answers of each (default %(default)s)")
    parser.add_argument("--folder", type=Path, help="a data folder to take, or to make and leave")
    parser.add_argument("--paths", default="", help="only what is called like this regular expression")
    parser.add_argument("--fill", action="store_true", help="only make the folder")
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        write(arguments.folder / "audit.db")
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary) / "data"
        if not (folder / "audit.db").exists():
            fill(folder, arguments.rows)
        if not arguments.fill:
            measure(folder, arguments.runs, re.compile(arguments.paths))


def fill(folder: Path, rows: int) -> None:
    """A data folder with so much history, and an empty log."""
    say(f"filling {folder} with {rows:,} rows of sim_events")
    folders.create(folder)
    open_to_append(folder / "log.db").close()
    partial = folder / "audit.db.partial"
    partial.unlink(missing_ok=True)
    history.fill(partial, rows, datetime.now(UTC))
    partial.rename(folder / "audit.db")


def measure(folder: Path, runs: int, only: re.Pattern[str]) -> None:
    """Ask both, and print the table."""
    read_model = folder / "audit.db"
    ours: dict[str, str] = pages() | {
        name: f"/audit/{query}?{urlencode(given)}" for name, (query, given) in questions().items()
    }
    plain = (
        {name: path for name, path in pages().items() if path.startswith("/audit")}
        | {
            name: f"/audit?{urlencode({'sql': queries()[query]['sql']} | dict.fromkeys(queries()[query]['params'], '') | given)}"
            for name, (query, given) in questions().items()
        }
        | {"front page": "/"}
    )
    names = [name for name in ours if only.search(name)]
    with serving([sys.executable, "-P", "-m", "datasette", "serve", str(read_model)]) as client:
        theirs = {name: asked(client, read_model, plain[name], min(runs, 3)) for name in names if name in plain}
    with serving([sys.executable, "-P", "-m", "audit", "publish", f"--data={folder}"]) as client:
        mine = {name: asked(client, read_model, ours[name], runs) for name in names}
        with writing(folder):
            meanwhile = {name: asked(client, None, ours[name], runs) for name in names}
    tell(names, theirs, mine, meanwhile)


class Asked(msgspec.Struct, frozen=True):
    """How long a page took: cold, then each time, in milliseconds; ``fault`` if it wasn't whole."""

    cold: float
    warm: float
    fault: str = ""

    def __str__(self) -> str:
        return f"{self.warm:,.0f}{f' ({self.fault})' if self.fault else ''}"


def asked(client: httpx.Client, read_model: Path | None, path: str, runs: int) -> Asked:
    """Ask for a page, first with nothing of a file in memory."""
    say(f"  {path[:100]}")
    if read_model is not None:
        drop(read_model)
    times, fault = [], ""
    for _ in range(runs + 1):
        begun = time.perf_counter()
        try:
            answer = client.get(path)
        except httpx.HTTPError as error:
            return Asked(0, 0, type(error).__name__)
        times.append((time.perf_counter() - begun) * 1_000)
        fault = fault_of(answer)
    return Asked(times[0], statistics.median(times[1:]), fault)


def fault_of(answer: httpx.Response) -> str:
    """What is wrong with an answer, if it isn't the page that was asked for."""
    timed_out = "timed out" in answer.text or "time limit" in answer.text
    if answer.status_code != httpx.codes.OK:
        return "timed out" if timed_out else f"HTTP {answer.status_code}"
    return "in part" if timed_out or "interrupted" in answer.text else ""


def drop(read_model: Path) -> None:
    """Let the system forget what it holds of a file in memory."""
    for file in (read_model, read_model.with_name(read_model.name + "-wal")):
        if file.exists():
            descriptor = os.open(file, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


@contextmanager
def serving(command: list[str]) -> Iterator[httpx.Client]:
    """Run a server, and give a client of it once it answers."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    say(" ".join(command[3:5]))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SIMTRAIL_")}
    with (
        subprocess.Popen(
            [*command, "--port", str(port)],
            env=environment | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=ANSWER_S, trust_env=False) as client,
    ):
        try:
            until = time.monotonic() + START_S
            while True:
                try:
                    client.get("/-/versions.json")
                    break
                except httpx.TransportError:
                    if process.poll() is not None or time.monotonic() > until:
                        sys.exit(f"{' '.join(command)} does not answer")
                    time.sleep(0.1)
            yield client
        finally:
            process.send_signal(signal.SIGTERM)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Let a process write to a read model meanwhile; to a copy's worth of its own, which is rolled back by nobody."""
    command = [sys.executable, __file__, "--write", "--folder", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None  # noqa: S101 - a pipe, as asked for
            process.stdout.readline()
            yield
        finally:
            process.terminate()
            process.wait()


def write(read_model: Path) -> None:
    """Fold job callbacks into a read model at a steady pace, as the projector does, until told to end."""
    configuration = Configuration()
    model, decoder = open_to_write(read_model, configuration), Decoder(configuration)
    position, begun, done = model.position(), time.monotonic(), 0
    bodies = callbacks.bodies(10_000_000, seed=position)
    while True:
        now = instant(datetime.now(UTC))
        page = [
            Event(position + number, Delivery(now, "main", "192.0.2.1", {}, next(bodies)))
            for number in range(1, EVENTS_A_PAGE + 1)
        ]
        position = apply(model, read(page, decoder), since=position)
        if not done:
            print("writing", flush=True)
        done += EVENTS_A_PAGE
        time.sleep(max(0.0, begun + done / EVENTS_A_SECOND - time.monotonic()))


def tell(names: list[str], theirs: dict[str, Asked], mine: dict[str, Asked], meanwhile: dict[str, Asked]) -> None:
    """Print the table, and what misses its target."""
    print("| page | plain, cold | plain, warm | cold | **warm** | while writing |")
    print("|---|--:|--:|--:|--:|--:|")
    for name in names:
        plain = theirs.get(name)
        shown = (f"{plain.cold:,.0f}", str(plain)) if plain else ("", "")
        print(f"| {name} | {shown[0]} | {shown[1]} | {mine[name].cold:,.0f} | **{mine[name]}** | {meanwhile[name]} |")
    missed = [
        name
        for name in names
        if mine[name].fault
        or meanwhile[name].fault
        or mine[name].warm > (FRONT_TARGET_MS if name == "front page" else TARGET_MS)
        or meanwhile[name].warm > WHILE_WRITING * mine[name].warm
    ]
    print(f"\nTargets missed: {', '.join(missed) or 'none'}.")


def say(what: str) -> None:
    """Tell what is being done."""
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
