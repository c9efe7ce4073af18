"""The read model, audit.db: opened by the one projector that writes it.

Rows and the position that they stand for commit in one transaction. Law: the
tables are a function of the log, so nothing here is precious, and a commit need
not be fsynced: after a power cut the file is whole, at an earlier position.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sqlite_utils import Database

from projections import statements
from projections.accounts import Account
from projections.attributes import Attributes, BillAttributes, SimAttributes
from projections.bills import BillRow
from projections.first_deliveries import PublishedFirstDeliveries
from projections.jobs import Job
from projections.rows import History, Rows
from projections.sims import Sim
from projections.users import UserRow
from schema import configuration as configurations
from schema import search, tables
from schema.errors import ReadModelError, ReadModelOld, ReadModelOutdated
from schema.tables import PROJECTION

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from projections.first_deliveries import FirstDeliveries
    from projections.rows import Value
    from projections.statements import Identified
    from schema.configuration import Configuration
    from schema.tables import Table

HELD_ROWS = 80_000
"""Rows of current states kept in memory between batches, at most: about 120 MB of SIM cards."""

CACHE_KIB = 64 * 1024
"""SQLite's page cache: the look-up indexes of some million rows stay in memory."""

WAL_BYTES = 64 * 1024 * 1024
"""What SQLite's log beside the read model is cut to once it is worked off: a swap makes it as large as the tables."""

LIVE = (
    "journal_mode = WAL",
    "synchronous = NORMAL",
    f"journal_size_limit = {WAL_BYTES}",
    # What SQLite keeps to undo a single statement: in a file, it is written 25 times as much as the tables.
    "temp_store = MEMORY",
)

CARELESS = ("journal_mode = OFF", "synchronous = OFF")
"""For a read model that is not live yet: no fsync of what may be thrown away, however large."""

REMEDY = "`simtrail rebuild` makes it anew from the log"

LOCK_TIMEOUT_S = 10
"""How long to wait for another writer, such as a swap, before it is an error."""


class ReadModel:
    """The tables of one audit.db in memory, as far as folding needs them, and what it has changed so far.

    ``connection`` is where rows not held are looked up, ``insert`` takes those of the history.
    ``voided`` maps the positions that are not to count to those of the corrections
    that say so: a rebuild sets it, and a follower, who knows no later ones, leaves it.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        configuration: Configuration,
        insert: Callable[[Table, list[tuple[Value, ...]]], None],
        first_deliveries: FirstDeliveries,
    ) -> None:
        self.configuration = configuration
        self.operation = lru_cache(maxsize=1024)(lambda queue: configurations.operation(configuration, queue))
        by_name = tables.BY_NAME
        self.accounts = Rows(connection, by_name["accounts"], Account)
        self.users = Rows(connection, by_name["users"], UserRow)
        self.jobs = Rows(connection, by_name["jobs"], Job)
        self.sims = Rows(connection, by_name["sims"], Sim)
        self.sim_attributes = Attributes(connection, by_name["sim_attributes"], SimAttributes)
        self.bills = Rows(connection, by_name["bills"], BillRow)
        self.bill_attributes = Attributes(connection, by_name["bill_attributes"], BillAttributes)
        self.states: dict[str, Rows[Any]] = {
            "accounts": self.accounts,
            "users": self.users,
            "jobs": self.jobs,
            "sims": self.sims,
            "sim_attributes": self.sim_attributes,
            "bills": self.bills,
            "bill_attributes": self.bill_attributes,
        }
        self.deliveries = History(by_name["deliveries"], insert)
        self.delivery_contents = History(by_name["delivery_contents"], insert)
        self.account_events = History(by_name["account_events"], insert)
        self.job_progress = History(by_name["job_progress"], insert)
        self.sim_events = History(by_name["sim_events"], insert)
        self.bill_notices = History(by_name["bill_notices"], insert)
        self.files = History(by_name["files"], insert)
        self.delivery_files = History(by_name["delivery_files"], insert)
        self.corrections = History(by_name["corrections"], insert)
        self.histories = (
            self.deliveries,
            self.delivery_contents,
            self.account_events,
            self.job_progress,
            self.sim_events,
            self.bill_notices,
            self.files,
            self.delivery_files,
            self.corrections,
        )
        self.first_deliveries = first_deliveries
        self.renames: list[tuple[Identified, str, str]] = []
        self.voided: dict[int, int] = {}

    def rename(self, column: Identified, old: str, new: str) -> None:
        """Give the history of one card or bill to another: they turned out to be one."""
        for history in self.histories:
            history.rename(column, old, new)
        self.renames.append((column, old, new))
        account = self.accounts.get(old.partition(":")[0])
        if column == "bill" and account is not None and account.bill == old:
            account.bill = new

    def held(self) -> int:
        """How many rows of current states are held in memory."""
        return sum(len(rows) for rows in self.states.values())

    def forget(self) -> None:
        """Hold nothing any more, neither rows nor changes."""
        for rows in self.states.values():
            rows.forget()
        for history in self.histories:
            history.clear()
        self.first_deliveries.clear()
        self.renames.clear()


class LiveModel(ReadModel):
    """The read model as it is followed: each page of events is one transaction in its file.

    Owned by one projector. `begin`, fold events, `commit`; `roll_back` on any error.
    """

    def __init__(self, connection: sqlite3.Connection, configuration: Configuration) -> None:
        super().__init__(
            connection, configuration, partial(statements.insert, connection), PublishedFirstDeliveries(connection)
        )
        self._connection = connection
        self._version: int | None = None
        self._start = 0

    def position(self) -> int:
        """The position that the committed tables stand for."""
        return _check(self._connection, self.configuration)

    def sha256_at(self, position: int) -> str | None:
        """The SHA-256 of the body of the event that the tables have at a position; None where they have none."""
        found = self._connection.execute("SELECT sha256 FROM deliveries WHERE position = ?", (position,)).fetchone()
        return None if found is None else str(found[0])

    def begin(self) -> int:
        """Start a transaction; the position that the tables stand for.

        What is held in memory is dropped if anyone else has written the file since.
        """
        self._connection.execute("BEGIN IMMEDIATE")
        version = self._connection.execute("PRAGMA data_version").fetchone()[0]
        if version != self._version or self.held() > HELD_ROWS:
            self.forget()
            self._version = version
        self._start = _check(self._connection, self.configuration)
        return self._start

    def commit(self, position: int, received_at: str) -> None:
        """Write what was folded and the position reached, in one commit."""
        # Before the rows of a state: they say which keys had a history when this began.
        moved: set[tuple[Identified, str]] = set()
        for column, old, new in self.renames:
            if (column, old) in moved or self.states[statements.IDENTIFIED[column]].is_stored(old):
                statements.rename(self._connection, column, old, new, self._start)
                moved.add((column, new))
        self.renames.clear()
        for rows in self.states.values():
            rows.write()
        for history in self.histories:
            history.write()
        search.extend(self._connection, self._start)
        self.first_deliveries.clear()
        tracked = self._connection.execute(
            "UPDATE tracking SET position = ?, received_at = ? WHERE projection = ? AND position = ?",
            (position, received_at, PROJECTION, self._start),
        )
        if tracked.rowcount != 1:
            msg = f"the read model is no longer at position {self._start}: nothing was written"
            raise ReadModelError(msg)
        self._connection.execute("COMMIT")

    def roll_back(self) -> None:
        """Give up the transaction, if there is one, and all that was folded in it."""
        self._version = None
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file. What was not committed is given up."""
        self._connection.close()


def open_to_write(path: Path, configuration: Configuration, *, live: bool = True) -> LiveModel:
    """The read model at a path, made empty if it is not there.

    One that is not ``live`` is written without care: it is thrown away if anything goes wrong.
    Raises `ReadModelError` where it can't be opened, or was made by another
    version or with another configuration.
    """
    try:
        connection = sqlite3.connect(path, isolation_level=None, timeout=LOCK_TIMEOUT_S, check_same_thread=False)
        for pragma in LIVE if live else CARELESS:
            connection.execute(f"PRAGMA {pragma}")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute("BEGIN IMMEDIATE")
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            tables.create(Database(connection))
            tables.create_indexes(Database(connection))
            statements.track(connection, 0, None, configurations.digest(configuration))
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        msg = f"the read model {path} can't be opened for writing: {error}"
        raise ReadModelError(msg) from error
    try:
        _check(connection, configuration)
    except ReadModelError:
        connection.close()
        raise
    return LiveModel(connection, configuration)


def open_built(path: Path) -> sqlite3.Connection:
    """A connection that writes what no projection makes into a read model that is not live yet."""
    connection = sqlite3.connect(path)
    for pragma in CARELESS:
        connection.execute(f"PRAGMA {pragma}")
    return connection


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


def refusal(path: Path, configuration: Configuration) -> ReadModelOutdated | None:
    """Why a read model can't be gone on with by this version and configuration; None where it can, or there is none yet."""
    if tracked(path) is None:
        return None
    with closing(open_to_read(path)) as connection:
        try:
            _check(connection, configuration)
        except ReadModelOutdated as error:
            return error
    return None


def _check(connection: sqlite3.Connection, configuration: Configuration) -> int:
    """The position of a read model that this version and configuration may go on with."""
    position, version, digest = connection.execute(
        "SELECT position, model_version, configuration FROM tracking WHERE projection = ?",
        (PROJECTION,),
    ).fetchone()
    if version > tables.MODEL_VERSION:
        msg = (
            f"the read model has version {version}, made by a newer simtrail than this, which writes"
            f" {tables.MODEL_VERSION}: run the newer one, or else {REMEDY}"
        )
        raise ReadModelOutdated(msg)
    if digest != configurations.digest(configuration):
        msg = f"the read model was made with another configuration ({digest[:12]}): {REMEDY}"
        raise ReadModelOutdated(msg)
    if version != tables.MODEL_VERSION:
        # Nothing that a person could decide: the same reading, in tables of another form.
        msg = f"the read model has version {version}, this simtrail writes {tables.MODEL_VERSION}: it is made anew from the log"
        raise ReadModelOld(msg)
    return int(position)
