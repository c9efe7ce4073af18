from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import pytest

from bench.cluster import Postgres, make_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from schema.log_place import Server

T = TypeVar("T")

ROOT = Path(__file__).parents[1]

DEADLINE_S = 60
"""Far beyond what anything awaited takes, on a machine that is busy with other things."""

COMMANDS = {"receiver": "receive", "sealer": "seal", "projector": "project", "Datasette": "publish"}


class Eventually(Protocol):
    """Asks until the answer is true, and gives it."""

    def __call__(self, question: Callable[[], T | None]) -> T:
        """The answer."""


@dataclass(frozen=True)
class Running:
    """A `simtrail` that runs in a process of its own, with its outputs in files."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    def said(self, pattern: str) -> str | None:
        """What the pattern's group matches in what was printed, on either output."""
        found = re.search(pattern, self.out.read_text() + self.err.read_text(), re.MULTILINE)
        return found[1] if found else None

    def children(self) -> dict[str, int]:
        """The ids of the supervised processes, by the names that people know them by."""
        return {
            name: pid
            for pid, (parent, arguments) in processes().items()
            for name, command in COMMANDS.items()
            if parent == self.process.pid and arguments[2:5] == ["-m", "audit", command]
        }

    def helpers(self, *modules: str) -> set[int]:
        """The ids of the processes that run these modules for it; none until all of them do."""
        found = {
            arguments[3]: pid
            for pid, (parent, arguments) in processes().items()
            if parent == self.process.pid and arguments[2:3] == ["-m"]
        }
        return {found[module] for module in modules} if found.keys() >= set(modules) else set()

    def kill_child(self, name: str) -> None:
        """End a supervised process without warning."""
        os.kill(self.children()[name], signal.SIGKILL)

    def left(self, pids: Iterable[int]) -> set[int]:
        """Those of these processes that still run."""
        return set(pids) & processes().keys()

    def stop(self, number: int) -> int:
        """Send it a signal; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)


def processes() -> dict[int, tuple[int, list[str]]]:
    """The processes that run, by their ids: each one's parent and command line. One that has ended is none."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("needs /proc")
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if state not in "ZX":
                found[int(folder.name)] = (int(parent), os.fsdecode((folder / "cmdline").read_bytes()).split("\0"))
    return found


class Start(Protocol):
    """Starts `simtrail` with these arguments."""

    def __call__(self, *arguments: str, stderr: int | None = None) -> Running:
        """The process."""


@pytest.fixture
def environment() -> dict[str, str]:
    """Variables for a process of ours: this repository's packages, and no setting of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SIMTRAIL_")}
    return kept | {"PYTHONPATH": str(ROOT)}


@pytest.fixture
def eventually() -> Eventually:
    """Ask until the answer is true, and give it."""

    def ask(question: Callable[[], T | None]) -> T:
        deadline = time.monotonic() + DEADLINE_S
        while not (answer := question()):
            assert time.monotonic() < deadline, "it did not come true in time"
            time.sleep(0.02)
        return answer

    return ask


@pytest.fixture
def start(tmp_path: Path, environment: dict[str, str]) -> Iterator[Start]:
    """Start `simtrail` processes; what still runs of them is killed at the end, and its children with it."""
    running: list[Running] = []

    def begin(*arguments: str, stderr: int | None = None) -> Running:
        out, err = (tmp_path / f"{len(running)}.{name}" for name in ("out", "err"))
        with out.open("wb") as out_file, err.open("wb") as err_file:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "audit", *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out_file,
                stderr=err_file if stderr is None else stderr,
            )
        running.append(Running(process, out, err))
        return running[-1]

    yield begin
    for each in running:
        each.process.kill()
        each.process.wait()


@dataclass(frozen=True)
class Serving:
    """A `simtrail serve` whose two URLs answer. ``webhook_url`` is empty but on a first start."""

    running: Running
    webhook_url: str
    datasette_url: str


class Serve(Protocol):
    """Starts `simtrail serve` on a data folder and awaits that it answers."""

    def __call__(self, data: Path, *options: str) -> Serving:
        """The process, and where it answers."""


@pytest.fixture
def serve(start: Start, eventually: Eventually) -> Serve:
    """Start `simtrail serve` on a data folder, on free ports, and wait until both URLs answer."""

    def begin(data: Path, *options: str) -> Serving:
        running = start("serve", f"--data={data}", "--port=0", "--publish-port=0", *options)

        def announced() -> str | None:
            assert running.process.poll() is None, running.err.read_text()
            return running.said(r"^Datasette URL: (http://\S+)$")

        datasette_url = eventually(announced)
        return Serving(running, running.said(r"^Webhook URL: (http://\S+)$") or "", datasette_url)

    return begin


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL for all tests. SIMTRAIL_POSTGRES_BIN names another than the one that comes with the tests."""
    with Postgres() as server:
        server.make().start()
        yield server


@pytest.fixture
def server_log(request: pytest.FixtureRequest) -> Server:
    """A new and empty log on that server, or the one that SIMTRAIL_POSTGRES_URL names, as the application's role finds it."""
    if url := os.environ.get("SIMTRAIL_POSTGRES_URL"):
        return make_log(url, "log")
    server: Postgres = request.getfixturevalue("postgres")
    return server.make_log("log")
