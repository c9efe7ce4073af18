from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import subprocess
import threading
from contextlib import closing
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from click.testing import CliRunner

from audit import append as capture
from audit import backup as backups
from audit.backup import SUMS, BackupError, back_up
from audit.command import main
from audit.folder import DataFolder
from ingest import sources
from schema.errors import ConfigurationError, LogNotThere
from schema.log import open_to_append, open_to_read
from schema.tables import FOLDED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schema.event import Event
    from schema.log import Log
    from tests.conftest import Eventually, Serve, Start


ROOT = Path(__file__).parents[2]


def quiet(_share: float) -> None:
    """Nobody looks at the bar."""


def record(log: Log, *bodies: bytes) -> None:
    captured = [("x", body) for body in bodies]
    list(capture.append(log, captured, "main", now=lambda: datetime.now(UTC), entropy=os.urandom))


def events(path: Path) -> list[Event]:
    found: list[Event] = []
    with open_to_read(path) as log:
        while page := log.after(found[-1].position if found else 0):
            found += page
    return found


def rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(path)) as connection:
        return {
            table.name: connection.execute(f"SELECT * FROM {table.name} ORDER BY {', '.join(table.key)}").fetchall()
            for table in FOLDED
        }


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DataFolder]:
    """An installation with a configuration, a source and three events, whose log is open elsewhere."""
    folder = DataFolder(tmp_path / "data")
    folder.path.mkdir()
    sources.add(folder.sources, "main", now=datetime.now(UTC), entropy=os.urandom)
    folder.configuration.write_text("redelivery_window_s = 60\n")
    with open_to_append(folder.log_file) as log:
        record(log, b"{}", b"\0\xff", b"x" * 100_000)
        yield folder


def test_a_drill_while_the_receiver_writes(tmp_path: Path, serve: Serve, start: Start, eventually: Eventually) -> None:
    """A backup made under load, restored to another folder, has each event acknowledged before, and gives the same tables."""
    data = tmp_path / "data"
    url = serve(data).webhook_url
    serials, over = count(), threading.Event()
    acknowledged: dict[int, str] = {}

    def deliver() -> None:
        with httpx.Client() as sender:
            while not over.is_set():
                n = next(serials)
                body = {"qid": f"q-{n % 7}", "queue": "sim_lock", "items": [{"msisdn": f"7900000{n % 50:04}"}]}
                answer = sender.post(url, json=body | {"serial": n}).json()
                acknowledged[answer["position"]] = answer["sha256"]

    sender = threading.Thread(target=deliver)
    sender.start()
    try:
        eventually(lambda: len(acknowledged) > 50)
        before = dict(acknowledged)
        making = start("backup", f"--data={data}", str(tmp_path / "copy"))
        assert making.process.wait(60) == 0, making.err.read_text()
        after = len(acknowledged)
        eventually(lambda: len(acknowledged) > after)
    finally:
        over.set()
        sender.join()

    subprocess.run(["sha256sum", "--check", "--quiet", SUMS], check=True, cwd=tmp_path / "copy")  # noqa: S607
    restored = tmp_path / "restored"
    (tmp_path / "copy").rename(restored)
    kept = events(restored / "log.db")
    assert kept == events(data / "log.db")[: len(kept)]
    assert [event.position for event in kept] == list(range(1, len(kept) + 1))
    assert before.items() <= {e.position: hashlib.sha256(e.delivery.body).hexdigest() for e in kept}.items()
    assert f"{len(kept)} events up to position {len(kept)}," in making.out.read_text()
    again = serve(restored, "--base-url=http://x")
    assert again.webhook_url == ""
    digest = next(iter(before.values()))
    eventually(lambda: httpx.get(f"{again.datasette_url}audit/deliveries.json?sha256={digest}").json()["rows"])
    assert again.running.stop(15) == 0
    assert len(rows(restored / "audit.db")["deliveries"]) == len(kept)


def test_the_restored_log_gives_the_same_tables(folder: DataFolder, tmp_path: Path) -> None:
    """Projecting the copy makes the tables that projecting the original makes, row for row."""
    back_up(folder, tmp_path / "copy", quiet)

    for path in (folder.path, tmp_path / "copy"):
        assert CliRunner().invoke(main, ["project", "--once", "--data", str(path)]).exit_code == 0

    assert rows(folder.read_model) == rows(tmp_path / "copy" / "audit.db")
    assert len(rows(folder.read_model)["deliveries"]) == 3


def test_what_is_in_a_backup(folder: DataFolder, tmp_path: Path) -> None:
    """It has the files that can't be made again, byte for byte or event for event, for their owner alone."""
    made = back_up(folder, tmp_path / "copy", quiet)

    copy = DataFolder(tmp_path / "copy")
    assert {path.name for path in copy.path.iterdir()} == {"log.db", "sources.json", "simtrail.toml", SUMS}
    assert made.files == ("log.db", "simtrail.toml", "sources.json")
    assert copy.sources.read_bytes() == folder.sources.read_bytes()
    assert copy.configuration.read_bytes() == folder.configuration.read_bytes()
    assert {path.stat().st_mode & 0o777 for path in copy.path.iterdir()} == {0o600}
    assert copy.path.stat().st_mode & 0o777 == 0o700
    states = hashlib.sha256()
    with closing(sqlite3.connect(folder.log_file)) as log:
        for (state,) in log.execute("SELECT state FROM stored_events ORDER BY rowid"):
            states.update(hashlib.sha256(state).digest())
    assert (made.events, made.head, made.sha256) == (3, 3, states.hexdigest())
    assert events(copy.log_file) == events(folder.log_file)


def test_what_a_backup_holds_is_what_its_help_says(folder: DataFolder, tmp_path: Path) -> None:
    """And what operating.md says: all files that can't be made again, but for the key."""
    for file in (folder.users, folder.sealing):
        file.write_text("")
    with closing(sqlite3.connect(folder.seals)) as seals:
        seals.execute("CREATE TABLE heads (size)")
    folder.seal_key.touch()

    copied = set(back_up(folder, tmp_path / "copy", quiet).files)

    told = CliRunner().invoke(main, ["backup", "--help"]).stdout.partition("It gets ")[2].partition(", as far as")[0]
    assert set(re.findall(r"[a-z]+\.[a-z]+", told)) == copied
    written = (ROOT / "docs/operating.md").read_text().partition("\ncopies ")[2].partition(", as far as")[0]
    assert set(re.findall(r"`([a-z.]+)`", written)) == copied


def test_positions_go_on_where_the_copy_ends(folder: DataFolder, tmp_path: Path) -> None:
    """A restored log takes the next position, and is as append-only as the one it is a copy of."""
    back_up(folder, tmp_path / "copy", quiet)

    with open_to_append(tmp_path / "copy" / "log.db") as log:
        record(log, b"later")
        assert log.head() == 4
    with (
        closing(sqlite3.connect(tmp_path / "copy" / "log.db")) as connection,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        connection.execute("DELETE FROM stored_events")


def test_positions_are_those_of_the_log_even_with_holes(folder: DataFolder, tmp_path: Path) -> None:
    """Where a log has been tampered with, the copy still numbers its events as the log does."""
    with closing(sqlite3.connect(folder.log_file)) as connection:
        connection.execute("DROP TRIGGER stored_events_no_delete")
        connection.execute("DELETE FROM stored_events WHERE rowid = 2")
        connection.commit()

    made = back_up(folder, tmp_path / "copy", quiet)

    assert (made.events, made.head) == (2, 3)
    assert [event.position for event in events(tmp_path / "copy" / "log.db")] == [1, 3]


def test_the_copy_is_of_one_moment(folder: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is appended between two steps of copying is not in the copy, and the copying neither waits nor begins anew."""
    monkeypatch.setattr(backups, "PAGES", 1)
    told: list[float] = []
    with open_to_append(folder.log_file, checkpoints=False) as log:

        def tell(share: float) -> None:
            told.append(share)
            record(log, b"meanwhile")

        made = back_up(folder, tmp_path / "copy", tell)

    assert made.head == 3
    assert told == sorted(told)
    assert len(told) > 10
    assert told[-1] == 1
    assert len(events(folder.log_file)) == 3 + len(told)


def test_seals_are_copied_before_the_log(folder: DataFolder, tmp_path: Path) -> None:
    """What is sealed in a backup is in its log, since seals are taken first; all their rows are there."""
    with closing(sqlite3.connect(folder.path / "seals.db")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE anchors (size INTEGER PRIMARY KEY)")
        connection.execute("INSERT INTO anchors VALUES (3)")
        connection.commit()
        made = back_up(folder, tmp_path / "copy", quiet)

    assert made.files == ("log.db", "seals.db", "simtrail.toml", "sources.json")
    with closing(sqlite3.connect(tmp_path / "copy" / "seals.db")) as connection:
        assert connection.execute("SELECT size FROM anchors").fetchall() == [(3,)]


def test_nothing_is_overwritten(folder: DataFolder, tmp_path: Path) -> None:
    """A target that is there, even as a dangling link, is refused before anything is read."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("nowhere")

    for name in ("file", "folder", "link"):
        with pytest.raises(ConfigurationError, match="is there already"):
            back_up(folder, tmp_path / name, quiet)
    with pytest.raises(ConfigurationError, match="there is no folder"):
        back_up(folder, tmp_path / "none" / "copy", quiet)

    assert (tmp_path / "file").read_text() == "mine"


def test_no_log_is_no_backup(tmp_path: Path) -> None:
    """Where nothing was ever received, an empty backup would only feign safety."""
    with pytest.raises(LogNotThere, match="nothing to back up"):
        back_up(DataFolder(tmp_path), tmp_path / "copy", quiet)


def test_a_damaged_log_is_told_and_leaves_nothing(folder: DataFolder, tmp_path: Path) -> None:
    """A file that SQLite finds damaged becomes no backup, since it would push out good ones."""
    with closing(sqlite3.connect(folder.log_file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with folder.log_file.open("r+b") as file:
        file.seek(2 * size)
        file.write(b"\xff" * size)

    with pytest.raises(BackupError, match=r"damaged|malformed"):
        back_up(folder, tmp_path / "copy", quiet)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_a_copy_that_differs_is_told_and_leaves_nothing(
    folder: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single byte of one event is enough: the copy is compared, not trusted."""
    copied = backups._copy

    def copy_badly(source: sqlite3.Connection, path: Path, tell: object) -> None:
        copied(source, path, tell)  # type: ignore[arg-type]
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("DROP TRIGGER stored_events_no_update")
            connection.execute("UPDATE stored_events SET state = CAST(state || x'00' AS BLOB) WHERE rowid = 2")
            connection.commit()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    monkeypatch.setattr(backups, "_copy", copy_badly)

    with pytest.raises(BackupError, match="position 2 is not the log's"):
        back_up(folder, tmp_path / "copy", quiet)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_the_command_tells_what_it_made(folder: DataFolder, tmp_path: Path) -> None:
    """It prints the events, the position and the hash on one line, and fails with one line."""
    target = tmp_path / "copy"

    result = CliRunner().invoke(main, ["backup", str(target), "--data", str(folder.path)])
    again = CliRunner().invoke(main, ["backup", str(target), "--data", str(folder.path)])

    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{target}: 3 events up to position 3, sha256 ")
    assert (again.exit_code, again.stdout) == (1, "")
    assert "is there already" in again.stderr
