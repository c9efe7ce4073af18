"""The first deliveries: of each body, the one that its repeats are measured against."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

_encode = msgspec.json.Encoder().encode

PUBLISHED = """
    SELECT d.source, d.sha256, d.position, d.received_at
    FROM json_each(?) asked CROSS JOIN deliveries d ON d.sha256 = asked.value
    WHERE d.repeat_of IS NULL AND d.voided_by IS NULL AND d.kind <> 'correction'
    ORDER BY d.position
"""
"""Those among the deliveries of a read model."""


SLOTS = 2**20
"""Chains of first deliveries in a rebuild, at most: 8 MB. Where there are more events, each looks through some of another hash."""

STORED = """
    CREATE TABLE first_deliveries (
        position INTEGER PRIMARY KEY, source TEXT, sha256 TEXT, received_at TEXT, before INTEGER
    )
"""
"""Those of a rebuild, in the order in which they come: an index by sha256 would be written at another place for each."""


class FirstDeliveries(Protocol):
    """By source and sha256 of a body, position and time of its newest delivery that is no repeat."""

    def ask(self, sha256s: Iterable[str]) -> None:
        """Prepare to be asked for these: those of a page of events."""

    def get(self, source: str, sha256: str) -> tuple[int, str] | None:
        """Position and time of the newest delivery of this body that is no repeat."""

    def note(self, source: str, sha256: str, position: int, received_at: str) -> None:
        """Let `get` find a delivery whose row is not written yet."""

    def clear(self) -> None:
        """Forget what was noted: it is written, or given up."""


class PublishedFirstDeliveries:
    """Those of a read model that is followed: a page's are looked up at once, what the page itself brings is noted."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._known: dict[tuple[str, str], tuple[int, str]] = {}
        self._asked: set[str] = set()

    def ask(self, sha256s: Iterable[str]) -> None:
        """Look these up, as far as they were not."""
        missing = [sha256 for sha256 in sha256s if sha256 not in self._asked]
        if not missing:
            return
        self._asked.update(missing)
        for source, sha256, position, received_at in self._connection.execute(PUBLISHED, (_encode(missing),)):
            known = self._known.get((source, sha256))
            if known is None or known[0] < position:
                self._known[source, sha256] = (position, received_at)

    def get(self, source: str, sha256: str) -> tuple[int, str] | None:
        """Position and time of the newest delivery of this body that is no repeat."""
        if sha256 not in self._asked:
            self.ask([sha256])
        return self._known.get((source, sha256))

    def note(self, source: str, sha256: str, position: int, received_at: str) -> None:
        """Let `get` find a delivery whose row is not written yet."""
        self._known[source, sha256] = (position, received_at)

    def clear(self) -> None:
        """Forget all."""
        self._known.clear()
        self._asked.clear()


class StoredFirstDeliveries:
    """Those of a rebuild, in a scratch file: each leads to the one before it whose source and sha256 have the same hash."""

    def __init__(self, connection: sqlite3.Connection, events: int) -> None:
        """``events`` is about how many there will be."""
        connection.execute(STORED)
        self._connection = connection
        self._newest = array("Q", bytes(8 * min(SLOTS, 4 * events + 1)))
        self._noted: dict[int, tuple[str, str, str, int]] = {}

    def ask(self, sha256s: Iterable[str]) -> None:
        """Nothing: most bodies never came before, which is told without a look-up."""

    def get(self, source: str, sha256: str) -> tuple[int, str] | None:
        """Position and time of the newest delivery of this body that is no repeat."""
        position = self._newest[self._slot(source, sha256)]
        while position:
            of, its, received_at, before = self._noted.get(position) or self._stored(position)
            if its == sha256 and of == source:
                return position, received_at
            position = before
        return None

    def note(self, source: str, sha256: str, position: int, received_at: str) -> None:
        """Let `get` find a delivery from now on."""
        slot = self._slot(source, sha256)
        self._noted[position] = source, sha256, received_at, self._newest[slot]
        self._newest[slot] = position

    def write(self) -> None:
        """Keep what was noted in the file, no longer in memory."""
        self._connection.executemany(
            "INSERT INTO first_deliveries VALUES (?, ?, ?, ?, ?)",
            ((position, *noted) for position, noted in self._noted.items()),
        )
        self._noted.clear()

    def clear(self) -> None:
        """Nothing: a rebuild gives nothing up."""

    def _slot(self, source: str, sha256: str) -> int:
        # Python's own hash, which no sender can foresee: bodies made to meet in one slot would take ever longer.
        return hash((source, sha256)) % len(self._newest)

    def _stored(self, position: int) -> tuple[str, str, str, int]:
        found: tuple[str, str, str, int] = self._connection.execute(
            "SELECT source, sha256, received_at, before FROM first_deliveries WHERE position = ?", (position,)
        ).fetchone()
        return found
