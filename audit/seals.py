"""The seals, seals.db: the tree over the log, every anchor ever signed, every cosignature.

Unlike the read model this file is precious: it is what the log is held against, so it is
never made anew from the log, and its tables only grow. One process writes (`audit.seal_writer`);
it alone checkpoints (SQLite before 3.51.3 can lose a WAL reset between checkpointing
connections); all others open the file read-only.

An anchor is stored before it is signed. So there is one root for a size, whatever
happens between the two, and whoever else may hold the signature.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias
from urllib.parse import quote

import msgspec

from audit import note as notes
from audit.anchor import Anchor
from audit.note import Key, Note, Signature
from audit.seal_tables import FORMAT
from audit.tiles import nodes
from schema.errors import SealError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from audit.merkle import Node

LOCK_TIMEOUT_S = 10
"""How long a statement waits for another process before it is an error."""

Role: TypeAlias = Literal["log", "also", "witness"]
"""Whose a key is: the log's own; the log's for signatures of another algorithm beside it; a witness's."""

ROLES: tuple[Role, ...] = ("log", "also", "witness")
"""In the order in which a note has their signatures."""


SEALER = "sealer"
"""The finder of a refusal who is the sealer; no witness has a name without a dot or a slash."""


class Head(msgspec.Struct, frozen=True):
    """A head of the tree, stored to be signed: an anchor, once it is.

    ``position`` is that of the last event in it.
    """

    size: int
    root: bytes
    position: int
    stored_at: str
    signed: bool = False


class KnownKey(msgspec.Struct, frozen=True):
    """A public key that signatures are kept of.

    A log's key signs anchors larger than ``since_size``; all but the first have the
    anchor, signed by the key before as well, that ``introduced`` them.
    """

    number: int
    key: Key
    role: Role
    since_size: int
    introduced: str | None


class Timestamp(msgspec.Struct, frozen=True):
    """A time-stamp (RFC 3161) of the anchor of a size: its authority's answer, in DER, and when we had it."""

    size: int
    token: bytes
    stamped_at: str


class Refusal(msgspec.Struct, frozen=True):
    """What somebody found: log or seals are not what was anchored, at a size.

    ``finder`` is `SEALER`, which signs nothing since, or the name of a witness, which
    would not cosign.
    """

    finder: str
    reason: str
    size: int
    found_at: str


class Seals:
    """The seals of one installation, as one process sees them.

    `open_to_read` makes one; close it, or use it as a context manager. Not for several
    threads at once. Methods raise `SealError` where the file can't be read.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self._keys: dict[int, KnownKey] = {}
        found = self._one("SELECT format, origin FROM seals")
        if found is None or found[0] != FORMAT:
            msg = f"the seals {path} have format {found and found[0]}, this simtrail knows {FORMAT}: upgrade"
            raise SealError(msg)
        self.origin: str = found[1]

    def __enter__(self) -> Self:
        """The seals themselves."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def last(self, *, signed: bool = False) -> Head | None:
        """The largest head; or the largest that is signed."""
        found = self.heads(descending=True, signed=signed, limit=1)
        return found[0] if found else None

    def heads(
        self,
        *,
        above: int = 0,
        up_to: int = (1 << 63) - 1,
        descending: bool = False,
        signed: bool = False,
        limit: int = 1,
    ) -> list[Head]:
        """Heads of sizes above one and up to another, in order, as many as asked for at most."""
        order = "DESC" if descending else ""
        only = "AND signed" if signed else ""
        rows = self._all(
            f"""
            SELECT size, root, position, stored_at, EXISTS (
                SELECT 1 FROM signatures JOIN keys USING (key) WHERE signatures.size = anchors.size AND role = 'log'
            ) AS signed FROM anchors WHERE size > ? AND size <= ? {only} ORDER BY size {order} LIMIT ?
            """,
            above,
            up_to,
            limit,
        )
        return [Head(size, root, position, stored_at, bool(flag)) for size, root, position, stored_at, flag in rows]

    def cosigned(self, *, above: int = 0, key: Key | None = None) -> Head | None:
        """The largest head, of a size above one, that a witness has cosigned: any, or that of a key."""
        size = 0
        for known in self.known_keys("witness"):
            if key in {None, known.key}:
                found = self._one("SELECT max(size) FROM signatures WHERE key = ? AND size > ?", known.number, above)
                size = max(size, found[0] or 0 if found else 0)
        heads = self.heads(above=size - 1, up_to=size, signed=True) if size else []
        return heads[0] if heads else None

    def note(self, size: int) -> Note:
        """The anchor of a size with all its signatures, the log's first. Raises `SealError` where it has none."""
        root = self._one("SELECT root FROM anchors WHERE size = ?", size)
        signatures = self.signatures(size)
        if root is None or not any(known.role == "log" for known, _ in signatures):
            msg = f"there is no signed anchor of size {size} in {self._path}"
            raise SealError(msg)
        return Note(self.anchor(size, root[0]).text, tuple(signature for _, signature in signatures))

    def anchor(self, size: int, root: bytes) -> Anchor:
        """What the anchor of a head says."""
        return Anchor(self.origin, size, root)

    def signatures(self, size: int) -> list[tuple[KnownKey, Signature]]:
        """The signatures of a head, each with its key, the log's first."""
        rows = self._all("SELECT key, signature FROM signatures WHERE size = ?", size)
        if any(number not in self._keys for number, _ in rows):
            self._keys = {known.number: known for known in self.known_keys()}
        found = []
        for number, signature in rows:
            known = self._keys[number]
            found.append((known, Signature(known.key.name, known.key.id, signature)))
        return sorted(found, key=lambda each: (ROLES.index(each[0].role), each[0].number))

    def known_keys(self, role: Role | None = None) -> list[KnownKey]:
        """The keys known, or those of a role, in the order in which they came."""
        rows = self._all("SELECT key, vkey, role, since_size, introduced FROM keys ORDER BY key")
        return [
            KnownKey(number, notes.parse_key(vkey), found, since_size, introduced)
            for number, vkey, found, since_size, introduced in rows
            if role in {None, found}
        ]

    def tile(self, level: int, index: int) -> bytes:
        """The hashes of a tile, as many as there are."""
        found = self._one("SELECT hashes FROM tiles WHERE level = ? AND tile = ?", level, index)
        return b"" if found is None else bytes(found[0])

    @property
    def node(self) -> Node:
        """The hashes of perfect subtrees, for as long as nothing is added."""
        return nodes(self.tile)

    def runs(self) -> list[tuple[int, int]]:
        """Where positions run on without a gap: the first leaf, from 0, and the first position of each run."""
        return [(leaf, position) for leaf, position in self._all("SELECT leaf, position FROM runs ORDER BY leaf")]

    def positions(self, start: int, end: int) -> list[int]:
        """The positions of the leaves from one number up to another, as they were sealed."""
        return positions(self.runs(), start, end)

    def leaves_before(self, position: int) -> int:
        """How many leaves are of positions below one."""
        run = self._one("SELECT leaf, position FROM runs WHERE position < ? ORDER BY position DESC LIMIT 1", position)
        if run is None:
            return 0
        following = self._one("SELECT leaf FROM runs WHERE position >= ? ORDER BY position LIMIT 1", position)
        last = self.last()
        end = following[0] if following else last.size if last else 0
        return min(int(run[0] + position - run[1]), int(end))

    def leaf_at(self, position: int) -> int | None:
        """The number of an event's leaf, from 0; None where no leaf is of that position."""
        leaf = self.leaves_before(position)
        return leaf if self.leaves_before(position + 1) == leaf + 1 else None

    def timestamps(self, *, above: int = 0, limit: int = 1, descending: bool = False) -> list[Timestamp]:
        """Time-stamps of anchors of sizes above one, in order, as many as asked for at most."""
        order = "DESC" if descending else ""
        rows = self._all(
            f"SELECT size, token, stamped_at FROM timestamps WHERE size > ? ORDER BY size {order} LIMIT ?", above, limit
        )
        return [Timestamp(*row) for row in rows]

    def refusals(self) -> list[Refusal]:
        """What stands against this log or these seals now, by whoever found it; none where all is well."""
        rows = self._all(
            """
            SELECT finder, reason, size, found_at FROM refusals WHERE reason IS NOT NULL
                AND refusal IN (SELECT max(refusal) FROM refusals GROUP BY finder) ORDER BY refusal
            """,
        )
        return [Refusal(*row) for row in rows]

    def _all(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            msg = f"the seals {self._path} can't be read: {error}"
            raise SealError(msg) from error

    def _one(self, sql: str, *parameters: object) -> tuple[Any, ...] | None:
        found = self._all(sql, *parameters)
        return found[0] if found else None


def positions(runs: Sequence[tuple[int, int]], start: int, end: int) -> list[int]:
    """The positions of the leaves from one number up to another, by the runs; as many as these tell of."""
    found: list[int] = []
    run = max(0, bisect_right(runs, start, key=itemgetter(0)) - 1)
    while start < end and run < len(runs):
        first, position = runs[run]
        run += 1
        following = min(end, runs[run][0]) if run < len(runs) else end
        found.extend(range(position + start - first, position + following - first))
        start = following
    return found


def open_to_read(path: Path) -> Seals:
    """The seals at a path, read-only. Raises `SealError` where there are none."""
    require(path)
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    try:
        connection = sqlite3.connect(
            uri, uri=True, isolation_level=None, timeout=LOCK_TIMEOUT_S, check_same_thread=False
        )
    except sqlite3.Error as error:
        msg = f"the seals {path} can't be opened for reading: {error}"
        raise SealError(msg) from error
    return Seals(path, connection)


def require(path: Path) -> None:
    """Raise `SealError` where there are no seals at a path."""
    if not path.exists():
        msg = f"there are no seals at {path}: they are made with the log's key when sealing first starts"
        raise SealError(msg)
