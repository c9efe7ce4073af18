"""The read model, audit.db: opened by the one projector that writes it.

Rows and the position that they stand for commit in one transaction. Law: the
tables are a function of the log, so nothing here is precious, and a commit need
not be fsynced: after a power cut the file is whole, at an earlier position.
"""

from __future__ import annotations

import sqlite3
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote

from sqlite_utils import Database

from projections.accounts import Account
from projections.bills import BillRow
from projections.jobs import Job
from projections.rows import History, Rows
from projections.sims import Sim
from projections.users import UserRow
from schema import configuration as configurations
from schema import tables
from schema.errors import ReadModelError, ReadModelOutdated

if TYPE_CHECKING:
    from pathlib import Path

    from schema.configuration import Configuration

PROJECTION = "audit"
"""The name in ``tracking`` of the one projection that makes all the tables."""

HELD_ROWS = 200_000
"""Rows of current states kept in memory between batches: about 200 MB of SIM cards."""

CACHE_KIB = 64 * 1024
"""SQLite's page cache: the look-up indexes of some million rows stay in memory."""

REMEDY = "`simtrail rebuild` makes it anew from the log"

LOCK_TIMEOUT_S = 10
"""How long to wait for another writer, such as a swap, before it is an error."""


class ReadModel:
    """The tables of one audit.db, and what a batch has changed in them so far.

    Owned by one projector. `begin`, fold events, `commit`; `roll_back` on any error.
    ``voided`` maps the positions that are not to count to those of the corrections
    that say so: a rebuild sets it, and a follower, who knows no later ones, leaves it.
    """

    def __init__(self, connection: sqlite3.Connection, configuration: Configuration) -> None:
        self.configuration = configuration
        self.operation = lru_cache(maxsize=1024)(lambda queue: configurations.operation(configuration, queue))
        by_name = tables.BY_NAME
        self.accounts = Rows(connection, by_name["accounts"], Account)
        self.users = Rows(connection, by_name["users"], UserRow)
        self.jobs = Rows(connection, by_name["jobs"], Job)
        self.sims = Rows(connection, by_name["sims"], Sim)
        self.bills = Rows(connection, by_name["bills"], BillRow)
        self._states = (self.accounts, self.users, self.jobs, self.sims, self.bills)
        self.account_events = History(connection, by_name["account_events"])
        self.job_progress = History(connection, by_name["job_progress"])
        self.sim_events = History(connection, by_name["sim_events"])
        self.bill_notices = History(connection, by_name["bill_notices"])
        self.files = History(connection, by_name["files"])
        self.delivery_files = History(connection, by_name["delivery_files"])
        self.corrections = History(connection, by_name["corrections"])
        self.deliveries = History(connection, by_name["deliveries"])
        self._histories = (
            self.deliveries,
            self.account_events,
            self.job_progress,
            self.sim_events,
            self.bill_notices,
            self.files,
            self.delivery_files,
            self.corrections,
        )
        self.voided: dict[int, int] = {}
        self._first_deliveries: dict[tuple[str, str], tuple[int, str]] = {}
        self._connection = connection
        self._version: int | None = None
        self._start = 0

    def position(self) -> int:
        """The position that the committed tables stand for."""
        return _check(self._connection, self.configuration)

    def begin(self) -> int:
        """Start a transaction; the position that the tables stand for.

        What is held in memory is dropped if anyone else has written the file since.
        """
        self._connection.execute("BEGIN IMMEDIATE")
        version = self._connection.execute("PRAGMA data_version").fetchone()[0]
        if version != self._version or sum(len(rows) for rows in self._states) > HELD_ROWS:
            self._forget()
            self._version = version
        self._start = _check(self._connection, self.configuration)
        return self._start

    def commit(self, position: int, received_at: str) -> None:
        """Write what was folded and the position reached, in one commit."""
        for rows in self._states:
            rows.write()
        for history in self._histories:
            history.write()
        self._first_deliveries.clear()
        moved = self._connection.execute(
            "UPDATE tracking SET position = ?, received_at = ? WHERE projection = ? AND position = ?",
            (position, received_at, PROJECTION, self._start),
        )
        if moved.rowcount != 1:
            msg = f"the read model is no longer at position {self._start}: nothing was written"
            raise ReadModelError(msg)
        self._connection.execute("COMMIT")

    def roll_back(self) -> None:
        """Give up the transaction, if there is one, and all that was folded in it."""
        self._version = None
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def finish(self) -> None:
        """Make the indexes that a read model made in bulk does not have yet."""
        tables.create_indexes(Database(self._connection))

    def close(self) -> None:
        """Close the file. What was not committed is given up."""
        self._connection.close()

    def rename(self, column: str, old: str, new: str) -> None:
        """Give the history of one card or bill to another: they turned out to be one."""
        (stored,) = self._connection.execute(
            f"SELECT count(*) FROM {'sims' if column == 'sim' else 'bills'} WHERE {column} = ?",
            (old,),
        ).fetchone()
        for history in self._histories:
            history.rename(column, old, new, stored=bool(stored))
        account = self.accounts.get(old.partition(":")[0])
        if column == "bill" and account is not None and account.bill == old:
            account.bill = new

    def first_delivery(self, source: str, sha256: str) -> tuple[int, str] | None:
        """Position and time of the newest delivery of this body that is no repeat."""
        pending = self._first_deliveries.get((source, sha256))
        if pending is not None:
            return pending
        found: tuple[int, str] | None = self._connection.execute(
            "SELECT position, received_at FROM deliveries WHERE sha256 = ? AND source = ? AND repeat_of IS NULL"
            " AND voided_by IS NULL AND kind <> 'correction'"
            " ORDER BY position DESC LIMIT 1",
            (sha256, source),
        ).fetchone()
        return found

    def note_first(self, source: str, sha256: str, position: int, received_at: str) -> None:
        """Let `first_delivery` find a delivery whose row is not written yet."""
        self._first_deliveries[source, sha256] = (position, received_at)

    def _forget(self) -> None:
        for rows in self._states:
            rows.forget()
        for history in self._histories:
            history.rows.clear()
        self._first_deliveries.clear()


def open_to_write(path: Path, configuration: Configuration) -> ReadModel:
    """The read model at a path, made empty if it is not there.

    Raises `ReadModelError` where it can't be opened, or was made by another
    version or with another configuration.
    """
    try:
        connection = sqlite3.connect(path, isolation_level=None, timeout=LOCK_TIMEOUT_S, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute("BEGIN IMMEDIATE")
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            _create(connection, configuration)
            tables.create_indexes(Database(connection))
        connection.execute("COMMIT")
        _check(connection, configuration)
    except sqlite3.Error as error:
        msg = f"the read model {path} can't be opened for writing: {error}"
        raise ReadModelError(msg) from error
    return ReadModel(connection, configuration)


def create_in_bulk(path: Path, configuration: Configuration) -> ReadModel:
    """A new read model, to be filled at once and then `finish`ed: no journal, no fsync, few indexes.

    What is rolled back or interrupted leaves a file that must be thrown away.
    """
    if path.exists():
        msg = f"{path} is there already: a read model is made in a file of its own"
        raise ReadModelError(msg)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    _create(connection, configuration)
    return ReadModel(connection, configuration)


def open_to_read(path: Path) -> sqlite3.Connection:
    """A connection that only reads a read model. Raises `ReadModelError` where there is none."""
    if not path.exists():
        msg = f"there is no read model at {path}: `simtrail project` or `simtrail serve` makes one"
        raise ReadModelError(msg)
    try:
        return sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, timeout=LOCK_TIMEOUT_S)
    except sqlite3.Error as error:
        msg = f"the read model {path} can't be opened for reading: {error}"
        raise ReadModelError(msg) from error


def tracked(path: Path) -> int | None:
    """The position that a read model stands for; None where there is none yet."""
    if not path.exists():
        return None
    connection = open_to_read(path)
    try:
        try:
            made = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'tracking'").fetchone()
            found = (
                made
                and connection.execute("SELECT position FROM tracking WHERE projection = ?", (PROJECTION,)).fetchone()
            )
        finally:
            connection.close()
    except sqlite3.Error as error:
        msg = f"the read model {path} can't be read: {error}"
        raise ReadModelError(msg) from error
    return None if found is None else int(found[0])


def _create(connection: sqlite3.Connection, configuration: Configuration) -> None:
    database = Database(connection)
    tables.create(database)
    connection.execute(
        "INSERT INTO tracking VALUES (?, 0, NULL, ?, ?)",
        (PROJECTION, tables.MODEL_VERSION, configurations.digest(configuration)),
    )


def _check(connection: sqlite3.Connection, configuration: Configuration) -> int:
    """The position of a read model that this version and configuration may go on with."""
    position, version, digest = connection.execute(
        "SELECT position, model_version, configuration FROM tracking WHERE projection = ?",
        (PROJECTION,),
    ).fetchone()
    if version != tables.MODEL_VERSION:
        msg = f"the read model has version {version}, this simtrail writes {tables.MODEL_VERSION}: {REMEDY}"
        raise ReadModelOutdated(msg)
    if digest != configurations.digest(configuration):
        msg = f"the read model was made with another configuration ({digest[:12]}): {REMEDY}"
        raise ReadModelOutdated(msg)
    return int(position)
