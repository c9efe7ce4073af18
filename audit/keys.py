"""The log's key: the file that holds it, how it is replaced, and signing by a command instead.

A key file is an Ed25519 private key in PEM (PKCS #8), as openssl reads it, for its owner
alone. Replacing the key leaves a proof: an anchor that names the new key and is signed
by both, so whoever trusts the first key can trust every later one.
"""

from __future__ import annotations

import os
import stat
import subprocess
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import note as notes
from audit import seal_writer
from audit.anchor import ROTATION, Anchor, introduced, parse
from audit.merkle import EMPTY
from audit.note import ED25519, Key, Note, Signature
from schema import durable
from schema.errors import ConfigurationError, ProofError, SealError, SignerUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from audit.seal_writer import SealWriter
    from audit.seals import KnownKey

KEY_MODE = 0o600

SEED_BYTES = 32

PUT_BACK = (
    "copy it there from where it is kept apart, since no backup holds it; docs/operating.md says what a lost key means"
)

ORIGIN_BYTES = 8
"""Random bytes in the origin of a log that was given none: no two installations share one."""

SIGNER_S = 20
"""How long a command may take to sign: a token may ask its server, but not a person."""

SIGNATURE_BYTES = 64 * 1024
"""Bytes that a command's signature may have: post-quantum ones reach 50 KB."""


class Signer(Protocol):
    """Whoever holds a private key."""

    @property
    def key(self) -> Key:
        """The public key of its signatures."""

    def sign(self, message: bytes) -> bytes:
        """The signature over a message. Raises `SignerUnavailable` where there is none now."""


class FileSigner:
    """Signs with an Ed25519 key that this process holds, under a name; for a log, its origin."""

    def __init__(self, name: str, private: Ed25519PrivateKey, kind: int = ED25519) -> None:
        self._private = private
        self._key = Key(name, kind, private.public_key().public_bytes_raw())

    @property
    def key(self) -> Key:
        """The public key."""
        return self._key

    def sign(self, message: bytes) -> bytes:
        """The signature over a message."""
        return self._private.sign(message)


class CommandSigner:
    """Signs by running a command: the message comes on its standard input, the signature goes to its output.

    No shell is involved. Ed25519 signatures are verified before they count; what a
    command of another algorithm gives is kept as it is, for those who know that algorithm.
    """

    def __init__(self, command: Sequence[str], key: Key) -> None:
        self._command = list(command)
        self._key = key

    @property
    def key(self) -> Key:
        """The public key, as it was configured."""
        return self._key

    def sign(self, message: bytes) -> bytes:
        """The signature over a message. Raises `SignerUnavailable` where the command gives none."""
        name = self._command[0]
        try:
            ran = subprocess.run(  # noqa: S603 - the operator's own command, and no shell
                self._command,
                input=message,
                capture_output=True,
                timeout=SIGNER_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            msg = f"the signer {name} can't be run: {error}"
            raise SignerUnavailable(msg) from error
        if ran.returncode or not 0 < len(ran.stdout) <= SIGNATURE_BYTES:
            told = ran.stderr.decode(errors="replace").strip()[-500:]
            msg = f"the signer {name} ended with {ran.returncode} and {len(ran.stdout)} bytes of signature: {told}"
            raise SignerUnavailable(msg)
        return ran.stdout


def start(  # noqa: PLR0913 - what sealing starts with, each by name
    key_path: Path,
    seals_path: Path,
    *,
    origin: str | None = None,
    signer: Signer | None = None,
    entropy: Callable[[int], bytes],
    now: datetime,
) -> tuple[SealWriter, Signer]:
    """The seals of an installation, open for adding, and their signer; made on the first start.

    The signer is the one given, or that of the key file. Raises `ConfigurationError` or
    `SealError`; most of all where seals are there but their key is not, since a new key
    would look like a new log.
    """
    if not seals_path.exists():
        name = origin or (signer.key.name if signer else f"simtrail.internal/{entropy(ORIGIN_BYTES).hex()}")
        first = signer or (load(key_path, name) if key_path.exists() else generate(key_path, name, entropy=entropy))
        if first.key.name != name:
            msg = f"the log is to be called {name}, but the signer's key is that of {first.key.name}: they must be the same"
            raise ConfigurationError(msg)
        seal_writer.create(seals_path, origin=name, key=first.key, now=now)
    seals = seal_writer.open_to_write(seals_path)
    try:
        if origin not in {None, seals.origin}:
            msg = f"the log is called {seals.origin} in every anchor that it signed; it can't be called {origin} now"
            raise ConfigurationError(msg)
        return seals, current(key_path, seals, signer)
    except BaseException:
        seals.close()
        raise


def generate(path: Path, name: str, *, entropy: Callable[[int], bytes], kind: int = ED25519) -> FileSigner:
    """Make a key and its file. Raises `ConfigurationError` where there is a file already, or none can be made."""
    private = Ed25519PrivateKey.from_private_bytes(entropy(SEED_BYTES))
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, KEY_MODE)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
            file.write(pem)
            file.flush()
            os.fsync(descriptor)
        durable.sync(path.parent)
    except OSError as error:
        msg = f"the key file {path} can't be made: {error.strerror}"
        raise ConfigurationError(msg) from error
    return FileSigner(name, private, kind)


def load(path: Path, name: str, kind: int = ED25519) -> FileSigner:
    """The signer of a key file. Raises `ConfigurationError` for one that can't be used, or that others may read."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            msg = f"the key file {path} has mode {mode:04o}, so others may read it: chmod 600, and think of a new key"
            raise ConfigurationError(msg)
        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError as error:
        msg = f"the key file {path} is missing: {PUT_BACK}"
        raise ConfigurationError(msg) from error
    except OSError as error:
        msg = f"the key file {path} can't be read: {error.strerror}; it has to be of the user that simtrail runs as"
        raise ConfigurationError(msg) from error
    except (ValueError, TypeError) as error:
        msg = f"the key file {path} is damaged ({error}): {PUT_BACK}"
        raise ConfigurationError(msg) from error
    if not isinstance(private, Ed25519PrivateKey):
        msg = f"the key file {path} holds no Ed25519 key"
        raise ConfigurationError(msg)
    return FileSigner(name, private, kind)


def current(path: Path, seals: SealWriter, signer: Signer | None = None) -> Signer:
    """The signer of the log's present key: the one given, or that of the key file.

    Finishes a replacement that was interrupted. Raises `SealError` for another key.
    """
    wanted = seals.known_keys("log")[-1].key
    if signer is not None:
        _require_signer(signer, wanted.vkey)
        return signer
    waiting = _waiting(path)
    if waiting.exists() and load(waiting, seals.origin).key == wanted:
        _replace(waiting, path)
    return _held(path, wanted.vkey, seals.origin)


def require(path: Path, wanted: str, origin: str, signer: Signer | None = None) -> None:
    """Raise `ConfigurationError` or `SealError` unless the log's key, given as its vkey, could sign now. Changes no file.

    The key is the signer's, if one is given; else the key file's, or that of a replacement that was interrupted.
    """
    if signer is not None:
        _require_signer(signer, wanted)
        return
    waiting = _waiting(path)
    if not (waiting.exists() and load(waiting, origin).key.vkey == wanted):
        _held(path, wanted, origin)


def _held(path: Path, wanted: str, origin: str) -> FileSigner:
    """The signer of the key file, whose key is the wanted one."""
    held = load(path, origin)
    if held.key.vkey != wanted:
        msg = f"the key file {path} holds {held.key.vkey}, but the log's key is {wanted}: put the right file back"
        raise SealError(msg)
    return held


def _require_signer(signer: Signer, wanted: str) -> None:
    if signer.key.vkey != wanted:
        msg = (
            f"the signer's key is {signer.key.vkey}, the log's is {wanted}: "
            "`simtrail keys rotate` replaces that one by the signer's"
        )
        raise SealError(msg)


def rotate(
    path: Path, seals: SealWriter, *, entropy: Callable[[int], bytes], now: datetime, before: Signer | None = None
) -> Signer:
    """Replace the log's key by a new one in the key file; the new signer. ``before`` signs now, if not the file's key.

    Whenever the machine stops, the file that `current` settles on is the one whose key
    the seals know: the new one waits beside the old until it was introduced.
    """
    known = current(path, seals, before)
    waiting = _waiting(path)
    waiting.unlink(missing_ok=True)
    after = generate(waiting, seals.origin, entropy=entropy)
    introduce(seals, known, after, now=now)
    _replace(waiting, path)
    return after


def introduce(seals: SealWriter, before: Signer, after: Signer, *, now: datetime) -> Note:
    """Have the key of one signer replaced by another's; the anchor, signed by both, that says so.

    A sealer may be at work: what it signs with the old key after this does not count, so it
    signs that again with the new one.

    Raises `SealError` where the last anchor waits for its signature, or another key is
    the log's by now.
    """
    last = seals.last()
    if last is not None and not last.signed:
        msg = f"the anchor of size {last.size} waits for its signature: start sealing once, then replace the key"
        raise SealError(msg)
    size, root = (last.size, last.root) if last else (0, EMPTY)
    text = Anchor(seals.origin, size, root, (ROTATION + after.key.vkey,)).text
    note = Note(text, tuple(signed(signer, text) for signer in (before, after)))
    seals.introduce(after.key, str(note), before=before.key, size=size, now=now)
    return note


def signed(signer: Signer, text: str) -> Signature:
    """A signer's signature of a note's text. Raises `SignerUnavailable`, also for one that is false."""
    signature = signer.sign(text.encode())
    if signer.key.kind == ED25519 and not signer.key.signed(text, signature):
        msg = f"the signer of {signer.key.vkey} gave a signature that is not that key's: check its configuration"
        raise SignerUnavailable(msg)
    return Signature(signer.key.name, signer.key.id, signature)


def check_lineage(origin: str, keys: Sequence[KnownKey]) -> None:
    """Raise `ProofError` unless each of the log's keys but the first was introduced by the one before it."""
    for before, after in pairwise(keys):
        note = notes.parse(after.introduced or "")
        anchor = parse(note.text)
        signers = {key for key, _ in note.verified([before.key, after.key])}
        if (
            (anchor.origin, anchor.size, introduced(anchor)) != (origin, after.since_size, after.key)
            or signers != {before.key, after.key}
            or after.since_size < before.since_size
        ):
            msg = f"the key {after.key.vkey} was not introduced by {before.key.vkey}, the log's key before it"
            raise ProofError(msg)


def _waiting(path: Path) -> Path:
    return path.with_name(f"{path.name}.next")


def _replace(waiting: Path, path: Path) -> None:
    try:
        # A sealer at work may have done it by now.
        with suppress(FileNotFoundError):
            waiting.replace(path)
        durable.sync(path.parent)
    except OSError as error:
        msg = f"the key file {path} can't be replaced: {error.strerror}; {waiting} holds the log's key now"
        raise ConfigurationError(msg) from error
