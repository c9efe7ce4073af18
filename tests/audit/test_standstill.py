"""Why projecting stands still, as `simtrail status`, `/readyz` and the front page tell it."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from audit import append as capture
from audit.folder import DataFolder, hold
from audit.lag import lag
from audit.standstill import standstill
from audit.status import status
from projections import rebuild, replacement
from projections.follower import follow
from schema.configuration import load
from schema.errors import ReadModelOutdated
from schema.log import open_to_append

if TYPE_CHECKING:
    from pathlib import Path

START = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    """A log of one event, and its read model."""
    folder = DataFolder(tmp_path)
    with open_to_append(folder.log) as log:
        list(capture.append(log, [("x", b"{}")], "main", now=lambda: START, entropy=os.urandom))
    project(folder)
    return folder


def project(folder: DataFolder) -> None:
    follow(folder.log, folder.read_model, lambda: load(folder.configuration), stop=threading.Event(), once=True)


def mark(folder: DataFolder, model_version: int) -> None:
    with closing(sqlite3.connect(folder.read_model)) as connection, connection:
        connection.execute("UPDATE tracking SET model_version = ?", (model_version,))


def configure(folder: DataFolder, text: str) -> None:
    folder.configuration.write_text(text)


def test_nothing_is_said_where_projecting_goes_on(folder: DataFolder, tmp_path: Path) -> None:
    """Neither of tables that can be gone on with, nor where none are made yet."""
    assert standstill(folder) is None
    assert standstill(DataFolder(tmp_path / "elsewhere")) is None


def test_another_configuration_is_said_until_it_is_rebuilt_or_taken_back(folder: DataFolder) -> None:
    """With the remedy, in the words of the projector that waits."""
    configure(folder, '[queues]\nsimhold = "lock"\n')
    with pytest.raises(ReadModelOutdated) as refused:
        project(folder)
    told = standstill(folder)
    assert told == str(refused.value)
    assert "another configuration" in told
    assert "`simtrail rebuild`" in told
    assert (status(folder).standstill, lag(folder, START).standstill) == (told, told)
    folder.configuration.unlink()
    assert (status(folder).standstill, lag(folder, START).standstill) == (None, None)


def test_a_rebuild_that_is_asked_for_already_is_said(folder: DataFolder) -> None:
    """Nobody is told to do what is being done; what a killed one left is nothing that is being done."""
    configure(folder, '[queues]\nsimhold = "lock"\n')
    rebuild.beside(folder.read_model).touch()
    assert "at work" not in str(standstill(folder))
    with hold(folder, "rebuild"):
        assert str(standstill(folder)).endswith("; one is at work")


def test_a_configuration_that_can_not_be_used_is_said(folder: DataFolder) -> None:
    """It names the key, and what to do."""
    configure(folder, "time_zone = 7\n")
    assert "time_zone is 7" in str(standstill(folder))
    assert str(standstill(folder)).endswith("projecting goes on by itself once that is put right")


def test_tables_of_another_version_are_said(folder: DataFolder) -> None:
    """Of a newer one that a person has to choose; of an earlier one that the projector sees to it."""
    mark(folder, 9_999)
    assert "run the newer one, or else `simtrail rebuild`" in str(standstill(folder))
    mark(folder, 0)
    assert str(standstill(folder)).endswith("made anew from the log by the projector, without being asked")


def test_tables_that_the_projector_makes_anew_are_said_meanwhile(folder: DataFolder) -> None:
    """While it does so, and not where one was killed in the middle of it."""
    replacement.own(folder.read_model).touch()
    assert standstill(folder) is None
    with hold(folder, "projector"):
        assert "makes the read model anew" in str(standstill(folder))
