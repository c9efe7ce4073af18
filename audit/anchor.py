"""Anchors: signed heads of the log's tree (C2SP tlog-checkpoint v1).

An anchor's text has three lines: the origin, which names the log; the size of the
tree; its root in base64. Any further line is an extension, which only an anchor that
introduces a new key has.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from audit import note as notes
from audit.merkle import HASH_BYTES
from schema.errors import ProofError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from audit.note import Key, Note, Signature

ROTATION = "simtrail-key-rotation/v1 "
"""Begins the extension line by which an anchor introduces the key that follows, as a vkey."""

SIZE_LIMIT = 1 << 63
"""Sizes are below this: positions are signed 64-bit numbers in every store."""

PATH_HASHES = 63
"""Hashes of a proof at most: a tree has fewer than 2**63 leaves."""


@dataclass(frozen=True)
class Anchor:
    """What an anchor says: that the log of this origin, at this size, has this root."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The text that is signed."""
        lines = (self.origin, str(self.size), base64.b64encode(self.root).decode(), *self.extensions)
        return "".join(f"{line}\n" for line in lines)


def parse(text: str) -> Anchor:
    """The anchor in a note's text. Raises `ProofError` for any other text."""
    lines = text.split("\n")
    if len(lines) < len(("origin", "size", "root", "")) or lines.pop() or not all(lines):
        msg = "an anchor is three lines or more, none of them empty, each with its newline"
        raise ProofError(msg)
    origin, size, root, *extensions = lines
    return Anchor(origin, parse_number(size), parse_hash(root), tuple(extensions))


def apart(text: str) -> list[str]:
    """The notes in a file that several were appended to, each with an empty line after it."""
    blocks = text.split("\n\n")
    pairs = zip(blocks[::2], blocks[1::2], strict=False)
    return [f"{body}\n\n{signatures.removesuffix(chr(10))}\n" for body, signatures in pairs]


def parse_number(text: str) -> int:
    """The size or index in a text, in its one decimal form. Raises `ProofError`."""
    if not re.fullmatch("0|[1-9][0-9]{0,18}", text, re.ASCII) or int(text) >= SIZE_LIMIT:
        msg = f"{text[:40]!r} is no number of leaves"
        raise ProofError(msg)
    return int(text)


def parse_hash(text: str) -> bytes:
    """The hash in a base64 text. Raises `ProofError`."""
    found = notes.decoded(text)
    if len(found) != HASH_BYTES:
        msg = f"a hash has {HASH_BYTES} bytes, this one {len(found)}"
        raise ProofError(msg)
    return found


def parse_path(lines: Sequence[str]) -> tuple[bytes, ...]:
    """The hashes of a proof, one a line. Raises `ProofError`."""
    if len(lines) > PATH_HASHES:
        msg = f"a proof has at most {PATH_HASHES} hashes, this one {len(lines)}"
        raise ProofError(msg)
    return tuple(parse_hash(line) for line in lines)


def opened(note: Note, keys: Iterable[Key]) -> tuple[Anchor, list[tuple[Key, Signature]]]:
    """The anchor in a note, and its signatures by the keys given, at least one of them the log's.

    A key is the log's where its name is the origin. Raises `ProofError` where none of
    those signed it, or where a signature is false.
    """
    anchor = parse(note.text)
    verified = note.verified(keys)
    if not any(key.name == anchor.origin and key.kind != notes.COSIGNATURE for key, _ in verified):
        signers = ", ".join(f"{each.name} (key {each.key_id.hex()})" for each in note.signatures)
        msg = f"the anchor of {anchor.origin} at size {anchor.size} is not signed by a known key of that log, but by {signers}"
        raise ProofError(msg)
    return anchor, verified


def introduced(anchor: Anchor) -> Key | None:
    """The key that an anchor introduces, if it does. Raises `ProofError` for a key that is none."""
    if not anchor.extensions:
        return None
    if len(anchor.extensions) != 1 or not anchor.extensions[0].startswith(ROTATION):
        msg = f"the anchor at size {anchor.size} has extensions that this simtrail does not know: upgrade"
        raise ProofError(msg)
    return notes.parse_key(anchor.extensions[0].removeprefix(ROTATION))
