"""The first deliveries: of each body, the one that its repeats are measured against."""

from __future__ import annotations

from typing import TYPE_CHECKING

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


class FirstDeliveries:
    """By source and sha256 of a body, position and time of its newest delivery that is no repeat.

    Asked for a page of events at once; what the page itself brings is `note`d.
    """

    def __init__(self, connection: sqlite3.Connection, select: str = PUBLISHED) -> None:
        self._connection = connection
        self._select = select
        self._known: dict[tuple[str, str], tuple[int, str]] = {}
        self._asked: set[str] = set()
        self._noted: set[tuple[str, str]] = set()

    def ask(self, sha256s: Iterable[str]) -> None:
        """Look these up, as far as they were not."""
        missing = [sha256 for sha256 in sha256s if sha256 not in self._asked]
        if not missing:
            return
        self._asked.update(missing)
        for source, sha256, position, received_at in self._connection.execute(self._select, (_encode(missing),)):
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
        self._noted.add((source, sha256))

    def write(self, connection: sqlite3.Connection) -> None:
        """Write what was noted into a table of its own, where no read model's can be asked."""
        connection.executemany(
            "INSERT OR REPLACE INTO first_deliveries VALUES (?, ?, ?, ?)",
            sorted((sha256, source, *self._known[source, sha256]) for source, sha256 in self._noted),
        )
        self.clear()

    def clear(self) -> None:
        """Forget all: what was noted is written, or given up."""
        self._known.clear()
        self._asked.clear()
        self._noted.clear()
