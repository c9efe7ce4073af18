#!/usr/bin/env python3
"""Checks an evidence bundle of simtrail, or a receipt, with Python alone.

Nothing but this one file and Python 3.9 or newer is needed: no simtrail, no library, no
network. It can be read in an hour. A copy lies in every bundle; whoever does not trust
the bundle takes this file from elsewhere.

    python3 verify.py                          the bundle that this file lies in
    python3 verify.py BUNDLE                   a bundle: its folder, or its zip file
    python3 verify.py FILE.tlog-proof --key K  a receipt

    --key K         a public key of the log that you know to be right (again for more)
    --witness K     a public key of a witness that you trust (again for more)
    --anchor FILE   an anchor of the log that you kept (again for more)
    --receipt P     print the receipt of position P, out of the bundle

It ends with 0 where everything holds; with 1 where anything does not, and says which; with 2
where nothing could be said: a file can't be read, or a key is missing or mistyped.
docs/proof-format.md of simtrail describes what is checked.
"""

# One file, for older Pythons too, in which the numbers of the formats stand where they are used.
# ruff: noqa: B905, EM102, FBT001, FURB161, PLR2004, TRY003, UP017

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import json
import os
import re
import struct
import sys
import zlib
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    StampCheck = Callable[[str, bytes, str], datetime]
    """Gives the time in a time-stamp of a text, from a file of that name; raises `Failure` where it is not good."""

BAGIT = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
FORMAT = "simtrail-evidence/v1"
LEAF = b"simtrail-leaf/v1"
RECEIPT = "c2sp.org/tlog-proof@v1"
ROTATION = "simtrail-key-rotation/v1 "
DASH = "\u2014 "
ED25519, COSIGNATURE = 1, 4
HASH_BYTES = 32

ABOUT, KEYS, PROOFS, EVENTS = "data/bundle.json", "data/keys.json", "data/proofs.json", "data/events.ndjson"
FIRST, LAST = "data/anchors/first.txt", "data/anchors/last.txt"
STAMP = ".tsr"


class Failure(Exception):
    """Something does not hold: where, and what."""


class Unchecked(Exception):
    """What was asked can't be checked, so that nothing is said of what it holds."""


def need(condition: bool, where: str, told: str) -> None:
    """Raise `Failure` unless the condition holds."""
    if not condition:
        raise Failure(f"{where}: {told}")


# Ed25519 (RFC 8032 §5.1.7), verification only: slow, and short enough to be read.

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)
NEUTRAL = (0, 1, 1, 0)
Point = tuple[int, int, int, int]


def ed25519_add(a: Point, b: Point) -> Point:
    """The sum of two points, in extended coordinates."""
    m, n = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    c, d = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = n - m, d - c, d + c, n + m
    return e * f % P, g * h % P, f * g % P, e * h % P


def ed25519_point(data: bytes) -> Point | None:
    """The point in 32 bytes; None where there is none."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT_OF_MINUS_ONE % P
    if (x * x - square) % P or (sign and not x):
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


BASE_X = 15112221349535400772501151409588531511454012693041857206046113283949847762202
BASE_Y = 46316835694926478169428394003475163141307993866256225615783033603165251855960
BASE = (BASE_X, BASE_Y, 1, BASE_X * BASE_Y % P)


def ed25519_verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether a signature over a message is that of a public key."""
    point = ed25519_point(public)
    if len(public) != 32 or len(signature) != 64 or point is None:
        return False
    scalar = int.from_bytes(signature[32:], "little")
    if scalar >= ORDER:
        return False
    hashed = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % ORDER
    # R = scalar * BASE - hashed * point, both at once.
    minus = (P - point[0], point[1], 1, P - point[3])
    sums = (NEUTRAL, BASE, minus, ed25519_add(BASE, minus))
    found = NEUTRAL
    for bit in range(255, -1, -1):
        found = ed25519_add(found, found)
        found = ed25519_add(found, sums[(scalar >> bit & 1) + 2 * (hashed >> bit & 1)])
    inverse = pow(found[2], P - 2, P)
    x, y = found[0] * inverse % P, found[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little") == signature[:32]


# The Merkle tree (RFC 6962 §2.1), and its proofs (RFC 9162 §2.1.3.2 and §2.1.4.2).


def leaf_hash(leaf: bytes) -> bytes:
    """The hash of a leaf."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


EMPTY = hashlib.sha256().digest()


def included(leaf: bytes, index: int, size: int, path: list[bytes], root: bytes) -> bool:
    """Whether a path leads from a leaf's hash, at an index, to the root of a tree."""
    if not 0 <= index < size:
        return False
    at, last, known = index, size - 1, leaf
    for sibling in path:
        if not last:
            return False
        if at & 1 or at == last:
            known = node_hash(sibling, known)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            known = node_hash(known, sibling)
        at, last = at >> 1, last >> 1
    return not last and known == root


def consistent(old: int, old_root: bytes, new: int, new_root: bytes, path: list[bytes]) -> bool:
    """Whether a proof shows that one tree is the beginning of another."""
    if old == new:
        return not path and old_root == new_root
    if not 0 < old < new:
        return old == 0 and not path and old_root == EMPTY
    hashes = list(path)
    if not old & (old - 1):
        hashes.insert(0, old_root)
    if not hashes:
        return False
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    before = after = hashes[0]
    for sibling in hashes[1:]:
        if not last:
            return False
        if at & 1 or at == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            after = node_hash(after, sibling)
        at, last = at >> 1, last >> 1
    return not last and before == old_root and after == new_root


def subtrees(start: int, end: int) -> Iterator[int]:
    """The fewest perfect subtrees that a range of leaves is made of: the height of each, in order."""
    while start < end:
        height = (end - start).bit_length() - 1
        if start:
            height = min(height, (start & -start).bit_length() - 1)
        yield height
        start += 1 << height


class Edge:
    """The right edge of a tree that grows: the roots of its perfect subtrees, largest first."""

    def __init__(self, size: int, roots: list[bytes]) -> None:
        self.size, self.roots = size, list(roots)

    def add(self, height: int, subtree: bytes) -> None:
        """Put a perfect subtree at the right."""
        neighbours = self.size >> height
        while neighbours & 1:
            subtree = node_hash(self.roots.pop(), subtree)
            neighbours >>= 1
        self.roots.append(subtree)
        self.size += 1 << height

    def root(self) -> bytes:
        """The root of the tree as it is now."""
        if not self.roots:
            return EMPTY
        joined = self.roots[-1]
        for left in reversed(self.roots[:-1]):
            joined = node_hash(left, joined)
        return joined


# Texts: base64, keys, notes and anchors (C2SP signed-note, tlog-checkpoint, tlog-cosignature).


def decoded(text: object, where: str) -> bytes:
    """The bytes of a base64 text, in its one form."""
    if isinstance(text, str):
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            data = b""
        if base64.b64encode(data).decode() == text:
            return data
    raise Failure(f"{where}: there is no base64 where it should be")


def hashes(texts: object, where: str) -> list[bytes]:
    """The hashes in base64 texts."""
    if not isinstance(texts, list):
        raise Failure(f"{where}: a list of hashes is missing")
    found = [decoded(text, where) for text in texts]
    need(all(len(each) == HASH_BYTES for each in found), where, f"a hash has not {HASH_BYTES} bytes")
    return found


def number(text: str, where: str) -> int:
    """The number of leaves in a text."""
    need(re.fullmatch("0|[1-9][0-9]{0,18}", text, re.ASCII) is not None, where, "there is no number where it should be")
    return int(text)


class Key:
    """A public key, from its text ``<name>+<id>+<base64 of kind and key>``."""

    def __init__(self, vkey: object, where: str) -> None:
        match = re.fullmatch(r"([^+\s]+)\+([0-9a-f]{8})\+(\S+)", vkey) if isinstance(vkey, str) else None
        if match is None:
            raise Failure(f"{where}: {vkey!r} is no public key")
        data = decoded(match[3], where)
        self.vkey, self.name, self.id = match[0], match[1], bytes.fromhex(match[2])
        self.kind, self.public = data[0], data[1:]
        computed = hashlib.sha256(self.name.encode() + b"\n" + data).digest()[:4]
        need(computed == self.id, where, f"the id of the key {vkey} is not that of its name and key")

    def signed(self, text: str, signature: bytes) -> bool:
        """Whether a signature is over a text; for a witness's, with its time in front."""
        message = text.encode()
        if self.kind == COSIGNATURE:
            time, signature = signature[:8], signature[8:]
            message = f"cosignature/v1\ntime {int.from_bytes(time, 'big')}\n{text}".encode()
        return self.kind in (ED25519, COSIGNATURE) and ed25519_verify(self.public, message, signature)


class Note:
    """A signed note that says what an anchor does: origin, size and root."""

    def __init__(self, data: bytes, where: str) -> None:
        try:
            note = data.decode()
        except UnicodeDecodeError:
            note = ""
        self.where = where
        body, blank, signed = note.rpartition("\n\n")
        lines = body.split("\n")
        control = re.search("[\x00-\x09\x0b-\x1f]", note)
        need(bool(blank) and signed.endswith("\n") and not control, where, "is no signed note")
        need(len(lines) >= len(("origin", "size", "root")) and all(lines), where, "is no anchor")
        self.text = body + "\n"
        self.origin, self.size = lines[0], number(lines[1], where)
        (self.root,) = hashes([lines[2]], where)
        self.extensions = lines[3:]
        self.signatures = []
        for line in signed.split("\n")[:-1]:
            match = re.fullmatch(f"{DASH}([^+\\s]+) (\\S+)", line)
            if match is None:
                raise Failure(f"{where}: {line[:80]!r} is no signature")
            signature = decoded(match[2], where)
            self.signatures.append((match[1], signature[:4], signature[4:]))

    def signed_by(self, key: Key) -> bytes | None:
        """The signature by a key, once it is verified; None where there is none."""
        for name, key_id, signature in self.signatures:
            if (name, key_id) == (key.name, key.id):
                need(key.signed(self.text, signature), self.where, f"the signature by {key.vkey} is false")
                return signature
        return None


# Leaves and events.


class Leaf:
    """What the tree holds of an event: position, time, source and topic, and the digests of state and body."""

    def __init__(self, data: bytes, where: str) -> None:
        need(data[:16] == LEAF, where, f"has a leaf that is none of {LEAF.decode()}")
        self.position, at = int.from_bytes(data[16:24], "big"), 24
        texts = []
        for _ in ("received_at", "source", "topic"):
            end = at + 2 + int.from_bytes(data[at : at + 2], "big")
            texts.append(data[at + 2 : end].decode("utf-8", "replace"))
            at = end
        self.received_at, self.source, self.topic = texts
        need(len(data) == at + 2 * HASH_BYTES, where, "has a leaf of a wrong length")
        self.state_sha256, self.body_sha256 = data[at : at + HASH_BYTES], data[at + HASH_BYTES :]

    def check(self, state: bytes, where: str) -> None:
        """Whether an event's state is what this binds."""
        need(hashlib.sha256(state).digest() == self.state_sha256, where, "the event is not the one in its leaf")
        try:
            event, end = unpack(state, 0)
            body, told = event["body"], (event["received_at"], event["source"])
        except (ValueError, IndexError, KeyError, TypeError, RecursionError):
            raise Failure(f"{where}: the event can't be read") from None
        need(end == len(state) and isinstance(body, bytes), where, "the event can't be read")
        need(hashlib.sha256(body).digest() == self.body_sha256, where, "the body is not the one in its leaf")
        need(told == (self.received_at, self.source), where, "time or source are not those in its leaf")


def unpack(data: bytes, at: int) -> tuple[Any, int]:
    """The value that MessagePack has at a place, of the kinds that an event's state has; and where it ends."""
    kind, at = data[at], at + 1
    if kind < 0x80:
        return kind, at
    if 0xCC <= kind <= 0xCF:
        size = 1 << (kind - 0xCC)
        return int.from_bytes(data[at : at + size], "big"), at + size
    if 0x80 <= kind <= 0x8F or kind in (0xDE, 0xDF):
        count = kind & 0x0F
        if kind >= 0xDE:
            size = 2 << (kind - 0xDE)
            count, at = int.from_bytes(data[at : at + size], "big"), at + size
        found = {}
        for _ in range(count):
            key, at = unpack(data, at)
            found[key], at = unpack(data, at)
        return found, at
    text = 0xA0 <= kind <= 0xBF or 0xD9 <= kind <= 0xDB
    if not text and not 0xC4 <= kind <= 0xC6:
        raise ValueError(kind)
    length = kind & 0x1F
    if kind >= 0xC4:
        size = 1 << (kind - (0xD9 if text else 0xC4))
        length, at = int.from_bytes(data[at : at + size], "big"), at + size
    content = data[at : at + length]
    if len(content) != length:
        raise ValueError(length)
    return content.decode() if text else content, at + length


# The bundle as files.


class Folder:
    """A bundle as a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: set[str] = set()
        for folder, folders, files in os.walk(path):
            for name in folders + files:
                here = Path(folder) / name
                need(not here.is_symlink(), here.relative_to(path).as_posix(), "is a link")
            self.names.update((Path(folder) / name).relative_to(path).as_posix() for name in files)

    def chunks(self, name: str) -> Iterator[bytes]:
        """A file's content, in parts."""
        with (self.path / name).open("rb") as file:
            while True:
                chunk = file.read(1 << 20)
                if not chunk:
                    return
                yield chunk


class Zip:
    """A bundle as a zip file, uncompressed, with no byte in it that simtrail does not write.

    A zip has room for more than its files' contents; what is in it besides is refused.
    """

    LOCAL, CENTRAL, END = struct.Struct("<4s5H3L2H"), struct.Struct("<4s6H3L5H2L"), struct.Struct("<4s4H2LH")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.places: dict[str, tuple[int, int, int]] = {}
        where = path.name
        with path.open("rb") as file:
            central, at, tops = b"", 0, set()
            while True:
                file.seek(at)
                header = file.read(self.LOCAL.size)
                if header[:4] != b"PK\x03\x04":
                    break
                need(len(header) == self.LOCAL.size, where, "the zip file is cut off")
                *_, crc, size, _, length, _ = self.LOCAL.unpack(header)
                name = file.read(length)
                fields = (20, 0, 0, 0, 33, crc, size, size, length, 0)
                need(
                    header == self.LOCAL.pack(b"PK\x03\x04", *fields), where, f"the entry of {name!r} is not as written"
                )
                central += self.CENTRAL.pack(b"PK\x01\x02", 20 | 3 << 8, *fields, 0, 0, 0, 0o100644 << 16, at) + name
                top, slash, inner = name.decode("ascii", "replace").partition("/")
                tops.add(top + slash)
                need(len(tops) == 1 and inner not in self.places, where, "the zip file is not of one folder")
                self.places[inner] = (at + self.LOCAL.size + length, size, crc)
                at += self.LOCAL.size + length + size
            count = len(self.places)
            end = self.END.pack(b"PK\x05\x06", 0, 0, count, count, len(central), at, 0)
            file.seek(at)
            need(file.read() == central + end, where, "the list at the end of the zip file is not as written")
        self.names = set(self.places)

    def chunks(self, name: str) -> Iterator[bytes]:
        """A file's content, in parts."""
        at, left, crc = self.places[name]
        found = 0
        with self.path.open("rb") as file:
            file.seek(at)
            while left:
                chunk = file.read(min(left, 1 << 20))
                need(bool(chunk), name, "is cut off")
                left, found = left - len(chunk), zlib.crc32(chunk, found)
                yield chunk
        need(found == crc, name, "has another check sum in the zip file")


def read(files: Folder | Zip, name: str) -> bytes:
    """The content of a small file."""
    need(name in files.names, name, "is missing")
    return b"".join(files.chunks(name))


def lines_of(files: Folder | Zip, name: str) -> Iterator[bytes]:
    """The lines of a large file, each of which ends in a newline."""
    rest = b""
    need(name in files.names, name, "is missing")
    for chunk in files.chunks(name):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    need(not rest, name, "does not end in a newline")


def document(files: Folder | Zip, name: str) -> dict[str, Any]:
    """The JSON object in a file."""
    try:
        found = json.loads(read(files, name))
    except (ValueError, RecursionError) as error:
        raise Failure(f"{name}: is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise Failure(f"{name}: is no JSON object")
    return found


def check_bag(files: Folder | Zip) -> int:
    """Whether every file is as it is listed, and none is there that is not (BagIt, RFC 8493); their number."""
    need(read(files, "bagit.txt") == BAGIT, "bagit.txt", "does not declare this kind of bag")
    payload = {name for name in files.names if name.startswith("data/")}
    check_manifest(files, "tagmanifest-sha256.txt", files.names - payload - {"tagmanifest-sha256.txt"})
    check_manifest(files, "manifest-sha256.txt", payload)
    return len(files.names)


def check_manifest(files: Folder | Zip, manifest: str, names: set[str]) -> None:
    """Whether files are those that a manifest lists, each once."""
    left = set(names)
    for line in lines_of(files, manifest):
        match = re.fullmatch(rb"([0-9a-f]{64})  ([\x21-\x7e]+)", line)
        if match is None:
            raise Failure(f"{manifest}: has a line that lists no file: {line[:80]!r}")
        name = match[2].decode()
        need(name in left, name, f"is listed in {manifest}, but is not there, or twice")
        left.discard(name)
        digest = hashlib.sha256()
        for chunk in files.chunks(name):
            digest.update(chunk)
        need(digest.hexdigest() == match[1].decode(), name, f"is not the file that {manifest} lists")
    for name in sorted(left):
        raise Failure(f"{name}: is there, but {manifest} does not list it")


# What the bundle proves.


def plain(text: str) -> str:
    """A text that somebody sent, such that it can only be read."""
    return "".join(each if each.isprintable() else "?" for each in text)


def utc(time: int) -> str:
    """Seconds since 1970 as text."""
    try:
        return datetime.fromtimestamp(time, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"second {time} since 1970"


class Trust:
    """The log's keys and the witnesses' that count, and why."""

    def __init__(self, document: dict[str, Any], origin: str, given: list[Key], witnesses: list[Key]) -> None:
        rows = document.get("keys", [])
        need(isinstance(rows, list) and all(isinstance(row, dict) for row in rows), KEYS, "has no keys")
        self.proven: list[str] = []
        self.open: list[str] = []
        self.origin = origin
        self.given = given
        self.lineage = self._lineage([row for row in rows if row.get("role") == "log"])
        self.log = self._counting([key for key, _, _ in self.lineage])
        known = [Key(row.get("vkey"), KEYS) for row in rows if row.get("role") == "witness"]
        self.known_witnesses = {key.vkey for key in witnesses}
        self.witnesses = list({key.vkey: key for key in [*known, *witnesses]}.values())

    def _lineage(self, rows: list[dict[str, Any]]) -> list[tuple[Key, int, int]]:
        """The log's keys, each introduced by the one before; and the sizes that each signs: above one, up to another."""
        keys = [Key(row.get("vkey"), KEYS) for row in rows]
        own = all(key.name == self.origin and key.kind == ED25519 for key in keys)
        need(bool(keys) and own, KEYS, "has no key of the log, or others as the log's")
        sizes = [-1]
        for before, after, row in zip(keys, keys[1:], rows[1:]):
            note = Note(str(row.get("introduced")).encode(), KEYS)
            named = note.origin == self.origin and note.extensions == [ROTATION + after.vkey]
            both = named and note.signed_by(before) and note.signed_by(after)
            need(bool(both), KEYS, f"the key {after.vkey} was not introduced by {before.vkey}")
            sizes.append(note.size)
            self.proven.append(f"The key {after.vkey}\n  was introduced by {before.vkey}.")
        return list(zip(keys, sizes, [*sizes[1:], 1 << 63]))

    def _counting(self, keys: list[Key]) -> set[str]:
        """The keys that count: all, or from the first that was given on."""
        vkeys = [key.vkey for key in keys]
        if not self.given:
            self.open.append(
                "That this is the log's key:\n  " + "\n  ".join(vkeys) + "\n"
                "  Compare it with what you know from elsewhere, or give that with --key.",
            )
            return set(vkeys)
        start = next((at for at, vkey in enumerate(vkeys) if vkey in {key.vkey for key in self.given}), None)
        if start is None:
            raise Failure(f"{KEYS}: none of the log's keys is one that you gave")
        self.proven.append(f"The log's key is the one that you gave:\n  {vkeys[start]}")
        return set(vkeys[start:])

    def signer(self, note: Note) -> Key:
        """The key of the log that signed an anchor; of those that the log had, the one of its time."""
        need(note.origin == self.origin, note.where, f"is an anchor of {note.origin}, not of {self.origin}")
        # Every signature is looked at, so that none of the log's may be false.
        signers = [key for key, above, up_to in self.lineage if note.signed_by(key) and above < note.size <= up_to]
        need(bool(signers), note.where, "is not signed by the log's key of its time")
        return signers[0]

    def check(self, note: Note) -> None:
        """Whether an anchor is signed by a key of the log that counts, and who cosigned it."""
        need(self.signer(note).vkey in self.log, note.where, "is signed by a key from before the one that you gave")
        self.proven.append(f"The anchor of size {note.size} is signed with the log's key.")
        self.cosigned(note)

    def cosigned(self, note: Note) -> None:
        """Say who cosigned an anchor."""
        for key in self.witnesses:
            signature = note.signed_by(key)
            known = key.vkey in self.known_witnesses
            if signature:
                whose = "whose key you gave" if known else f"by the key {key.vkey}"
                time = utc(int.from_bytes(signature[:8], "big"))
                self.proven.append(f"The anchor of size {note.size} is cosigned by {key.name}, {whose},\n  at {time}.")
            if signature and not known:
                self.open.append(f"That the key of {key.name} is that witness's: give it with --witness.")
            if known and not signature:
                self.open.append(
                    f"That {key.name} has seen the anchor of size {note.size}: it did not cosign that one."
                )


class Range:
    """The events of a bundle, as they are read: their places in the tree, and the tree up to them."""

    def __init__(self, start: int, left: list[bytes], last: Note) -> None:
        self.edge, self.anchor = Edge(start, left), last
        self.first = self.last = self.destroyed = 0
        self.gaps: list[tuple[int, int]] = []

    def add(self, line: bytes) -> None:
        """Take the next event, from its line: it must be next in the tree, and what its leaf binds."""
        where = f"data/events.ndjson, leaf {self.edge.size}"
        try:
            event = json.loads(line)
            position, index, state = event["position"], event["index"], event["state"]
            data, path = decoded(event["leaf"], where), hashes(event["path"], where)
        except (ValueError, KeyError, TypeError, RecursionError):
            raise Failure(f"{where}: is no event") from None
        need(type(position) is int and type(index) is int, where, "has no numbers where they should be")
        leaf = Leaf(data, where)
        where = f"position {leaf.position}"
        need(position == leaf.position and index == self.edge.size, where, "is not in its place")
        need(leaf.position > self.last, where, f"comes after position {self.last}")
        hashed = leaf_hash(data)
        need(included(hashed, index, self.anchor.size, path, self.anchor.root), where, "is not in the anchor's tree")
        if state is None:
            self.destroyed += 1
        else:
            leaf.check(decoded(state, where), where)
        if self.first and position != self.last + 1:
            self.gaps.append((self.last + 1, position - 1))
        self.first, self.last = self.first or position, position
        self.edge.add(0, hashed)


class Bundle:
    """A bundle whose files are whole. What it proves gathers in ``proven``; what it leaves open in ``open``."""

    def __init__(self, files: Folder | Zip, trust: Trust, stamps: StampCheck | None = None) -> None:
        self.files, self.trust, self.stamps = files, trust, stamps
        self.proven, self.open = trust.proven, trust.open
        self.about = document(files, ABOUT)
        self.last = Note(read(files, LAST), LAST)
        self.first = Note(read(files, FIRST), FIRST) if FIRST in files.names else None
        self.proofs = document(files, PROOFS)
        sizes = (self.about.get("first_anchor"), self.about.get("last_anchor"))
        need(sizes == (self.first.size if self.first else None, self.last.size), ABOUT, "names other anchors")

    def check(self, kept: list[Note]) -> None:
        """Check anchors and events; and anchors that were kept, where they can be compared."""
        self.trust.check(self.last)
        self._stamped(self.last)
        roots = {self.last.size: self.last.root}
        if self.first:
            # By a key that came before, if need be: it is the last anchor that counts, and this one its beginning.
            self.trust.signer(self.first)
            self.trust.cosigned(self.first)
            self._stamped(self.first)
            path = hashes(self.proofs.get("consistency"), PROOFS)
            proven = consistent(self.first.size, self.first.root, self.last.size, self.last.root, path)
            need(proven, PROOFS, "the first anchor's tree is not shown to be the beginning of the last one's")
            told = f"The tree of size {self.first.size} is the beginning of that of size {self.last.size}:"
            self.proven.append(f"{told}\n  nothing of it was changed or removed between the two anchors.")
            roots[self.first.size] = self.first.root
        self._check_events(roots, {note.size for note in kept})
        for note in kept:
            self.trust.signer(note)
            if note.size not in roots:
                self.open.append(
                    f"{note.where}: its size {note.size} is outside this bundle's range; `simtrail verify --since` compares it."
                )
                continue
            need(
                roots[note.size] == note.root,
                note.where,
                f"is of another history than this bundle, at size {note.size}",
            )
            self.proven.append(f"{note.where}, the anchor that you kept, is of the same history.")

    def _stamped(self, note: Note) -> None:
        """Say what time-stamp (RFC 3161) an anchor has. To check one takes more than Python has, so others do it."""
        name = note.where.replace(".txt", STAMP)
        if name not in self.files.names:
            return
        token, digest = read(self.files, name), hashlib.sha256(note.text.encode())
        need(digest.digest() in token, name, "is no time-stamp of the anchor beside it")
        if self.stamps is None:
            self.open.append(
                f"That the anchor of size {note.size} was there at the time in its time-stamp. With the authority's certificates:\n"
                f"  openssl ts -verify -digest {digest.hexdigest()} -in {name} -CAfile CERTIFICATES"
            )
        else:
            time = self.stamps(name, token, note.text).strftime("%Y-%m-%d %H:%M:%S UTC")
            self.proven.append(
                f"The anchor of size {note.size} is time-stamped by an authority whose certificates you gave,\n  at {time}."
            )

    def _check_events(self, roots: dict[int, bytes], wanted: set[int]) -> None:
        """Check each event, and that none is left out; the roots at the sizes wanted are added to those known."""
        told = self.about.get("range", {})
        need(
            isinstance(told, dict) and type(told.get("first_index")) is int and told["first_index"] >= 0,
            ABOUT,
            "names no range",
        )
        start = told["first_index"]
        left, right = hashes(self.proofs.get("left"), PROOFS), hashes(self.proofs.get("right"), PROOFS)
        need(len(left) == bin(start).count("1"), PROOFS, "does not have the tree left of the range")
        found = Range(start, left, self.last)
        for line in lines_of(self.files, EVENTS):
            if found.edge.size in wanted:
                roots.setdefault(found.edge.size, found.edge.root())
            found.add(line)
        roots.setdefault(found.edge.size, found.edge.root())
        end, edge = found.edge.size, found.edge
        names = (told.get("first_position"), told.get("last_position"), told.get("events"))
        need(
            names == (found.first, found.last, end - start) and end > start,
            ABOUT,
            f"names another range than positions {found.first} to {found.last}",
        )
        heights = list(subtrees(end, self.last.size))
        need(len(right) == len(heights), PROOFS, "does not have the tree right of the range")
        for height, subtree in zip(heights, right):
            edge.add(height, subtree)
        whole = (edge.size, edge.root()) == (self.last.size, self.last.root)
        need(
            whole,
            EVENTS,
            "these events, one after the other, do not make up the anchor's tree: some are left out or put in",
        )
        self._tell(found, end - start)

    def _tell(self, found: Range, count: int) -> None:
        """Say what was proven of the events."""
        self.proven.append(f"Each of the {count} events is in the tree of size {self.last.size}, as it was received.")
        self.proven.append(
            f"From position {found.first} to {found.last} no event is left out, put in, or out of order."
        )
        for first, last in found.gaps:
            self.proven.append(f"No event had a position from {first} to {last} when its neighbours were sealed.")
        if found.destroyed:
            self.open.append(
                f"The content of {found.destroyed} events: it is not in the bundle. Their time, source and digests are proven."
            )
        if any(name.startswith("data/tables/") for name in self.files.names):
            self.open.append(
                "What data/tables/ says: it is as listed, but to prove it the events have to be folded again"
                + self._made_by()
            )
        if not self.trust.witnesses:
            self.open.append("That the log showed everyone the same history: no witness is known to have cosigned.")

    def _made_by(self) -> str:
        """What the published tables were made by, and where their digests are."""
        published = self.about.get("published")
        if not isinstance(published, dict):
            return "."
        by, configuration = plain(str(published.get("made_by"))), plain(str(published.get("configuration")))
        return (
            f",\n  by {by} with the configuration {configuration};\n"
            f"  bundle.json has the digests of all tables, as published at position {published.get('position')!r}."
        )

    def receipt(self, position: int) -> str:
        """The receipt of a position (C2SP tlog-proof)."""
        for line in lines_of(self.files, EVENTS):
            event = json.loads(line)
            if event["position"] == position:
                head = [RECEIPT, f"extra {event['leaf']}", f"index {event['index']}", *event["path"], "", ""]
                return "\n".join(head) + read(self.files, LAST).decode()
        raise Failure(f"position {position}: is not in the bundle")


NEVER = (
    "That what the sender told was true; or that a webhook that never arrived was ever sent.",
    "The time of receipt, beyond the receiver's clock; it was before a witness cosigned what holds the event.",
)
"""What no bundle proves."""


def check_receipt(path: Path, keys: list[Key], witnesses: list[Key]) -> tuple[list[str], list[str]]:
    """What a receipt proves, and what it leaves open."""
    where = path.name
    head, _, note = path.read_bytes().decode("utf-8", "replace").partition("\n\n")
    lines = head.split("\n")
    need(
        lines.pop(0) == RECEIPT and len(lines) > 1 and lines[0].startswith("extra "),
        where,
        "is no receipt with a leaf in it",
    )
    need(lines[1].startswith("index "), where, "names no index")
    if not keys:
        raise Unchecked(f"{where}: a receipt is checked with the log's key, which you know: give it with --key")
    data, index, path_hashes = decoded(lines[0][6:], where), number(lines[1][6:], where), hashes(lines[2:], where)
    anchor, leaf = Note(note.encode(), where), Leaf(data, where)
    signers = [key for key in keys if key.name == anchor.origin and key.kind == ED25519 and anchor.signed_by(key)]
    need(bool(signers), where, f"has an anchor of {anchor.origin} that is not signed by a key that you gave")
    need(included(leaf_hash(data), index, anchor.size, path_hashes, anchor.root), where, "is not in the anchor's tree")
    trust = Trust({"keys": [{"role": "log", "vkey": signers[0].vkey}]}, anchor.origin, signers, witnesses)
    trust.check(anchor)
    trust.proven.append(
        f"Position {leaf.position} is in the log, received at {plain(leaf.received_at)} from {plain(leaf.source)};\n"
        f"  SHA-256 of its body: {leaf.body_sha256.hex()}",
    )
    return trust.proven, trust.open


def check_bundle(
    path: Path, keys: list[Key], witnesses: list[Key], kept: list[Note], stamps: StampCheck | None = None
) -> Bundle:
    """The bundle at a path, once all of it was checked."""
    files = Folder(path) if path.is_dir() else Zip(path)
    count = check_bag(files)
    bundle = check_files(files, keys, witnesses, kept, stamps)
    bundle.proven.insert(0, f"All {count} files of the bundle are as listed.")
    return bundle


def check_files(
    files: Folder | Zip, keys: list[Key], witnesses: list[Key], kept: list[Note], stamps: StampCheck | None = None
) -> Bundle:
    """The bundle that files are, once what they say was checked."""
    about = document(files, ABOUT)
    need(
        about.get("format") == FORMAT and isinstance(about.get("origin"), str), ABOUT, f"is not of the format {FORMAT}"
    )
    bundle = Bundle(files, Trust(document(files, KEYS), about["origin"], keys, witnesses), stamps)
    bundle.check(kept)
    return bundle


def known(option: str, vkeys: list[str]) -> list[Key]:
    """The keys that the command line gives."""
    try:
        return [Key(vkey, option) for vkey in vkeys]
    except Failure as failure:
        raise Unchecked(str(failure)) from None


def unchecked(told: str) -> int:
    """Say why nothing was checked; what to end with."""
    sys.stderr.write(f"NOT CHECKED: {plain(told)}\n")
    return 2


def main(arguments: list[str] | None = None, stamps: StampCheck | None = None) -> int:
    """Check what the command line names; 0 where all holds, 1 where anything doesn't, 2 where it can't be checked.

    Time-stamps are checked by ``stamps``, which simtrail has to give; else they are left open.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--key", action="append", default=[])
    parser.add_argument("--witness", action="append", default=[])
    parser.add_argument("--anchor", action="append", default=[], type=Path)
    parser.add_argument("--receipt", type=int)
    options = parser.parse_args(arguments)
    out = sys.stdout
    try:
        keys, witnesses = known("--key", options.key), known("--witness", options.witness)
        kept = [Note(each.read_bytes(), each.name) for each in options.anchor]
        if options.path.is_file() and options.path.suffix == ".tlog-proof":
            proven, left_open = check_receipt(options.path, keys, witnesses)
        else:
            bundle = check_bundle(options.path, keys, witnesses, kept, stamps)
            if options.receipt is not None:
                out.write(bundle.receipt(options.receipt))
                return 0
            proven, left_open = bundle.proven, bundle.open
    except Failure as failure:
        out.write(f"FAILED\n\n{plain(str(failure))}\n\nNothing of this is to be relied upon.\n")
        return 1
    except Unchecked as error:
        return unchecked(str(error))
    except OSError as error:
        return unchecked(f"{error.filename or options.path}: can't be read: {error.strerror}")
    out.write("PROVEN\n\n" + "".join(f"- {each}\n" for each in proven))
    out.write("\nNOT PROVEN\n\n" + "".join(f"- {each}\n" for each in [*dict.fromkeys(left_open), *NEVER]))
    out.write("\nEverything that was checked holds.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
