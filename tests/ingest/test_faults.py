"""Disks that fail, are full or may not be written: what the receiver answers, says, and does afterwards."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from schema.log import open_to_read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.ingest.conftest import Process, Strace

DEADLINE_S = 20

BODY = b'"' + b"x" * 5_000 + b'"'

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"

WAL = "log.db-wal"

GOES_ON = "takes up again by itself"
RESTART = "refuses all until it is started again"
ACCEPTS = "accepts again by itself; who was connected is served all the while"


@dataclass(frozen=True)
class Fault:
    """A row of the table: what is wrong, what the sender sees, what the receiver says, and what it does afterwards.

    ``begin`` makes it so for a receiver that runs, and gives what ends it.
    """

    name: str
    sender: str
    says: str
    afterwards: str
    begin: Callable[[Process, Callable[[Process, str, str], Strace]], Callable[[], object]]


def call(inject: str) -> Callable[[Process, Callable[[Process, str, str], Strace]], Callable[[], object]]:
    """A system call on the WAL fails."""
    return lambda receiver, tamper: tamper(receiver, inject, WAL).let_go


def locked(receiver: Process, _tamper: object) -> Callable[[], object]:
    """Another process is writing to the log, and does not come to an end."""
    other = sqlite3.connect(receiver.folder / "log.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other.close


def full(receiver: Process, _tamper: object) -> Callable[[], object]:
    """Nothing is left of a small file system."""
    filling = receiver.folder / "filling"
    with filling.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    return filling.unlink


def out_of_descriptors(receiver: Process, _tamper: object) -> Callable[[], object]:
    """No file descriptor is left for a second connection."""
    return receiver.take_descriptors(1)


FAULTS = [
    Fault("the disk is full (a small tmpfs)", "503", "database or disk is full", GOES_ON, full),
    Fault("a write fails with ENOSPC", "503", "database or disk is full", GOES_ON, call("pwrite64:error=ENOSPC")),
    Fault("a write fails with EIO", "503", "disk I/O error", GOES_ON, call("pwrite64:error=EIO")),
    Fault("a write fails with EROFS", "503", "disk I/O error", GOES_ON, call("pwrite64:error=EROFS")),
    Fault("fsync fails with EIO", "503", "disk I/O error", RESTART, call("fdatasync:error=EIO:when=1")),
    Fault("fsync fails with ENOSPC", "503", "disk I/O error", RESTART, call("fdatasync:error=ENOSPC:when=1")),
    Fault("another process holds the log", "503", "database is locked", GOES_ON, locked),
    Fault("too many open files", "no answer", "Too many open files", ACCEPTS, out_of_descriptors),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_costs_no_acknowledged_delivery(
    folder: Path,
    mount: Callable[..., None],
    receive: Callable[..., Process],
    tamper: Callable[[Process, str, str], Strace],
    fault: Fault,
):
    """It is answered 503, or not at all; `/readyz` and the receiver's own log say what it is; then it is as the table says."""
    if fault.begin is full:
        mount("-t", "tmpfs", "-o", "size=1m", "simtrail-test", str(folder))
    receiver = receive()
    with httpx.Client(base_url=receiver.url, timeout=DEADLINE_S) as kept:

        def until(status: int) -> httpx.Response:
            deadline = time.monotonic() + DEADLINE_S
            while (answer := kept.get("/readyz")).status_code != status:
                assert time.monotonic() < deadline, answer.text
                time.sleep(0.05)
            return answer

        until(200)
        assert kept.post(receiver.path, content=b'"before"').status_code == 200
        end = fault.begin(receiver, tamper)
        sent = [receiver.post(BODY) for _ in range(2)]
        unready = until(503)

        def said() -> bool:
            return any(fault.says in str(line.get("reason")) and line["level"] != "info" for line in receiver.lines())

        deadline = time.monotonic() + DEADLINE_S
        while not said():
            assert time.monotonic() < deadline, receiver.lines()
            time.sleep(0.05)
        end()
        assert sent == [fault.sender] * 2
        assert fault.says in unready.text
        assert int(unready.headers["retry-after"]) > 0
        if fault.afterwards == RESTART:
            assert receiver.post(BODY) == "503"
            assert until(503).json()["writer"] == {"running": False, "remedy": "start the receiver again"}
            assert receiver.end() == 1
            acknowledged = [b'"before"']
        else:
            until(200)
            assert receiver.post(b'"after"') == "200"
            assert receiver.end() == 0
            acknowledged = [b'"before"', b'"after"']
    again = receive()
    assert again.post(b'"again"') == "200"
    with open_to_read(folder / "log.db") as log:
        kept_bodies = [event.delivery.body for event in log.after(0)]
    assert [body for body in kept_bodies if body != BODY] == [*acknowledged, b'"again"']
    # What was refused may be there all the same, if it was the fsync that failed; else it is not.
    assert kept_bodies.count(BODY) <= (1 if fault.afterwards == RESTART else 0)


def test_the_page_says_the_same():
    """The table that operators read has a row for each fault, and in it what the test found."""
    expected = [["what is wrong", "the sender sees", "`/readyz` and the log say", "once it is mended, the receiver"]]
    expected += [[fault.name, fault.sender, fault.says, fault.afterwards] for fault in FAULTS]
    text = PAGE.read_text().partition("## Faults\n")[2].partition("\n## ")[0]
    lines = [line.strip("|\n").split("|") for line in text.splitlines() if line.startswith("|") and "---" not in line]
    assert [[cell.strip() for cell in line] for line in lines] == expected


def test_a_log_that_may_only_be_read_stops_the_start(
    folder: Path, mount: Callable[..., None], receive: Callable[..., Process]
):
    """SQLite would open it as if nothing were wrong; the receiver says so at once, rather than to each sender."""
    receiver = receive()
    assert receiver.post(b"{}") == "200"
    assert receiver.end() == 0
    log = str(folder / "log.db")
    mount("--bind", log, log)
    mount("-o", "remount,bind,ro", log)
    with pytest.raises(AssertionError, match="attempt to write a readonly database"):
        receive()


CALL = re.compile(r"^(\d+) +([\d.]+) (?:(\w+)\((.*)|<\.\.\. (\w+) resumed>(.*))$")


@dataclass(frozen=True)
class Call:
    """A system call: when it was entered and when it returned, in lines of the trace, and all that is written of it."""

    name: str
    begun: int
    ended: int
    text: str


def calls(trace: str) -> Iterator[Call]:
    """The calls in what `strace -f -ttt` wrote, those put together that were cut in two."""
    unfinished: dict[tuple[str, str], tuple[int, str]] = {}
    for number, line in enumerate(trace.splitlines()):
        if (match := CALL.match(line)) is None:
            continue
        thread, _, name, rest, resumed, end = match.groups()
        if name and rest.endswith("<unfinished ...>"):
            unfinished[thread, name] = number, rest
        elif name:
            yield Call(name, number, number, rest)
        elif (thread, resumed) in unfinished:
            begun, start = unfinished.pop((thread, resumed))
            yield Call(resumed, begun, number, start + end)


def test_no_answer_is_sent_before_its_fsync_returned(tmp_path: Path, receive: Callable[..., Process]):
    """In the order of the system calls: the body is written to the WAL, the WAL is fsynced, the answer is sent."""
    program = shutil.which("strace")
    if program is None:
        pytest.skip("needs strace")
    receiver = receive()
    trace = tmp_path / "trace"
    what = "trace=pwrite64,write,writev,sendto,sendmsg,fsync,fdatasync"
    arguments = ["-f", "-ttt", "-y", "-s", "20000", "-o", str(trace), "-e", what]
    arguments += [f"--attach={process}" for process in (receiver.process.pid, receiver.appender)]
    with subprocess.Popen([program, *arguments], stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        if "attached" not in (said := strace.stderr.readline()):
            pytest.skip(f"strace may not trace here: {said}")
        with httpx.Client(base_url=receiver.url, timeout=DEADLINE_S) as client:
            answers = [client.post(receiver.path, content=b'"marker %03d"' % n) for n in range(20)]
        strace.terminate()
    seen = list(calls(trace.read_text()))
    written = [each for each in seen if "log.db-wal>" in each.text and each.name in {"pwrite64", "write"}]
    synced = [
        each
        for each in seen
        if "log.db-wal>" in each.text and each.name in {"fsync", "fdatasync"} and each.text.endswith("= 0")
    ]
    sent = [
        each for each in seen if each.name in {"write", "writev", "sendto", "sendmsg"} and "HTTP/1.1 200" in each.text
    ]
    assert len(answers) == len(sent) == 20
    for n, answer in enumerate(answers):
        # A page is written again with each later body that it takes in: the first time counts.
        body = next(each for each in written if f"marker {n:03}" in each.text)
        assert answer.status_code == 200
        assert any(body.ended < sync.begun and sync.ended < sent[n].begun for sync in synced)
