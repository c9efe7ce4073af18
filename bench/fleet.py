"""Receivers and projectors of one log on a server, senders that note what they were answered, and what must then be true."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ingest import sources
from projections.digest import digests
from projections.read_model import tracked
from schema.log import open_to_read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema.log_place import Server

ROOT = Path(__file__).parents[1]

DEADLINE_S = 120
"""How long anything that must come may take: far beyond what it takes."""

ANSWER_S = 30
"""How long a sender waits for an answer, as the platform might."""

REFUSED_S = 0.02
"""How long a sender that was refused waits before its next delivery: one that is counted, and not a flood."""

ICCID = 8_970_100_000_000_000_000


def body_of(serial: int) -> bytes:
    """The body with a serial number: a notice about one card, of about a kilobyte."""
    noise = f"{serial * 2_654_435_761 % 2**64:016x}" * 50
    return b'{"serial": %d, "type": "package_empty", "items": [{"iccid": "%d", "note": "%s"}]}' % (
        serial,
        ICCID + serial % 5_000,
        noise.encode(),
    )


def serial_in(body: bytes) -> int:
    """The serial number of a body."""
    return int(body[11 : body.index(b",")])


@dataclass
class Ledger:
    """What was sent, and what it was answered. Each body is sent once."""

    serials: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    acknowledged: dict[int, int] = field(default_factory=dict)
    """Position by serial."""
    refused: int = 0
    unanswered: int = 0
    wrong: list[str] = field(default_factory=list)
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by a 200."""

    def answer(self, serial: int, status: int, content: bytes) -> None:
        """Take an answer down."""
        if status == 200:  # noqa: PLR2004 - OK
            receipt = json.loads(content)
            if receipt["sha256"] != hashlib.sha256(body_of(serial)).hexdigest():
                self.wrong.append(
                    f"the receipt of position {receipt['position']} has another sha256 than what was sent"
                )
            self.acknowledged[serial] = receipt["position"]
            self.answered.set()
        elif status == 503:  # noqa: PLR2004 - Service Unavailable
            self.refused += 1
        else:
            self.wrong.append(f"answered {status}: {content.decode(errors='replace')}")


@dataclass
class Fleet:
    """N receivers of one data folder and M projectors, each into a folder of its own."""

    log: Server
    folder: Path
    receivers: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    projectors: dict[Path, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        secret = sources.add(self.folder / "sources.json", "main", now=datetime.now(UTC), entropy=os.urandom)
        self.path = sources.webhook_path("main", secret)

    def start(self, receivers: int, projectors: int) -> None:
        """Start them all; returns when the receivers answer."""
        for _ in range(receivers):
            with closing(socket.create_server(("127.0.0.1", 0))) as listener:
                port = listener.getsockname()[1]
            self.start_receiver(port)
        for n in range(projectors):
            folder = self.folder / f"projector-{n}"
            folder.mkdir()
            self.projectors[folder] = self._run("project", f"--data={folder}")
        for port in self.receivers:
            wait_for_port(port)

    def start_receiver(self, port: int) -> None:
        """Start one, or start it again."""
        self.receivers[port] = self._run("receive", f"--data={self.folder}", f"--port={port}")

    def stop(self) -> list[str]:
        """Stop all as asked; what went wrong in that."""
        wrong = []
        for process in (*self.receivers.values(), *self.projectors.values()):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            elif process.returncode != -signal.SIGKILL:
                wrong.append(f"{process.args!r} ended by itself with {process.returncode}: {self.said()}")
        for process in (*self.receivers.values(), *self.projectors.values()):
            try:
                process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                wrong.append(f"{process.args!r} did not stop")
        return wrong

    def said(self) -> str:
        """The end of what the processes said."""
        return (self.folder / "lines").read_text()[-3000:]

    def _run(self, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "SIMTRAIL_LOG": self.log.url}
        with (self.folder / "lines").open("ab") as lines:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "audit", *arguments], stdout=lines, stderr=lines, env=environment
            )


def wait_for_port(port: int) -> None:
    """Return when somebody listens."""
    until = time.monotonic() + DEADLINE_S
    while time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)
    raise TimeoutError(port)


async def send(ledger: Ledger, path: str, ports: Sequence[int], first: int, stop: asyncio.Event) -> None:
    """One sender: connects to a receiver, or the next if that one is gone, and posts until told to stop."""
    for port in itertools.islice(itertools.cycle(ports), first, None):
        if stop.is_set():
            return
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(REFUSED_S)
            continue
        with suppress(OSError, asyncio.IncompleteReadError, TimeoutError), closing(writer):
            while not stop.is_set():
                serial = next(ledger.serials)
                body = body_of(serial)
                ledger.unanswered += 1
                head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                async with asyncio.timeout(ANSWER_S):
                    answer = await reader.readuntil(b"\r\n\r\n")
                    length = int(answer.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                    content = await reader.readexactly(length)
                ledger.unanswered -= 1
                status = int(answer.split(b" ", 2)[1])
                ledger.answer(serial, status, content)
                if status != 200:  # noqa: PLR2004 - OK
                    await asyncio.sleep(REFUSED_S)
                if b"connection: close" in answer.lower():
                    break


@dataclass
class Verdict:
    """What a fleet's log and read models hold, against what its senders were answered."""

    stored: int = 0
    missing: int = 0
    moved: int = 0
    doubled: int = 0
    altered: int = 0
    refused_but_stored: int = 0
    agree: bool = False
    wrong: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether nothing is amiss."""
        return self.agree and not (self.missing or self.moved or self.doubled or self.altered or self.wrong)


def judge(fleet: Fleet, ledger: Ledger) -> Verdict:
    """Read the log once, in order, and compare; then compare the read models with each other, and with one made anew."""
    verdict = Verdict(wrong=[*ledger.wrong])
    seen: dict[int, int] = {}
    with open_to_read(fleet.log) as log:
        head, position = log.head(), 0
        while page := log.after(position):
            for event in page:
                position += 1
                if event.position != position:
                    verdict.wrong.append(f"position {event.position} follows {position - 1}")
                    position = event.position
                serial = serial_in(event.delivery.body)
                verdict.stored += 1
                verdict.doubled += serial in seen
                verdict.altered += event.delivery.body != body_of(serial)
                seen[serial] = position
    verdict.missing = len(ledger.acknowledged.keys() - seen.keys())
    verdict.moved = sum(seen.get(serial, at) != at for serial, at in ledger.acknowledged.items())
    verdict.refused_but_stored = len(seen.keys() - ledger.acknowledged.keys())
    anew = fleet.folder / "anew"
    anew.mkdir()
    subprocess.run(
        [sys.executable, "-P", "-m", "audit", "project", "--once", f"--data={anew}"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "SIMTRAIL_LOG": fleet.log.url},
        check=True,
    )
    folders = [*fleet.projectors, anew]
    until = time.monotonic() + DEADLINE_S
    while any((tracked(folder / "audit.db") or 0) < head for folder in folders) and time.monotonic() < until:
        time.sleep(0.1)
    verdict.wrong += fleet.stop()
    found = set()
    for folder in folders:
        with closing(sqlite3.connect(folder / "audit.db")) as connection:
            found.add((tracked(folder / "audit.db"), json.dumps(digests(connection), sort_keys=True, default=str)))
    verdict.agree = len(found) == 1 and next(iter(found))[0] == head
    return verdict
