from __future__ import annotations

import os
import threading
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from audit import append as capture
from audit.folder import DataFolder
from audit.status import caught_up, status
from ingest import sources
from projections.follower import follow
from schema.configuration import load
from schema.errors import ConfigurationError, LogError, ReadModelError
from schema.log import open_to_append

if TYPE_CHECKING:
    from pathlib import Path

START = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return DataFolder(tmp_path)


def record(folder: DataFolder, *bodies: bytes) -> None:
    times = iter(START + timedelta(seconds=n) for n in range(len(bodies)))
    with open_to_append(folder.log) as log:
        captured = [("x", body) for body in bodies]
        list(capture.append(log, captured, "main", now=lambda: next(times), entropy=os.urandom))


def project(folder: DataFolder) -> None:
    follow(folder.log, folder.read_model, lambda: load(folder.configuration), stop=threading.Event(), once=True)


def test_a_fresh_folder_has_nothing(folder: DataFolder) -> None:
    """Where nothing was recorded yet, all counts are zero, and looking makes no file."""
    assert asdict(status(folder)) == {
        "head": 0,
        "projected": 0,
        "lag": 0,
        "standstill": None,
        "sources": (),
        "deliveries": 0,
        "quarantine": 0,
        "last_received_at": None,
        "sealed": 0,
        "refusals": (),
    }
    assert list(folder.path.iterdir()) == []


def test_an_empty_log_has_nothing_either(folder: DataFolder) -> None:
    """A log without an event has no last one."""
    record(folder)

    assert (status(folder).head, status(folder).last_received_at) == (0, None)
    assert caught_up(folder)


def test_what_is_recorded_and_not_projected_is_lag(folder: DataFolder) -> None:
    """Lag counts the events that the read model lacks: all without one, none once it has caught up."""
    sources.add(folder.sources, "main", now=START, entropy=os.urandom)
    sources.add(folder.sources, "also", now=START, entropy=os.urandom)
    record(folder, b"{}", b"not json", b'{"type": "msu_lock", "items": [{"iccid": "8970100000000000013"}]}')

    before = status(folder)
    assert not caught_up(folder)
    project(folder)
    after = status(folder)
    assert caught_up(folder)
    record(folder, b"{}")
    behind = status(folder)

    assert (before.head, before.projected, before.lag, before.deliveries, before.quarantine) == (3, 0, 3, 0, 0)
    assert (after.head, after.projected, after.lag, after.deliveries, after.quarantine) == (3, 3, 0, 3, 2)
    assert (behind.head, behind.projected, behind.lag, behind.deliveries, behind.quarantine) == (4, 3, 1, 3, 2)
    assert after.sources == ("main", "also")
    assert after.last_received_at == "2026-05-01T00:00:02.000000Z"


def test_a_read_model_that_is_only_being_made_has_nothing(folder: DataFolder) -> None:
    """Between the read model's file and its tables, the projector has read nothing yet."""
    record(folder, b"{}")
    folder.read_model.touch()

    assert (status(folder).projected, status(folder).lag) == (0, 1)


def test_it_can_be_asked_while_others_write(folder: DataFolder) -> None:
    """An open log and a read model that is being written answer as they last were committed."""
    record(folder, b"{}")
    project(folder)
    with open_to_append(folder.log) as log:
        list(capture.append(log, [("x", b"{}")], "main", now=lambda: START, entropy=os.urandom))

        assert (status(folder).head, status(folder).projected, status(folder).lag) == (2, 1, 1)


@pytest.mark.parametrize(
    ("file", "error"),
    [("log.db", LogError), ("audit.db", ReadModelError), ("sources.json", ConfigurationError)],
)
def test_a_damaged_file_is_an_error(folder: DataFolder, file: str, error: type[Exception]) -> None:
    """What can't be read is said, instead of told as nothing."""
    (folder.path / file).write_bytes(b"no such thing at all, and longer than a header" * 100)

    with pytest.raises(error, match=r"can't be read|damaged"):
        status(folder)
