"""A walk along the log and the seals, tile by tile: what a verification does.

Two trees are grown side by side, over the leaves as the seals have them and as the log
gives them. While both are the same it is one; from where they part, the anchors tell
which of the two was changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from audit import leaf, merkle, tiles
from audit import note as notes
from audit.anchor import opened
from audit.keys import check_lineage
from audit.merkle import HASH_BYTES, Edge
from audit.seals import positions
from audit.tiles import HEIGHT, WIDTH
from schema.errors import LogError, ProofError

if TYPE_CHECKING:
    from audit.seals import Head, Seals
    from schema.log import Log, Stored

FINDINGS = 1_000
"""Findings that are listed; more are counted only. Neighbours are one finding."""

BEFORE_ALL = -(1 << 63)
"""Below every position that a table can have; no event of ours is at one below 1."""

RESTORE = "restore seals.db from a backup"

Kind: TypeAlias = Literal["changed", "removed", "added", "anchor", "signature", "key", "tile", "kept", "stamp", "table"]


TOLD: dict[Kind, str] = {
    "changed": "the event in the log is not the one that was sealed",
    "removed": "the event that was sealed is not in the log any more",
    "added": "there was no event when its neighbours were sealed",
}
"""What is told of a position whose event is not as sealed; neighbours of one kind are one finding."""


class Finding(msgspec.Struct, frozen=True):
    """Something that is not as it was sealed: at a position, or at several in a row."""

    kind: Kind
    first: int
    last: int
    told: str

    def __str__(self) -> str:
        """The finding in a sentence."""
        where = f"position {self.first}" if self.first == self.last else f"positions {self.first} to {self.last}"
        return f"{where}: {self.told}"


class Counts(msgspec.Struct, frozen=True):
    """How much was verified."""

    leaves: int = 0
    anchors: int = 0
    signatures: int = 0
    cosignatures: int = 0


class Progress(msgspec.Struct, frozen=True):
    """What was verified up to a full tile, as far as it is needed to go on. Can be saved, as JSON or MessagePack."""

    size: int = 0
    roots: tuple[bytes, ...] = ()
    position: int = BEFORE_ALL
    sound: int = 0
    counts: Counts = Counts()
    findings: tuple[Finding, ...] = ()
    more: int = 0
    log_size: int = 0
    log_roots: tuple[bytes, ...] | None = None
    """The edge of the log's own tree, once it has parted from the sealed one."""


class Walk:
    """A verification under way: the edges of the two trees, and what was found so far."""

    def __init__(self, log: Log, seals: Seals, start: Progress) -> None:
        self._log = log
        self._seals = seals
        self._runs = seals.runs()
        self._keys = seals.known_keys("log")
        self._edge = Edge(start.size, start.roots)
        self._log_edge = None if start.log_roots is None else Edge(start.log_size, start.log_roots)
        self._position = start.position
        self._sound = start.sound
        self._parted = False
        self.findings = list(start.findings)
        self.more = start.more
        self.counts = start.counts
        self.saved = start

    def check_keys(self) -> None:
        """Whether each of the log's keys was introduced by the one before it."""
        try:
            check_lineage(self._seals.origin, self._keys)
        except ProofError as error:
            self._find("key", 1, 1, str(error))

    def tile(self, index: int, end: int) -> bool:
        """Verify the leaves of a tile up to a size; False where it can't be gone on from there."""
        start = self._edge.size
        sealed = self._seals.tile(0, index)[: (end - start) * HASH_BYTES]
        positions = self._positions(start, end)
        if len(sealed) != (end - start) * HASH_BYTES or len(positions) != end - start:
            told = (
                f"tile {tiles.path(0, index)} of seals.db has gaps, so that nothing from here on is verified: {RESTORE}"
            )
            self._find("tile", *self._between(start, end), told)
            return False
        hashes = tiles.split(sealed)
        found = self._compare(positions, hashes)
        self._check_anchors(hashes, found, end)
        self.counts = replace(self.counts, leaves=self.counts.leaves + len(hashes))
        if len(hashes) == WIDTH:
            self._close(index, hashes, found)
        return True

    def check_kept(self, text: str, target: Head | None) -> None:
        """Whether an anchor that was kept elsewhere is of this log's past."""
        try:
            anchor, _ = opened(notes.parse(text), [known.key for known in self._keys])
        except ProofError as error:
            self._find("kept", 1, 1, f"an anchor that was kept does not count: {error}")
            return
        kept = f"the anchor that was kept, of size {anchor.size},"
        if target is None or anchor.size > target.size:
            position = target.position + 1 if target else 1
            told = f"{kept} is larger than what was sealed here: log and seals were put back to an older copy"
            self._find("kept", position, position, told)
        elif self._root(anchor.size) != anchor.root:
            told = (
                f"{kept} is of another history: an event that was sealed among these was changed since, and sealed anew"
            )
            self._find("kept", *self._between(0, max(1, anchor.size)), told)

    def _compare(self, positions: list[int], sealed: list[bytes]) -> list[bytes]:
        """The leaves in the log that stand where those sealed were, by their hashes; and how they differ."""
        at, found = self._read(count=len(sealed))
        if found == sealed:
            # A leaf binds its position: that of the log is right, then.
            if at != positions:
                self._find("tile", at[0], at[-1], f"the positions that seals.db has are not those sealed: {RESTORE}")
            self._position = at[-1]
            return found
        at, found = self._read(last=positions[-1])
        self._position = positions[-1]
        if self._log_edge is None:
            self._log_edge = self._edge.copy()
        was, now = dict(zip(positions, sealed, strict=True)), dict(zip(at, found, strict=True))
        for position in sorted(was.keys() | now.keys()):
            if was.get(position) != now.get(position):
                kind: Kind = "removed" if position not in now else "added" if position not in was else "changed"
                self._find(kind, position, position, TOLD[kind])
        return found

    def _read(self, *, count: int | None = None, last: int | None = None) -> tuple[list[int], list[bytes]]:
        """The positions and leaves, by their hashes, that come next in the log: so many, or up to a position."""
        at: list[int] = []
        found: list[bytes] = []
        position = self._position
        while count is None or len(found) < count:
            rows = self._log.stored_after(position, max_events=WIDTH if count is None else count - len(found))
            if last is not None:
                rows = [row for row in rows if row[0] <= last]
            if not rows:
                break
            at.extend([row[0] for row in rows])
            found.extend(_hashes_of(rows))
            position = at[-1]
        return at, found

    def _check_anchors(self, sealed: list[bytes], found: list[bytes], end: int) -> None:
        """Compare the roots over the leaves with the anchors up to a size, and verify their signatures."""
        heads = self._seals.heads(above=self._edge.size, up_to=end, limit=WIDTH)
        sizes = [head.size for head in heads]
        roots = _roots(self._edge, sealed, sizes)
        log_roots = _roots(self._log_edge, found, sizes) if self._log_edge else roots
        for head, root, log_root in zip(heads, roots, log_roots, strict=True):
            signed = self._check_signatures(head)
            if root == head.root:
                self._sound, self._parted = head.size, False
            elif signed and not self._parted:
                # Every larger tree differs as well: the first one says it.
                self._parted = True
                self._find(*self._difference(head, in_log=log_root == head.root))
        self.counts = replace(self.counts, anchors=self.counts.anchors + len(heads))

    def _difference(self, head: Head, *, in_log: bool) -> tuple[Kind, int, int, str]:
        """What to find where the sealed tree has not the root of an anchor."""
        first, last = self._between(self._sound, head.size)
        if in_log:
            told = f"the log has the root of the anchor of size {head.size}, the tiles of seals.db do not: {RESTORE}"
            return "tile", first, last, told
        told = f"neither log nor seals.db has the root of the anchor of size {head.size}, stored at {head.stored_at}: both were changed"
        return "anchor", first, last, told

    def _check_signatures(self, head: Head) -> bool:
        """Verify the signatures of an anchor; whether the log's key of its time signed it."""
        text = self._seals.anchor(head.size, head.root).text
        key = next(known for known in reversed(self._keys) if known.since_size < head.size or not known.introduced)
        by_log = by_witnesses = 0
        for known, signature in self._seals.signatures(head.size):
            if known.role == "also":
                continue
            if not known.key.signed(text, signature.signature):
                self._find_signature(head, f"has a false signature by {known.key.vkey}")
            elif known.role == "witness":
                by_witnesses += 1
            elif known.number == key.number:
                by_log = 1
            else:
                self._find_signature(head, f"is signed by {known.key.vkey}, which was not the log's key then")
        if not by_log:
            self._find_signature(head, "is not signed by the log's key of its time")
        self.counts = replace(
            self.counts,
            signatures=self.counts.signatures + by_log,
            cosignatures=self.counts.cosignatures + by_witnesses,
        )
        return bool(by_log)

    def _close(self, index: int, sealed: list[bytes], found: list[bytes]) -> None:
        """Take a full tile into the edges, and check that the levels above have its root."""
        block = merkle.perfect(sealed)
        self._edge.add(HEIGHT, block)
        if self._log_edge is not None:
            self._log_edge.extend(found)
        level = 0
        while True:
            parent, place = divmod(index, WIDTH)
            above = tiles.split(self._seals.tile(level + 1, parent))
            if above[place : place + 1] != [block]:
                told = f"tile {tiles.path(level + 1, parent)} of seals.db has not the root over these, so that receipts fail: {RESTORE}"
                self._find("tile", *self._between(index << HEIGHT * (level + 1), self._edge.size), told)
                break
            if place < WIDTH - 1:
                break
            level, index, block = level + 1, parent, merkle.perfect(above)
        self.saved = Progress(
            size=self._edge.size,
            roots=self._edge.roots,
            position=self._position,
            sound=self._sound,
            counts=self.counts,
            findings=tuple(self.findings),
            more=self.more,
            log_size=self._log_edge.size if self._log_edge else 0,
            log_roots=self._log_edge.roots if self._log_edge else None,
        )

    def _positions(self, start: int, end: int) -> list[int]:
        """The positions that leaves had when they were sealed."""
        return positions(self._runs, start, end)

    def _between(self, start: int, end: int) -> tuple[int, int]:
        """The first and the last position of leaves; the first there is, where seals.db does not tell."""
        return (self._positions(start, start + 1) or [1])[0], (self._positions(end - 1, end) or [1])[0]

    def _root(self, size: int) -> bytes:
        """The root that the tiles have at a size; nothing, where they have gaps."""
        try:
            return merkle.root(size, self._seals.node)
        except LookupError:
            return b""

    def _find_signature(self, head: Head, told: str) -> None:
        self._find("signature", head.position, head.position, f"the anchor of size {head.size} {told}")

    def _find(self, kind: Kind, first: int, last: int, told: str) -> None:
        """Add a finding; to the one before, if it goes on with it."""
        before = self.findings[-1] if self.findings else None
        if before is not None and kind in TOLD and (before.kind, before.last + 1) == (kind, first):
            self.findings[-1] = replace(before, last=last)
        elif len(self.findings) < FINDINGS:
            self.findings.append(Finding(kind, first, last, told))
        else:
            self.more += 1


def _hashes_of(rows: list[Stored]) -> list[bytes]:
    """The hashes of stored events' leaves."""
    try:
        return [leaf.hash_of(row) for row in rows]
    except (LogError, OverflowError):
        return [_hash_of(row) for row in rows]


def _hash_of(row: Stored) -> bytes:
    """The hash of a stored event's leaf; of nothing that was ever sealed, where it can't be one."""
    try:
        return leaf.hash_of(row)
    except (LogError, OverflowError):
        return bytes(HASH_BYTES)


def _roots(edge: Edge, leaves: list[bytes], sizes: list[int]) -> list[bytes]:
    """The roots that a tree has at some sizes, growing by leaves; nothing for a size that it does not reach."""
    grown = edge.copy()
    found = []
    for size in sizes:
        if size > grown.size:
            grown.extend(leaves[grown.size - edge.size : size - edge.size])
        found.append(grown.root() if grown.size == size else b"")
    return found
