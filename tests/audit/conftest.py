"""An installation that is sealed: a log, its key and its seals, driven without time."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from audit import keys, seals, verification
from audit.sealer import seal, seal_batch
from schema.event import Delivery, WebhookReceived, instant, uuid7
from schema.log import open_to_append, open_to_read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from starlette.types import ASGIApp

    from audit.seals import Head
    from audit.verification import Report

STARTED_AT = datetime(2026, 5, 1, tzinfo=UTC)
ORIGIN = "simtrail.example/test"


class Entropy:
    """Bytes that never come twice, and always the same in each run."""

    def __init__(self, seed: str = "") -> None:
        self.seed = seed
        self.count = 0

    def __call__(self, size: int) -> bytes:
        """So many bytes."""
        self.count += 1
        return hashlib.shake_256(f"{self.seed}{self.count}".encode()).digest(size)


class Installation:
    """A log, its key and its seals in a folder. Time passes by a second with each event and each look."""

    def __init__(self, folder: Path, origin: str = ORIGIN) -> None:
        self.folder = folder
        self.origin = origin
        self.now = STARTED_AT
        self.entropy = Entropy(folder.name)
        self.appender = open_to_append(folder / "log.db")
        self.log = open_to_read(folder / "log.db")
        self.seals, self.signer = keys.start(
            folder / "seal.key", folder / "seals.db", origin=origin, entropy=self.entropy, now=self.now
        )

    def clock(self) -> datetime:
        """A second later than before."""
        self.now += timedelta(seconds=1)
        return self.now

    def receive(self, *bodies: bytes) -> list[int]:
        """Append events with these bodies; their positions."""
        return self.appender.append([self.event(body) for body in bodies])

    def receive_many(self, count: int) -> list[int]:
        """Append so many events; their positions."""
        return self.receive(*(json.dumps({"n": n, "at": instant(self.now)}).encode() for n in range(count)))

    def event(self, body: bytes) -> WebhookReceived:
        """An event that is not in the log yet."""
        now = self.clock()
        delivery = Delivery(instant(now), "main", "127.0.0.1", {"content-type": "application/json"}, body)
        return WebhookReceived(uuid7(now, self.entropy), 1, delivery)

    def seal(self) -> Head:
        """Seal all that is in the log; the last head."""
        seal(self.log, self.seals, self.signer, clock=self.clock, stop=threading.Event(), once=True)
        head = self.seals.last(signed=True)
        assert head is not None
        return head

    def batch(self) -> Head | None:
        """Seal one batch."""
        return seal_batch(self.log, self.seals, self.signer, now=self.clock())

    def sealed(self, *counts: int) -> Installation:
        """Receive and seal so many events each time, an anchor for each."""
        for count in counts:
            self.receive_many(count)
            self.seal()
        return self

    def verify(self, **options: Any) -> Report:
        """Verify as another process does."""
        with seals.open_to_read(self.folder / "seals.db") as reader:
            return verification.verify(self.log, reader, **options)

    def close(self) -> None:
        """As at the end."""
        self.appender.close()
        self.log.close()
        self.seals.close()

    def reopen(self) -> None:
        """As after a restart."""
        self.close()
        self.appender = open_to_append(self.folder / "log.db")
        self.log = open_to_read(self.folder / "log.db")
        self.seals, self.signer = keys.start(
            self.folder / "seal.key", self.folder / "seals.db", entropy=self.entropy, now=self.now
        )

    def tamper(self, name: str, *statements: str, **parameters: object) -> None:
        """Change a database behind everyone's back, its triggers dropped."""
        self.close()
        with closing(sqlite3.connect(self.folder / name, isolation_level=None)) as connection:
            for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                connection.execute(f"DROP TRIGGER {trigger}")
            for statement in statements:
                connection.execute(statement, parameters)
        self.reopen()

    def save(self, *names: str) -> None:
        """Keep a copy of files, to be put back."""
        self.close()
        for name in names:
            shutil.copy(self.folder / name, self.folder / f"{name}.old")
        self.reopen()

    def put_back(self, *names: str) -> None:
        """Roll files back to the copies kept."""
        self.close()
        for name in names:
            for leftover in self.folder.glob(f"{name}-*"):
                leftover.unlink()
            shutil.copy(self.folder / f"{name}.old", self.folder / name)
        self.reopen()


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Installation]:
    """An installation without events."""
    installation = Installation(tmp_path)
    yield installation
    installation.close()


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Installation]:
    """Makes further installations, of other origins, for whoever closes them."""

    def make(origin: str = ORIGIN) -> Installation:
        return Installation(tmp_path_factory.mktemp("installation"), origin)

    return make


class InProcess(httpx.BaseTransport):
    """Calls an ASGI application, each request in an event loop of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self.inner = httpx.ASGITransport(app)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Called by httpx."""

        async def call() -> httpx.Response:
            request.read()
            sent = httpx.Request(request.method, request.url, headers=request.headers, content=request.content)
            answer = await self.inner.handle_async_request(sent)
            return httpx.Response(answer.status_code, headers=answer.headers, content=await answer.aread())

        return asyncio.run(call())


@pytest.fixture
def calling() -> Callable[[ASGIApp], httpx.Client]:
    """A client of an application in this process."""
    return lambda app: httpx.Client(transport=InProcess(app), base_url="http://witness.example")


@pytest.fixture
def entropy() -> Entropy:
    return Entropy("test")
