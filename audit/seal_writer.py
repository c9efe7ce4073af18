"""Adding to the seals: the one process that writes seals.db.

All that belongs together is one durable commit, and each is a compare-and-swap: what is
added was worked out from something that must still be the last.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from audit.seal_tables import FORMAT, STATEMENTS
from audit.seals import LOCK_TIMEOUT_S, Seals, require
from schema import durable
from schema.errors import SealError
from schema.event import instant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from audit.note import Key
    from audit.seals import Head, Role


class SealWriter(Seals):
    """The seals, open for adding. `open_to_write` makes one; there is one at a time."""

    def add(
        self,
        head: Head,
        tiles: Mapping[tuple[int, int], bytes],
        runs: Sequence[tuple[int, int]],
        *,
        since: Head | None,
    ) -> bool:
        """Store a head, to be signed, with its tiles, in one durable commit.

        Compare-and-swap: where the last head is not ``since`` any more, nothing is stored,
        and the answer is False.
        """
        with self._writing():
            last = self.last()
            if (last and (last.size, last.root)) != (since and (since.size, since.root)):
                return False
            for (level, index), hashes in tiles.items():
                # Not an upsert: it would run into the trigger that keeps a tile from being replaced.
                kept = self._connection.execute(
                    "UPDATE tiles SET hashes = ? WHERE level = ? AND tile = ?",
                    (hashes, level, index),
                )
                if not kept.rowcount:
                    self._connection.execute("INSERT INTO tiles VALUES (?, ?, ?)", (level, index, hashes))
            self._connection.executemany("INSERT INTO runs VALUES (?, ?)", runs)
            self._connection.execute(
                "INSERT INTO anchors VALUES (?, ?, ?, ?)",
                (head.size, head.root, head.position, head.stored_at),
            )
        return True

    def add_signature(self, size: int, key: Key, role: Role, signature: bytes, *, now: datetime) -> None:
        """Store a signature of a head, and its key if that is new. One that is there stays as it is.

        Raises `SealError` for a signature as the log's by another key than its present one.
        """
        with self._writing():
            if role == "log" and key != self.known_keys("log")[-1].key:
                msg = f"{key.vkey} is not the log's key, or not any more: nothing that it signs counts"
                raise SealError(msg)
            number = self._one("SELECT key FROM keys WHERE vkey = ? AND role = ?", key.vkey, role)
            if number is None:
                number = self._add_key(key, role, size - 1, None, now)
            if self._one("SELECT 1 FROM signatures WHERE size = ? AND key = ?", size, number[0]) is None:
                self._connection.execute(
                    "INSERT INTO signatures VALUES (?, ?, ?, ?)",
                    (size, number[0], signature, instant(now)),
                )

    def introduce(self, key: Key, note: str, *, before: Key, size: int, now: datetime) -> None:
        """Store the log's next key with the anchor that introduces it. Compare-and-swap on the key before it."""
        with self._writing():
            current = self.known_keys("log")[-1].key
            last = self.last()
            if current != before or (last.size if last else 0) != size:
                msg = f"the log's key is {current.vkey} now, or it has grown since: nothing was changed; try again"
                raise SealError(msg)
            self._add_key(key, "log", size, note, now)

    def add_timestamp(self, size: int, token: bytes, *, now: datetime) -> None:
        """Store a time-stamp of the anchor of a size, as its authority answered. One that is there stays as it is."""
        with self._writing():
            if self._one("SELECT 1 FROM timestamps WHERE size = ?", size) is None:
                self._connection.execute("INSERT INTO timestamps VALUES (?, ?, ?)", (size, token, instant(now)))

    def refuse(self, finder: str, reason: str | None, *, now: datetime) -> None:
        """Store what somebody found; without a reason, that it is well again. Once for each change."""
        with self._writing():
            standing = {refusal.finder: refusal.reason for refusal in self.refusals()}
            if standing.get(finder) != reason:
                last = self.last()
                self._connection.execute(
                    "INSERT INTO refusals (finder, size, reason, found_at) VALUES (?, ?, ?, ?)",
                    (finder, last.size if last else 0, reason, instant(now)),
                )

    def _add_key(self, key: Key, role: Role, since_size: int, introduced: str | None, now: datetime) -> tuple[int]:
        added = self._connection.execute(
            "INSERT INTO keys (vkey, role, since_size, introduced, added_at) VALUES (?, ?, ?, ?, ?) RETURNING key",
            (key.vkey, role, since_size, introduced, instant(now)),
        ).fetchall()
        return (int(added[0][0]),)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One durable commit of all that is done inside; none of it where anything is raised."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            msg = f"the seals {self._path} can't be written: {error}"
            raise SealError(msg) from error
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")


def create(path: Path, *, origin: str, key: Key, now: datetime) -> None:
    """Make empty seals for the log of an origin, whose first key this is.

    All of it or nothing: a crash leaves no half of a file behind that counts. Raises
    `SealError` where there is a file already, or none can be made.
    """
    if path.exists():
        msg = f"there are seals at {path} already: they are never made anew"
        raise SealError(msg)
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.unlink(missing_ok=True)
        connection = sqlite3.connect(beside, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            for statement in STATEMENTS:
                connection.execute(statement)
            connection.execute("INSERT INTO seals VALUES (1, ?, ?, ?)", (FORMAT, origin, instant(now)))
            connection.execute(
                "INSERT INTO keys (vkey, role, since_size, introduced, added_at) VALUES (?, 'log', 0, NULL, ?)",
                (key.vkey, instant(now)),
            )
            connection.execute("COMMIT")
        finally:
            connection.close()
        # Not yet in WAL mode, so it is one file, and renaming it is safe.
        beside.rename(path)
        durable.sync(path.parent)
    except (sqlite3.Error, OSError) as error:
        msg = f"the seals {path} can't be made: {error}"
        raise SealError(msg) from error


def open_to_write(path: Path, *, checkpoints: bool = True) -> SealWriter:
    """The seals at a path, to be added to. Raises `SealError` where there are none.

    One process at a time seals, and checkpoints; who adds something beside it, for which a
    compare-and-swap stands, does not.
    """
    require(path)
    try:
        connection = sqlite3.connect(path, isolation_level=None, timeout=LOCK_TIMEOUT_S, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        if not checkpoints:
            connection.execute("PRAGMA wal_autocheckpoint = 0")
    except sqlite3.Error as error:
        msg = f"the seals {path} can't be opened for writing: {error}"
        raise SealError(msg) from error
    return SealWriter(path, connection)
