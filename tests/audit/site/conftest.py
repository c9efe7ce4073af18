"""A simulated month, published: its folder, its users, and Datasette as `simtrail publish` runs it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from click.testing import CliRunner

from audit import folder as folders
from audit import platform, projector, users
from audit.command import main
from audit.roles import Role
from ingest import sources
from schema.event import Delivery, WebhookReceived, instant, uuid7
from schema.log import open_to_append

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from audit.folder import DataFolder

DEADLINE_S = 60
DELIVERIES = 600
CARDS = 80
PASSWORD = "a password of this test"  # noqa: S105 - of users made for it
ROOT = Path(__file__).parents[3]


def append_month(folder: DataFolder, number: int = DELIVERIES, cards: int = CARDS, seed: int = 1) -> None:
    """A month's deliveries in a log, each received when the simulated platform sent it, up to now."""
    now = datetime.now(UTC)
    start = now.replace(hour=0, minute=0, second=0, microsecond=0) - platform.SPAN
    events = []
    for at, body in platform.timed(seed, number, cards, start):
        if at > now:
            break
        headers = {"content-type": "application/json", "content-length": str(len(body)), "user-agent": "platform/2.1"}
        delivery = Delivery(instant(at), "main", "203.0.113.7", headers, body)
        events.append(WebhookReceived(uuid7(at, os.urandom), 1, delivery))
    with open_to_append(folder.log) as log:
        log.append(events)


@pytest.fixture(scope="session")
def month(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    """The folder, projected and sealed, with a user of each role. Read it; change a copy."""
    folder = folders.create(tmp_path_factory.mktemp("month") / "data")
    now = datetime.now(UTC)
    sources.add(folder.sources, "main", now=now, entropy=os.urandom)
    append_month(folder)
    projector.run(folder, once=True)
    assert CliRunner().invoke(main, ["seal", "--once", f"--data={folder.path}"]).exit_code == 0
    for role in Role:
        users.add(folder.users, role.value, role, PASSWORD, now=now - timedelta(days=1), entropy=os.urandom)
    return folder


@pytest.fixture(scope="session")
def password() -> str:
    """The password of every user of the month."""
    return PASSWORD


@pytest.fixture(scope="session", name="publish")
def give_publish() -> Callable[..., AbstractContextManager[str]]:
    """Run `simtrail publish` on a folder, with options; its URL."""
    return publish


@pytest.fixture(scope="session", name="browser")
def give_browser() -> Callable[..., httpx.Client]:
    """A client that is to a server what a browser is."""
    return browser


@pytest.fixture(scope="session", name="log_in")
def give_log_in() -> Callable[..., httpx.Response]:
    """Fill in the form of the login."""
    return log_in


@contextmanager
def publish(folder: DataFolder, *options: str) -> Iterator[str]:
    """Run `simtrail publish` on a folder, and give its URL once it answers."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out = folder.path / "publish.out"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SIMTRAIL_")}
    with out.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "audit", "publish", f"--data={folder.path}", f"--port={port}", *options],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment | {"PYTHONPATH": str(ROOT)},
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                httpx.get(f"{url}/-/versions.json", trust_env=False)
                break
            except httpx.TransportError:
                assert process.poll() is None, out.read_text()
                assert time.monotonic() < deadline, out.read_text()
                time.sleep(0.05)
        yield url
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def published(month: DataFolder) -> Iterator[str]:
    """The month's Datasette."""
    with publish(month) as url:
        yield url


def browser(url: str, **options: object) -> httpx.Client:
    """What a browser is to a server: it keeps cookies, and asks for pages."""
    headers = {"accept": "text/html"}
    return httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=DEADLINE_S, **options)  # type: ignore[arg-type]


def log_in(client: httpx.Client, name: str, password: str = PASSWORD, after: str = "/") -> httpx.Response:
    """Fill in the form."""
    form = client.get("/-/login", params={"next": after})
    token = re.search(r'name="csrftoken" value="([^"]+)"', form.text)
    assert token, form.text
    sent = {"username": name, "password": password, "csrftoken": token[1]}
    return client.post("/-/login", params={"next": after}, data=sent)


@pytest.fixture
def as_role(published: str) -> Iterator[Callable[[Role | None], httpx.Client]]:
    """A browser in which a user of this role is logged in, or nobody."""
    with _open() as opened:

        def begin(role: Role | None) -> httpx.Client:
            client = browser(published)
            opened.append(client)
            if role is not None:
                assert log_in(client, role.value).status_code == 302
            return client

        yield begin


@contextmanager
def _open() -> Iterator[list[httpx.Client]]:
    clients: list[httpx.Client] = []
    try:
        yield clients
    finally:
        for client in clients:
            client.close()
