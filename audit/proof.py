"""Receipts: what shows to anyone, offline, that an event is in the log (C2SP tlog-proof v1).

A receipt holds the number of the event's leaf, its audit path, an anchor with its
signatures, and, as the format's extra data, the leaf itself.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

from audit import leaf as leaves
from audit import merkle
from audit import note as notes
from audit.anchor import opened, parse_number, parse_path
from schema.errors import NotSealed, ProofError, SealError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from audit.anchor import Anchor
    from audit.leaf import Leaf
    from audit.note import Key, Note, Signature
    from audit.seals import Seals
    from schema.log import Log

HEADER = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True)
class Receipt:
    """A proof that a leaf is in the tree of an anchor. Nothing of it is verified yet.

    ``index`` is the leaf's number, from 0; ``leaf`` its bytes, which the format calls
    extra and may be without.
    """

    leaf: bytes | None
    index: int
    path: tuple[bytes, ...]
    note: Note

    def __str__(self) -> str:
        """The receipt as it is given out."""
        extra = [] if self.leaf is None else [f"extra {base64.b64encode(self.leaf).decode()}"]
        path = [base64.b64encode(each).decode() for each in self.path]
        return "\n".join([HEADER, *extra, f"index {self.index}", *path, "", str(self.note)])

    def verified(self, keys: Iterable[Key]) -> tuple[Leaf, Anchor, list[tuple[Key, Signature]]]:
        """The leaf that is proven, the anchor that proves it, and who signed that of those who hold the keys.

        Raises `ProofError` where a key of the log did not sign the anchor, a signature is
        false, or the path does not lead from the leaf to the root.
        """
        if self.leaf is None:
            msg = "the receipt does not have the leaf that it is about"
            raise ProofError(msg)
        anchor, signatures = opened(self.note, keys)
        found = leaves.decode(self.leaf)
        if not merkle.included(merkle.leaf_hash(self.leaf), self.index, anchor.size, self.path, anchor.root):
            msg = f"the receipt does not show position {found.position} in the tree of size {anchor.size}"
            raise ProofError(msg)
        return found, anchor, signatures


def receipt(log: Log, seals: Seals, position: int) -> Receipt:
    """The receipt of an event, under the anchor that most can be said for.

    That is the newest that a witness has cosigned, if it holds the event, else the newest
    of all. Raises `NotSealed` for an event that waits to be sealed, `ProofError` where
    there is none, or where it can't be proven.
    """
    index = seals.leaf_at(position)
    last = seals.last(signed=True)
    rows = log.stored_after(position - 1, max_events=1)
    recorded = bool(rows) and rows[0][0] == position
    if index is None or last is None or index >= last.size:
        if recorded and position > (last.position if last else 0):
            msg = f"there is no receipt for position {position} yet: it is recorded, and will be sealed in a second"
            raise NotSealed(msg)
        msg = f"there is no receipt for position {position}: no event was sealed there"
        raise ProofError(msg)
    if not recorded:
        msg = f"there is no receipt for position {position}: the event that was sealed there is not in the log any more"
        raise ProofError(msg)
    head = seals.cosigned(above=index) or last
    path = inclusion(seals, index, head.size)
    made = Receipt(leaves.encode(leaves.of(rows[0])), index, tuple(path), seals.note(head.size))
    made.verified(known.key for known in seals.known_keys("log"))
    return made


def inclusion(seals: Seals, index: int, size: int) -> list[bytes]:
    """The audit path of a leaf in the tree of a size that was anchored. Raises `SealError` for tiles that have gaps."""
    try:
        return merkle.inclusion(index, size, seals.node)
    except LookupError as error:
        raise _gap(error) from error


def consistency(seals: Seals, old: int, new: int) -> list[bytes]:
    """The proof that one anchored tree is the beginning of another. Raises `SealError` for tiles that have gaps."""
    try:
        return merkle.consistency(old, new, seals.node)
    except LookupError as error:
        raise _gap(error) from error


def parse(text: str) -> Receipt:
    """The receipt in a text. Raises `ProofError` for what is none."""
    head, blank, note = text.partition("\n\n")
    lines = head.split("\n")
    if not blank or lines.pop(0) != HEADER:
        msg = f"a receipt begins with {HEADER}, and has an anchor after an empty line"
        raise ProofError(msg)
    leaf = None
    if lines and lines[0].startswith("extra "):
        leaf = notes.decoded(lines.pop(0).removeprefix("extra "))
    name, _, index = lines.pop(0).partition(" ") if lines else ("", "", "")
    if name != "index":
        msg = "a receipt names the index of its leaf"
        raise ProofError(msg)
    return Receipt(leaf, parse_number(index), parse_path(lines), notes.parse(note))


def _gap(error: LookupError) -> SealError:
    return SealError(f"seals.db has a gap ({error}): restore it from a backup")
