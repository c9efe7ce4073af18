"""How an installation seals: the file sealing.toml in its data folder, which is optional.

It is apart from simtrail.toml, since it says nothing of how webhooks are read: no table
depends on it. It is read when sealing starts.
"""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Annotated

import msgspec

from audit import note as notes
from audit.keys import CommandSigner
from audit.note import COSIGNATURE, ED25519, Key
from schema.errors import ConfigurationError, ProofError

if TYPE_CHECKING:
    from pathlib import Path

ASK_S = 1
"""Seconds between two rounds of asking witnesses, at least: anchors come once a second."""

COPY_S = 60
"""Seconds between two anchors that are copied elsewhere: a year of them is 150 MB at most."""

STAMP_S = 3600
"""Seconds between two time-stamps: public authorities ask for moderation."""

DAY_S = 86_400

_Url = Annotated[str, msgspec.Meta(pattern=r"^https?://[^\s/]+\S*$")]
_Every = Annotated[int, msgspec.Meta(ge=1, le=DAY_S)]


class Witness(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A witness to be asked: its public key, and the URL that ``/add-checkpoint`` is put after."""

    key: str
    url: _Url


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A command that signs what comes on its standard input, and the public key of its signatures."""

    key: str
    command: Annotated[list[str], msgspec.Meta(min_length=1)]


class Copy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file elsewhere that anchors are appended to."""

    file: str
    every_s: _Every = COPY_S


class Stamps(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An authority that time-stamps anchors (RFC 3161), and a file with the certificates that it is trusted by."""

    url: _Url
    certificates: str
    every_s: _Every = STAMP_S


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    origin: Annotated[str, msgspec.Meta(pattern=r"^[^\s+]+$")] | None = None
    signer: Command | None = None
    former_signer: Command | None = None
    also: list[Command] = []
    witnesses: list[Witness] = []
    copy: Copy | None = None
    timestamps: Stamps | None = None


class Cosigner(msgspec.Struct, frozen=True):
    """A witness that is asked: its key, and the URL that ``/add-checkpoint`` is put after."""

    key: Key
    url: str


class Sealing(msgspec.Struct, frozen=True):
    """How an installation seals. Without a ``signer`` the key is in a file.

    ``former_signer`` is the signer of a key that is being replaced; ``also`` sign each
    anchor beside it, with keys of other kinds.
    """

    origin: str | None = None
    signer: CommandSigner | None = None
    former_signer: CommandSigner | None = None
    also: tuple[CommandSigner, ...] = ()
    witnesses: tuple[Cosigner, ...] = ()
    copy: Copy | None = None
    timestamps: Stamps | None = None


def load(path: Path) -> Sealing:
    """How a file says to seal; the defaults where there is none.

    Raises `ConfigurationError`, which names the key and what is wrong with it.
    """
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
        file = msgspec.convert(settings, _File)
    except FileNotFoundError:
        return Sealing()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        msg = f"{path} can't be read: {error}; docs/operating.md has an example"
        raise ConfigurationError(msg) from error
    return Sealing(
        origin=file.origin,
        signer=_signer(path, "signer", file.signer),
        former_signer=_signer(path, "former_signer", file.former_signer),
        also=tuple(CommandSigner(each.command, _key(path, "also", each.key)) for each in file.also),
        witnesses=tuple(Cosigner(_key(path, "witnesses", each.key, COSIGNATURE), each.url) for each in file.witnesses),
        copy=file.copy,
        timestamps=file.timestamps,
    )


def _signer(path: Path, name: str, given: Command | None) -> CommandSigner | None:
    return None if given is None else CommandSigner(given.command, _key(path, name, given.key, ED25519))


def _key(path: Path, name: str, vkey: str, kind: int | None = None) -> Key:
    try:
        key = notes.parse_key(vkey)
    except ProofError as error:
        msg = f"{path}: {name}: {error}"
        raise ConfigurationError(msg) from error
    if kind not in {None, key.kind}:
        wanted = "for cosignatures, as `simtrail witness` shows its own" if kind == COSIGNATURE else "an Ed25519 key"
        msg = f"{path}: {name}: the key {vkey} is of kind {key.kind:02x}; it must be {wanted}"
        raise ConfigurationError(msg)
    return key
