"""Backups: everything of an installation that can't be made again, copied while it runs.

A log is copied by SQLite's online backup, inside one read transaction. So the copy is
the log as it was at one moment, whatever is appended meanwhile, and no append waits. It copies
pages, so that every event keeps its position by construction; `VACUUM INTO` also keeps
them, in the SQLite of today, but SQLite promises that only for tables with an integer key,
which the library's is not. What it costs is the write-ahead log, which grows by what is appended meanwhile.

A log on a server is copied event by event into such a file, as `simtrail log copy` does: a copy that needs no server to be
read, beside what the server's own backups are.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import sys
import tempfile
import threading
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from audit import folder as folders
from audit import log_copy, options
from schema import durable
from schema.errors import ConfigurationError, LogNotThere, SimtrailError
from schema.log import open_to_append, open_to_read
from schema.log_place import Server
from schema.registry import FILE_MODE, FOLDER_MODE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from audit.folder import DataFolder
    from schema.log_place import Place

SUMS = "SHA256SUMS"
"""The list of a backup's files and their hashes, as `sha256sum --check` reads it."""

PAGES = 1_024
"""Pages that one step copies: 4 MB, so that a bar moves."""

EVENTS = "SELECT rowid, originator_id, originator_version, topic, state FROM stored_events ORDER BY rowid"

LOCK_TIMEOUT_S = 10
"""How long to wait for a log that is being opened or closed."""

BAR_STEPS = 200


class BackupError(SimtrailError):
    """A backup can't be made; nothing of it was left."""


@dataclass(frozen=True)
class Backup:
    """What a backup holds: how many events, the position of the last, and one hash for all.

    ``sha256`` is that of the SHA-256 of each event's state, in the order of their positions: two
    logs with the same one have the same events.
    """

    files: tuple[str, ...]
    events: int
    head: int
    sha256: str


def back_up(folder: DataFolder, target: Path, tell: Callable[[float], None]) -> Backup:
    """Copy an installation's log, seals, sources and configuration to a folder that is not there yet.

    It is written beside the target under another name, compared event by event with what it is
    a copy of, and takes its own name once all of it is on disk. ``tell`` is given how much is done, of 1. Raises `ConfigurationError` for a target that can't be,
    `LogNotThere` where there is no log, and `BackupError` for anything else that fails.
    """
    target = target.absolute()
    if not isinstance(folder.log, Server) and not folder.log.exists():
        msg = f"there is no log at {folder.log}, so there is nothing to back up"
        raise LogNotThere(msg)
    _require_free(target)
    try:
        with _staging(target) as made:
            made.chmod(FOLDER_MODE)
            # The seals first: seals of events that the copy of the log lacks would look like a fork.
            if (folder.seals).exists():
                with _reading(folder.seals) as seals:
                    _copy(seals, made / folder.seals.name, lambda _: None)
            events, head, sha256 = _copy_log(folder.log, made / folder.log_file.name, tell)
            for small in (folder.sources, folder.users, folder.configuration, folder.sealing):
                if small.exists():
                    shutil.copyfile(small, made / small.name)
            files = tuple(sorted(path.name for path in made.iterdir()))
            _write_sums(made, files)
            _sync(made)
            made.rename(target)
            durable.sync(target.parent)
    except (OSError, sqlite3.Error) as error:
        msg = f"the backup {target} can't be made: {error}; nothing of it was left"
        raise BackupError(msg) from error
    return Backup(files, events, head, sha256)


def _copy_log(place: Place, target: Path, tell: Callable[[float], None]) -> tuple[int, int, str]:
    """Copy the log to a file, wherever it is kept: its events, the position of the last, and their hash."""
    if isinstance(place, Server):
        with open_to_read(place) as source, open_to_append(target) as written:

            def tell_share(position: int, head: int) -> None:
                tell(position / head)

            copied = log_copy.copy(source, written, threading.Event(), on_progress=tell_share)
        return copied.events, copied.events, copied.sha256
    with _reading(place) as log:
        _copy(log, target, lambda share: tell(share / 2))
        return _compare(log, target, lambda share: tell((1 + share) / 2))


def _require_free(target: Path) -> None:
    if target.exists() or target.is_symlink():
        msg = f"{target} is there already, and a backup is never written over anything: choose another name"
        raise ConfigurationError(msg)
    if not target.parent.is_dir():
        msg = f"there is no folder {target.parent} to make the backup in"
        raise ConfigurationError(msg)


@contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """A folder beside the target, on its file system; gone afterwards unless it was renamed."""
    made = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A database as it is at this moment, for the length of the context."""
    uri = f"file:{quote(str(path))}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=LOCK_TIMEOUT_S, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        # The snapshot is taken by the first read, not by BEGIN.
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        yield connection


def _copy(source: sqlite3.Connection, path: Path, tell: Callable[[float], None]) -> None:
    """The database as the connection sees it, checked by SQLite, in one file that nobody else may read."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE_MODE))
    with closing(sqlite3.connect(path, isolation_level=None)) as copy:
        copy.execute("PRAGMA synchronous = FULL")
        source.backup(
            copy,
            pages=PAGES,
            progress=lambda _, left, pages: tell(1 - left / max(1, pages)),
        )
    with _opened(path) as copy:
        (verdict,) = copy.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        msg = (
            f"{path.name} is damaged: {verdict}. Keep your earlier backups; "
            "`simtrail doctor --full` says more; the disk or the memory of this machine may be at fault"
        )
        raise BackupError(msg)


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A copy, to read: as what is on disk and will not change, so that no file is made beside it."""
    with closing(sqlite3.connect(f"file:{quote(str(path))}?immutable=1", uri=True)) as connection:
        yield connection


def _compare(source: sqlite3.Connection, path: Path, tell: Callable[[float], None]) -> tuple[int, int, str]:
    """How many events, the last position, and the hash of all; each event of the copy is the one it is a copy of."""
    (events,) = source.execute("SELECT count(*) FROM stored_events").fetchone()
    total, head, hashed = 0, 0, hashlib.sha256()
    with _opened(path) as copy:
        for mine, its in zip_longest(source.execute(EVENTS), copy.execute(EVENTS)):
            if mine != its:
                msg = (
                    f"the copy's event at position {(mine or its)[0]} is not the log's: nothing of the backup was left"
                )
                raise BackupError(msg)
            total, head = total + 1, mine[0]
            hashed.update(hashlib.sha256(mine[4]).digest())
            if total % max(1, events // BAR_STEPS) == 0:
                tell(total / events)
    return total, head, hashed.hexdigest()


def _write_sums(made: Path, files: tuple[str, ...]) -> None:
    lines = []
    for name in files:
        with (made / name).open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n")
    (made / SUMS).write_text("".join(lines))


def _sync(made: Path) -> None:
    """Everything in the folder, and the folder, on disk."""
    for path in made.iterdir():
        path.chmod(FILE_MODE)
        durable.sync(path)
    durable.sync(made)


@click.command()
@click.argument("target", metavar="DEST", type=click.Path(path_type=Path))
@options.data
@options.log
def backup(*, target: Path, data: Path, place: Place | None) -> None:
    """Copy what can't be made again, while simtrail runs.

    DEST is a folder that is not there yet, in one that is. It gets log.db, sources.json, users.json,
    simtrail.toml, sealing.toml and seals.db, as far as there are, and SHA256SUMS. Every event of the
    copy is compared with the log's; DEST is there once all of it is on disk, or not at all. audit.db is
    not copied: `simtrail project` makes it from the log. Nor is seal.key: keep a copy of it apart.

    To restore, stop simtrail, and start it with --data on a copy of DEST that was given seal.key. A log
    on a server becomes a file there, which `simtrail log copy` puts back on one.
    """
    folder = folders.existing(data, place)
    with click.progressbar(length=BAR_STEPS, label="Backing up", file=sys.stderr) as bar:
        made = back_up(folder, target, lambda share: bar.update(int(share * BAR_STEPS) - bar.pos))
    click.echo(f"{target}: {made.events} events up to position {made.head}, sha256 {made.sha256}")
