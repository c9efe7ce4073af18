"""The loader: a process that fills the tables of a new read model with the rows that it is sent.

    python -m projections.loader FILE <messages

Written without journal and fsync, indexes last: until it is done, the file is one to
throw away. Prints `DONE` when it is, and what went wrong if it isn't. Where the messages
end early, because their sender has ended, it ends too.
"""

from __future__ import annotations

import gc
import sqlite3
import sys
from typing import Any

import msgspec
from sqlite_utils import Database

from projections import pipe, statements
from projections.statements import Identified  # noqa: TC001 - msgspec reads it
from schema import tables

DONE = "done"

CACHE_KIB = 48 * 1024
"""SQLite's page cache, and so what an index is sorted in."""

PRAGMAS = (
    "journal_mode = OFF",
    "synchronous = OFF",
    "locking_mode = EXCLUSIVE",
    f"cache_size = -{CACHE_KIB}",
)
"""A file that will be thrown away if anything goes wrong needs no care."""


class Insert(msgspec.Struct, tag="insert", array_like=True, frozen=True):
    """Rows of a table, in the order of its columns; of the history in the order of the log."""

    table: str
    rows: list[tuple[Any, ...]]  # What SQLite stores; texts and bytes in one column no decoder can tell.


class Rename(msgspec.Struct, tag="rename", array_like=True, frozen=True):
    """Two cards, or bills, were one: its history up to ``last`` is the other's."""

    column: Identified
    old: str
    new: str
    last: int


class Finish(msgspec.Struct, tag="finish", array_like=True, frozen=True):
    """All was sent: what the tables stand for."""

    position: int
    received_at: str | None
    configuration: str


Message = Insert | Rename | Finish

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Message])


def packed(messages: list[Message]) -> bytes:
    """Messages on their way together."""
    return _encoder.encode(messages)


class Loader:
    """Fills the tables of a new read model, in a file that is not there yet, with what it is sent."""

    def __init__(self, path: str) -> None:
        self._renames: list[Rename] = []
        self._connection = sqlite3.connect(path, isolation_level=None)
        for pragma in PRAGMAS:
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.execute("BEGIN")
        tables.create(Database(self._connection), lookups=False)

    def send(self, messages: list[Message]) -> None:
        """Take messages."""
        for message in messages:
            self._take(message)

    def _take(self, message: Message) -> None:
        match message:
            case Insert(name, rows):
                statements.insert(self._connection, tables.BY_NAME[name], rows)
            case Rename():
                self._renames.append(message)
            case Finish(position, received_at, configuration):
                tables.create_indexes(Database(self._connection))
                # Each is about the rows before it, so they may wait for the index that finds them.
                for rename in self._renames:
                    statements.rename(self._connection, rename.column, rename.old, rename.new, rename.last)
                statements.track(self._connection, position, received_at, configuration)
                self._connection.execute("COMMIT")

    def end(self) -> None:
        """Close the file."""
        self._connection.close()


def main(path: str) -> int:
    """Load what standard input brings."""
    gc.disable()  # Rows refer to nothing: there is nothing to be found.
    messages: list[Message] = []
    try:
        loader = Loader(path)
        for content in pipe.read(sys.stdin.buffer):
            messages = _decoder.decode(content)
            loader.send(messages)
        loader.end()
    except (sqlite3.Error, OSError) as error:
        sys.stdout.write(str(error))
        return 1
    if not (messages and isinstance(messages[-1], Finish)):
        return 1
    sys.stdout.write(DONE)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
