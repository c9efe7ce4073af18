"""The digest of a table: one number for all of its rows.

Two tables have the same digest if, and only if, they have the same rows. It is the
sha256 of the rows in the order of their keys, each as one line of JSON: an array of
the values in the order of the columns, with bytes in base64.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from schema.tables import FOLDED

if TYPE_CHECKING:
    import sqlite3

    from schema.tables import Table

_encode_lines = msgspec.json.Encoder().encode_lines

ROWS_AT_ONCE = 1_000
"""Rows hashed in one go: enough that the loop's own cost vanishes."""


class Digest(msgspec.Struct, frozen=True):
    """A table's row count, and its digest in lower-case hex."""

    rows: int
    sha256: str


def digest(connection: sqlite3.Connection, table: Table, database: str = "main") -> Digest:
    """The digest of one table of a database as the connection sees it."""
    key = ", ".join(f'"{column}"' for column in table.key)
    cursor = connection.execute(f"SELECT * FROM {database}.{table.name} ORDER BY {key}")
    total, hashed = 0, hashlib.sha256()
    while rows := cursor.fetchmany(ROWS_AT_ONCE):
        total += len(rows)
        hashed.update(_encode_lines(rows))
    return Digest(total, hashed.hexdigest())


def digests(connection: sqlite3.Connection, database: str = "main") -> dict[str, Digest]:
    """The digest of each table that is there, in the caller's transaction if there is one."""
    there = {row[0] for row in connection.execute(f"SELECT name FROM {database}.sqlite_master")}
    return {table.name: digest(connection, table, database) for table in FOLDED if table.name in there}
