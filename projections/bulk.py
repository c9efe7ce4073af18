"""A read model made in bulk: what folding gives goes to a loader, a process of its own, that fills the file.

Two processes, so that reading the log and writing the tables overlap. Rows of current
states are written once, at the end; those that don't fit in memory wait in a scratch file.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import suppress
from typing import IO, TYPE_CHECKING, NoReturn, Self

from sqlite_utils import Database

from projections import loader, pipe
from projections.first_deliveries import StoredFirstDeliveries
from projections.loader import Loader
from projections.read_model import HELD_ROWS, ReadModel
from schema import configuration as configurations
from schema import tables
from schema.errors import ReadModelError
from schema.registry import FILE_MODE

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from projections.loader import Message
    from projections.rows import Value
    from schema.configuration import Configuration
    from schema.tables import Table

KEPT_SHARE = 0.75
"""Of `HELD_ROWS`, those that are kept in memory when some go to the scratch file, at most."""

CACHE_KIB = 16 * 1024
"""SQLite's page cache of the scratch file."""

PROCESS_EVENTS = 5_000
"""Events from which on a process of its own is worth the third of a second that it takes to start."""

SENT_ROWS = 5_000
"""Rows of a current state sent at a time."""


class BulkModel(ReadModel):
    """A new read model, in a file that is not there yet. Use it as a context manager, and `finish` it.

    Whatever else ends the context leaves a file that must be thrown away.
    """

    def __init__(self, path: Path, configuration: Configuration, events: int) -> None:
        """``events`` is about how many there will be."""
        try:
            # Bodies and names are in it, wherever it is made: its owner's alone.
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
        except FileExistsError as error:
            msg = f"{path} is there already: a read model is made in a file of its own"
            raise ReadModelError(msg) from error
        except OSError as error:
            msg = f"the read model {path} can't be made: {error.strerror}"
            raise ReadModelError(msg) from error
        self._scratch = _scratch(path)
        self._first_deliveries = StoredFirstDeliveries(self._scratch, events)
        super().__init__(self._scratch, configuration, self._insert, self._first_deliveries)
        self.forget()
        self.position = 0
        self._received_at: str | None = None
        self._digest = configurations.digest(configuration)
        self._messages: list[Message] = []
        self._loader = _Process(path) if events >= PROCESS_EVENTS else Loader(str(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scratch.close()
        self._loader.end()

    def commit(self, position: int, received_at: str) -> None:
        """Hand on what was folded, up to this position."""
        self._messages += (loader.Rename(column, old, new, self.position) for column, old, new in self.renames)
        self.renames.clear()
        for history in self.histories:
            history.write()
        self._send()
        self._first_deliveries.write()
        if self.held() > HELD_ROWS:
            self._let_go()
        self.position, self._received_at = position, received_at

    def finish(self) -> None:
        """Complete the file: rows of current states, indexes, tracking. Raises `ReadModelError` where it can't be."""
        for name, rows in self.states.items():
            if not rows.all_held:
                rows.write()
            batch: list[tuple[Value, ...]] = []
            for row in rows.all_rows():
                batch.append(row)
                if len(batch) == SENT_ROWS:
                    self._insert(tables.BY_NAME[name], batch)
                    self._send()
                    batch = []
            self._insert(tables.BY_NAME[name], batch)
        self._messages.append(loader.Finish(self.position, self._received_at, self._digest))
        self._send()

    def _let_go(self) -> None:
        """Hold fewer rows of current states: they wait in the scratch file."""
        # Jobs first: most are done, and named no more. While all cards are held, none needs to be looked for.
        for rows in (self.jobs, *self.states.values()):
            if self.held() > KEPT_SHARE * HELD_ROWS:
                rows.write()
                rows.forget()

    def _insert(self, table: Table, rows: list[tuple[Value, ...]]) -> None:
        self._messages.append(loader.Insert(table.name, rows))

    def _send(self) -> None:
        # All of a page at once: the loader takes it in, and writes it while the next page is folded.
        self._loader.send(self._messages)
        self._messages = []


class _Process:
    """A loader in a process of its own. It ends when nobody holds the other end of its pipe."""

    def __init__(self, path: Path) -> None:
        # A session of its own: what Ctrl-C interrupts is this process, and it decides.
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-P", "-m", "projections.loader", str(path.absolute())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        pipe.widen(self._pipe)

    def send(self, messages: list[Message]) -> None:
        """Send it messages; the last one is waited for. Raises `ReadModelError` where it couldn't go on."""
        try:
            pipe.write(self._pipe, loader.packed(messages))
        except BrokenPipeError:
            self._fail()
        if isinstance(messages[-1], loader.Finish):
            with suppress(BrokenPipeError):
                self._pipe.close()
            if (said := self._said()) != loader.DONE:
                self._fail(said)

    def end(self) -> None:
        """Be sure that it has ended: nothing may write the file any more."""
        self._process.kill()
        for end in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                if end is not None:
                    end.close()
        self._process.wait()

    def _fail(self, said: str | None = None) -> NoReturn:
        said = self._said() if said is None else said
        msg = f"the read model can't be written: {said or 'the process that loads it ended by itself'}"
        raise ReadModelError(msg)

    def _said(self) -> str:
        out = self._process.stdout
        return "" if out is None else out.read().decode("utf-8", "replace").strip()

    @property
    def _pipe(self) -> IO[bytes]:
        if self._process.stdin is None:
            raise TypeError(self._process)
        return self._process.stdin


def _scratch(path: Path) -> sqlite3.Connection:
    file = path.with_name(path.name + SCRATCH)
    file.unlink(missing_ok=True)
    connection = sqlite3.connect(file, isolation_level=None)
    for pragma in (*loader.PRAGMAS, f"cache_size = -{CACHE_KIB}"):
        connection.execute(f"PRAGMA {pragma}")
    # Never committed: each row would else be a transaction of its own, which writes two pages.
    connection.execute("BEGIN")
    tables.create(Database(connection))
    # It has no name any more: however this process ends, nothing of it is left.
    file.unlink()
    return connection


SCRATCH = "-scratch"
"""What the scratch file's name ends in, for the moment that it has one."""
