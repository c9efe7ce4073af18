from __future__ import annotations

import sqlite3
from contextlib import closing

from projections import first_deliveries
from projections.first_deliveries import StoredFirstDeliveries


def test_deliveries_that_share_a_slot_are_told_apart(monkeypatch):
    """Whatever meets by its hash, in memory or in the file, the newest of the same body and source is found, or none."""
    monkeypatch.setattr(first_deliveries, "SLOTS", 1)
    with closing(sqlite3.connect(":memory:")) as connection:
        first = StoredFirstDeliveries(connection, 10)
        first.note("main", "aa", 1, "t1")
        first.note("other", "aa", 2, "t2")
        first.note("main", "bb", 3, "t3")
        first.write()
        first.note("main", "aa", 4, "t4")

        assert first.get("main", "aa") == (4, "t4")
        assert first.get("other", "aa") == (2, "t2")
        assert first.get("main", "bb") == (3, "t3")
        assert first.get("other", "bb") is None
