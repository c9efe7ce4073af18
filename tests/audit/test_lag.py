"""How far the read model is behind, as the receiver tells it."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from audit import append as capture
from audit.folder import DataFolder
from audit.lag import lag
from ingest.readiness import Lag
from projections.follower import follow
from schema.configuration import load
from schema.errors import ReadModelError
from schema.log import open_to_append

if TYPE_CHECKING:
    from pathlib import Path

START = datetime(2026, 5, 1, tzinfo=UTC)


def test_lag_is_what_is_recorded_and_not_read(tmp_path: Path) -> None:
    """In events, and in seconds since the oldest of them came; none of either where all is read."""
    folder = DataFolder(tmp_path)

    def record(*seconds: int) -> None:
        times = iter(START + timedelta(seconds=second) for second in seconds)
        with open_to_append(folder.log) as log:
            bodies = [("x", b"{}")] * len(seconds)
            list(capture.append(log, bodies, "main", now=lambda: next(times), entropy=os.urandom))

    record(0, 1)
    with pytest.raises(ReadModelError, match="no projector has run here yet"):
        lag(folder, START)
    follow(folder.log, folder.read_model, lambda: load(folder.configuration), stop=threading.Event(), once=True)
    assert lag(folder, START + timedelta(days=1)) == Lag(2, 0, 0.0)
    record(10, 20, 30)
    assert lag(folder, START + timedelta(seconds=31)) == Lag(2, 3, 21.0)
    assert lag(folder, START) == Lag(2, 3, 0.0)  # A clock that was put back.
