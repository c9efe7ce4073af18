"""A small world to project: deliveries into a log, the log into tables, the tables as values."""

from __future__ import annotations

import hashlib
import itertools
import json
import sqlite3
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from projections import read_model, replacement
from projections.corrections import is_void
from projections.follower import apply, follow
from projections.reading import read
from projections.record import INSTALLED
from schema import correction as corrections
from schema.configuration import Configuration
from schema.correction import Correction
from schema.decode import Decoder
from schema.event import CorrectionRecorded, Delivery, WebhookReceived, instant, uuid7
from schema.log import open_to_append, open_to_read
from schema.search import SEARCHES
from schema.tables import BY_NAME, FOLDED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from schema.correction import Subject
    from schema.event import Event

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
"""A Monday."""


@dataclass
class World:
    """One log and its read model. `send` appends, `project` follows, `rows` looks."""

    folder: Path
    now: datetime = START
    configuration: Configuration = field(default_factory=Configuration)

    def __post_init__(self) -> None:
        self.log = self.folder / "log.db"
        self.audit = self.folder / "audit.db"
        self._serial = itertools.count()
        self._log = open_to_append(self.log)

    def send(self, body: object, *, after: timedelta = timedelta(seconds=1), source: str = "main") -> int:
        """Append one body (bytes as they are, else as JSON); its position."""
        self.now += after
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        entropy = hashlib.sha256(str(next(self._serial)).encode()).digest()
        delivery = Delivery(instant(self.now), source, "127.0.0.1", {"content-type": "application/json"}, raw)
        return self._log.append([WebhookReceived(uuid7(self.now, lambda n: entropy[:n]), 1, delivery)])[0]

    def correct(self, subject: Subject, key: str, value: str | None = None, source: str = "main") -> int:
        """Append a correction; its position."""
        body = corrections.encode(Correction(subject, key, value, "A. Auditor", "seen on paper"))
        self.now += timedelta(seconds=1)
        entropy = hashlib.sha256(f"correction {next(self._serial)}".encode()).digest()
        delivery = Delivery(instant(self.now), source, "correction", {}, body)
        return self._log.append([CorrectionRecorded(uuid7(self.now, lambda n: entropy[:n]), 1, delivery)])[0]

    def project(self) -> None:
        """Follow the log to its end."""
        follow(self.log, self.audit, lambda: self.configuration, stop=threading.Event(), once=True)

    def fold_into(self, path: Path, batches: Iterable[int]) -> Path:
        """Fold the whole log into another read model, in batches of these sizes, then of all that is left."""
        decoder = Decoder(self.configuration)
        model = read_model.open_to_write(path, self.configuration)
        position = 0
        with open_to_read(self.log) as log:
            for size in itertools.chain(batches, itertools.repeat(1_000_000)):
                page = log.after(position, max_events=size)
                if not page:
                    break
                plain = list(itertools.takewhile(lambda event: not is_void(event), page))
                if plain:
                    position = apply(model, read(plain, decoder), since=position)
                else:
                    position = replacement.replace(
                        log, path, self.configuration, last=page[0].position, reason="void", by=INSTALLED
                    )
        model.close()
        return path

    def apply(self, model: read_model.LiveModel, page: list[Event]) -> None:
        """Fold a page, as the follower does."""
        apply(model, read(page, Decoder(self.configuration)), since=page[0].position - 1)

    def rows(self, sql: str, *parameters: object) -> list[dict[str, Any]]:
        """Rows of the read model, after following the log."""
        self.project()
        connection = sqlite3.connect(self.audit)
        connection.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in connection.execute(sql, parameters)]
        finally:
            connection.close()

    def row(self, sql: str, *parameters: object) -> dict[str, Any]:
        """The one row."""
        (row,) = self.rows(sql, *parameters)
        return row

    def close(self) -> None:
        """Check the log and the read model that the test leaves behind."""
        self._log.close()
        with open_to_read(self.log) as log:
            assert [event.position for event in log.after(0, max_events=1_000_000)] == list(range(1, log.head() + 1))
        if self.audit.exists():
            check(self.audit)


def check(audit: Path) -> None:
    """The read model is whole: integrity, foreign keys, sums that follow from rows."""
    connection = sqlite3.connect(audit)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        drifted = connection.execute(
            """
            SELECT source FROM accounts
            WHERE open_bills <> (SELECT count(*) FROM bills b WHERE b.source = accounts.source AND paid_at IS NULL)
               OR unpaid_bills <> (SELECT count(*) FROM bills b WHERE b.source = accounts.source
                                   AND paid_at IS NULL AND stage <> 'issued')
            """,
        ).fetchall()
        assert drifted == []
        for column in ("iccid", "imsi", "msisdn", "platform_id"):
            shared = (
                f"SELECT {column} FROM sims WHERE {column} IS NOT NULL GROUP BY source, {column} HAVING count(*) > 1"
            )
            assert connection.execute(shared).fetchall() == []
        late = """
            SELECT job FROM jobs
            WHERE late_callbacks <> (SELECT count(*) FROM job_progress p WHERE p.job = jobs.job AND effect = 'late')
               OR callbacks <> (SELECT count(*) FROM job_progress p WHERE p.job = jobs.job)
        """
        assert connection.execute(late).fetchall() == []
        for table in ("sim_attributes", "bill_attributes"):
            assert connection.execute(f"SELECT * FROM {table} WHERE attributes IN ('', '{{}}')").fetchall() == []
        ours = "SELECT count(*), (SELECT count(*) FROM delivery_contents) FROM deliveries"
        assert len(set(connection.execute(ours).fetchone())) == 1
        for search in SEARCHES:
            # Fails unless the index is that of the rows as they are.
            connection.execute(f"INSERT INTO {search.name}({search.name}, rank) VALUES ('integrity-check', 1)")
        connection.rollback()
    finally:
        connection.close()


def dump(audit: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table that is a function of the log, in the order of the keys."""
    connection = sqlite3.connect(audit)
    try:
        return {
            table.name: connection.execute(f"SELECT * FROM {table.name} ORDER BY {', '.join(table.key)}").fetchall()
            for table in (*FOLDED, BY_NAME["tracking"])
        }
    finally:
        connection.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="session")
def new_world() -> type[World]:
    """For properties, which make a world for each example."""
    return World


@pytest.fixture(scope="session")
def tables_of() -> Any:
    return dump


@pytest.fixture(scope="session")
def whole() -> Any:
    return check


@pytest.fixture(scope="session")
def samples() -> list[bytes]:
    folder = Path(__file__).parents[1] / "samples"
    return [path.read_bytes() for path in sorted(folder.glob("*.json"))]
