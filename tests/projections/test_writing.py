from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from bench import callbacks
from projections import rebuild
from projections.follower import follow
from schema.configuration import Configuration
from schema.log import open_to_read

EVENTS = 1_000
"""Some 5,000 rows of history: what one statement adds is strewn over more pages of an index than SQLite keeps for it in memory."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what a process has written is told by Linux's /proc")


def written() -> int:
    """Bytes that this process has handed to the kernel to write, be it twice or to a file that is gone again."""
    told = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(told["wchar"])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of job callbacks."""
    path = tmp_path / "log.db"
    callbacks.append(path, EVENTS)
    return path


def test_following_writes_each_page_twice(log, tmp_path):
    """A page goes to SQLite's log and from there to the file; nothing is written to undo a single statement."""
    before = written()
    follow(log, tmp_path / "audit.db", Configuration, stop=threading.Event(), once=True)
    assert written() - before < 3 * (tmp_path / "audit.db").stat().st_size


def test_a_rebuild_writes_each_page_once(log, tmp_path):
    """Neither the file nor what waits beside it is written for each row."""
    before = written()
    with open_to_read(log) as opened:
        rebuild.build(opened, tmp_path / "built.db", Configuration())
    assert written() - before < 1.5 * (tmp_path / "built.db").stat().st_size
