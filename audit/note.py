"""Signed notes (C2SP signed-note v1): text, and the signatures of those who stand by it.

    <text, ending in a newline>
    <empty line>
    — <key's name> <base64 of the key's id, 4 bytes, and the signature>

Two kinds of signatures are known here: Ed25519 over the text, and witnesses'
cosignatures with a time (C2SP tlog-cosignature, ``cosignature/v1``). Others are
carried along and never counted.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from schema.errors import ProofError

if TYPE_CHECKING:
    from collections.abc import Iterable

ED25519 = 0x01
"""The kind of a signature over the note's text (signed-note, "Signature types")."""

COSIGNATURE = 0x04
"""The kind of a witness's signature over the time and the text (tlog-cosignature)."""

DASH = "\u2014 "
"""What a signature's line begins with."""

KEY_ID_BYTES = 4
ED25519_KEY_BYTES = 32
TIME_BYTES = 8

TIME_LIMIT = 1 << 63
"""A cosignature's time is below this (tlog-cosignature, "Format")."""

SIGNATURES = 100
"""Signatures of a note at most: the specification asks for 16, Go's reader takes 100."""

NOTE_BYTES = 1024 * 1024
"""Bytes of a note at most: a hundred signatures of any algorithm fit."""


@dataclass(frozen=True)
class Key:
    """A public key under a name, for one kind of signatures.

    ``public`` is as that kind encodes it: 32 bytes for both of Ed25519.
    """

    name: str
    kind: int
    public: bytes

    def __post_init__(self) -> None:
        if not self.name or "+" in self.name or any(each.isspace() or each < " " for each in self.name):
            msg = f"{self.name!r} can't name a key: a name has no spaces, no control characters and no plus"
            raise ProofError(msg)
        if self.kind in {ED25519, COSIGNATURE} and len(self.public) != ED25519_KEY_BYTES:
            msg = f"the key {self.name} has {len(self.public)} bytes, an Ed25519 key has {ED25519_KEY_BYTES}"
            raise ProofError(msg)

    @cached_property
    def id(self) -> bytes:
        """The four bytes that go before each of its signatures."""
        return sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:KEY_ID_BYTES]

    @cached_property
    def vkey(self) -> str:
        """The key as text, to be given to those who check: name, id and the key itself."""
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(bytes([self.kind]) + self.public).decode()}"

    @cached_property
    def _ed25519(self) -> Ed25519PublicKey:
        return Ed25519PublicKey.from_public_bytes(self.public)

    def signed(self, text: str, signature: bytes) -> bool:
        """Whether a signature of this key, without its id, is over a note's text."""
        message = text.encode()
        if self.kind == COSIGNATURE:
            time, signature = int.from_bytes(signature[:TIME_BYTES], "big"), signature[TIME_BYTES:]
            if time >= TIME_LIMIT:
                return False
            message = cosigned(text, time)
        elif self.kind != ED25519:
            return False
        try:
            self._ed25519.verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True)
class Signature:
    """A signature by the key of a name and an id."""

    name: str
    key_id: bytes
    signature: bytes

    @property
    def line(self) -> str:
        """The signature as a line of a note, without its newline."""
        return f"{DASH}{self.name} {base64.b64encode(self.key_id + self.signature).decode()}"

    def by(self, key: Key) -> bool:
        """Whether it claims to be that key's."""
        return self.name == key.name and self.key_id == key.id


@dataclass(frozen=True)
class Note:
    """A text and its signatures, none of them verified yet. The text ends in a newline."""

    text: str
    signatures: tuple[Signature, ...]

    def __str__(self) -> str:
        """The note as it is written."""
        return f"{self.text}\n" + "".join(f"{each.line}\n" for each in self.signatures)

    def verified(self, keys: Iterable[Key]) -> list[tuple[Key, Signature]]:
        """The signatures by the keys given, one for each key, in the order of the note.

        Raises `ProofError` where one claims to be a given key's and is not: such a note
        is not to be believed in anything. Signatures by other keys are passed over.
        """
        known = {(key.name, key.id): key for key in keys}
        found = []
        for signature in self.signatures:
            key = known.get((signature.name, signature.key_id))
            if key is None:
                continue
            if not key.signed(self.text, signature.signature):
                msg = f"the signature by {key.name} (key {key.id.hex()}) is not over this text:\n{self.text}"
                raise ProofError(msg)
            del known[key.name, key.id]
            found.append((key, signature))
        return found


def cosigned(text: str, time: int) -> bytes:
    """What a witness signs: the time, in seconds since 1970, and a note's text."""
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def cosigned_at(signature: Signature) -> int:
    """The time in a witness's signature, in seconds since 1970."""
    return int.from_bytes(signature.signature[:TIME_BYTES], "big")


def parse(note: str | bytes) -> Note:
    """The note in a text. Raises `ProofError` for what is none."""
    text = _text(note)
    body, blank, lines = text.rpartition("\n\n")
    if not blank or not lines.endswith("\n"):
        msg = "a note is a text, an empty line and lines of signatures, the last with its newline"
        raise ProofError(msg)
    return Note(body + "\n", parse_signatures(lines))


def parse_signatures(lines: str | bytes) -> tuple[Signature, ...]:
    """The signatures in lines, at least one, each with its newline. Raises `ProofError`."""
    text = _text(lines)
    found = text.split("\n")
    if found.pop() or not 0 < len(found) <= SIGNATURES:
        msg = f"a note has 1 to {SIGNATURES} signatures, each on a line of its own"
        raise ProofError(msg)
    return tuple(_signature(line) for line in found)


def parse_key(vkey: str) -> Key:
    """The key in a text ``<name>+<id>+<base64 of kind and key>``. Raises `ProofError`."""
    name, plus, rest = vkey.partition("+")
    key_id, second_plus, encoded = rest.partition("+")
    if not plus or not second_plus:
        msg = f"{vkey!r} is no public key: it has the form <name>+<id>+<base64>"
        raise ProofError(msg)
    data = decoded(encoded)
    if len(data) <= 1:
        msg = f"{vkey!r} is no public key: there is nothing after the kind of its signatures"
        raise ProofError(msg)
    key = Key(name, data[0], data[1:])
    if key.id.hex() != key_id:
        msg = f"the id in {vkey!r} is {key_id}, but its name and key make {key.id.hex()}: it was not copied whole"
        raise ProofError(msg)
    return key


def decoded(encoded: str) -> bytes:
    """The bytes of a base64 text of RFC 4648 §4, in its one form. Raises `ProofError`."""
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        msg = f"{encoded[:80]!r} is no base64: {error}"
        raise ProofError(msg) from error
    if base64.b64encode(data).decode() != encoded:
        msg = f"{encoded[:80]!r} is not the base64 that its bytes have"
        raise ProofError(msg)
    return data


def _text(data: str | bytes) -> str:
    if len(data) > NOTE_BYTES:
        msg = f"a note has at most {NOTE_BYTES} bytes, this one {len(data)}"
        raise ProofError(msg)
    try:
        text = data if isinstance(data, str) else data.decode()
    except UnicodeDecodeError as error:
        msg = f"a note is UTF-8, this one is not: {error}"
        raise ProofError(msg) from error
    control = next((each for each in text if each < " " and each != "\n"), None)
    if control is not None:
        msg = f"a note has no control character but the newline, this one has {control!r}"
        raise ProofError(msg)
    return text


def _signature(line: str) -> Signature:
    name, space, encoded = line.removeprefix(DASH).partition(" ")
    if not line.startswith(DASH) or not space:
        msg = f"{line[:80]!r} is no signature's line: it has the form — <name> <base64>"
        raise ProofError(msg)
    if not name or "+" in name or any(each.isspace() for each in name):
        msg = f"{name!r} can't name a key"
        raise ProofError(msg)
    data = decoded(encoded)
    if len(data) <= KEY_ID_BYTES:
        msg = f"there is no signature in {line[:80]!r}"
        raise ProofError(msg)
    return Signature(name, data[:KEY_ID_BYTES], data[KEY_ID_BYTES:])
