"""Sources and their secrets: the file `sources.json`, changed by commands, followed by the receiver.

A secret is shown once, when it is made. The file keeps its SHA-256: a secret is
192 random bits, not a password, so there is nothing that a slow or salted hash
would protect from guessing, and a fast one keeps the check off the hot path.

A rotation: `rotate` adds a secret while the earlier ones stay valid; change the
URL at the platform; then end the old one with `remove(…, secret_id=…)`. After a leak,
`rotate(…, drop_old=True)` ends all others at once.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from contextlib import contextmanager, suppress
from hmac import compare_digest
from typing import TYPE_CHECKING, Annotated

import msgspec
import structlog
from msgspec.structs import replace

from ingest.bounds import Bound, network
from ingest.limits import SECRET_BYTES, SECRETS
from schema import registry
from schema.errors import ConfigurationError, SourceError
from schema.event import instant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

FILE_VERSION = 1

NAME = r"^[a-z0-9][a-z0-9-]{0,62}\Z"
"""A source's name is a part of URLs, keys and pages: nothing in it ever needs quoting."""

_NO_SECRET = bytes(32)
"""The SHA-256 of nothing that anyone can find: pads what is compared to one length."""

_lines = structlog.get_logger("simtrail.sources")


class Secret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A secret as the file keeps it. ``sha256`` is lower-case hex of its UTF-8 bytes."""

    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    added_at: str

    @property
    def id(self) -> str:
        """The first eight digits of the hash: enough to name it, of no use to guess it."""
        return self.sha256[:8]


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A named sender. Any of ``secrets``, oldest first, lets it in.

    It may deliver from ``networks`` alone, if there are any, and ``per_second`` times a second, if that is not 0.
    """

    name: Annotated[str, msgspec.Meta(pattern=NAME)]
    added_at: str
    secrets: Annotated[tuple[Secret, ...], msgspec.Meta(min_length=1, max_length=SECRETS)]
    networks: tuple[str, ...] = ()
    per_second: Annotated[int, msgspec.Meta(ge=0)] = 0


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    v: int
    sources: tuple[Source, ...]


def add(path: Path, name: str, *, now: datetime, entropy: Callable[[int], bytes]) -> str:
    """Add a source to the file at a path, made if it is not there; its first secret, in plain.

    The secret can't be had again. Raises `SourceError` for a name that is taken
    or not a name, `ConfigurationError` for a file that can't be read or written.
    """
    if not re.match(NAME, name):
        msg = f"{name!r} can't name a source: take 1 to 63 of a-z, 0-9 and hyphens, beginning with a letter or a digit"
        raise SourceError(msg)
    secret, kept = _new_secret(now, entropy)
    with _editing(path) as sources:
        if name in sources:
            msg = f"the source {name} is there already, since {sources[name].added_at}: rotate gives it a new secret"
            raise SourceError(msg)
        sources[name] = Source(name, instant(now), (kept,))
    return secret


def rotate(
    path: Path,
    name: str,
    *,
    now: datetime,
    entropy: Callable[[int], bytes],
    drop_old: bool = False,
) -> str:
    """Give a source one more secret, in plain; or, with ``drop_old``, only this one from now on.

    Raises `SourceError` for an unknown source, or one that has as many secrets as it may.
    """
    secret, kept = _new_secret(now, entropy)
    with _editing(path) as sources:
        source = _found(sources, name)
        earlier = () if drop_old else source.secrets
        if len(earlier) >= SECRETS:
            msg = f"the source {name} has {SECRETS} secrets, the most it may: remove old ones first"
            raise SourceError(msg)
        sources[name] = replace(source, secrets=(*earlier, kept))
    return secret


def remove(path: Path, name: str, *, secret_id: str | None = None) -> None:
    """Remove a source, or one of its secrets. What it sent stays in the log.

    Raises `SourceError` where there is no such source or secret, or where the
    secret is the source's last.
    """
    with _editing(path) as sources:
        source = _found(sources, name)
        if secret_id is None:
            del sources[name]
            return
        left = tuple(secret for secret in source.secrets if secret.id != secret_id)
        if len(left) == len(source.secrets):
            ids = ", ".join(secret.id for secret in source.secrets)
            msg = f"the source {name} has no secret {secret_id!r}: its secrets are {ids}"
            raise SourceError(msg)
        if not left:
            msg = f"{secret_id} is the last secret of the source {name}: rotate first, or remove the source"
            raise SourceError(msg)
        sources[name] = replace(source, secrets=left)


def allow(path: Path, name: str, networks: Iterable[str]) -> None:
    """Let a source deliver from these networks or addresses alone; from any where there are none.

    Raises `SourceError` for an unknown source, or what is no network.
    """
    settled = tuple(str(network(each)) for each in networks)
    with _editing(path) as sources:
        sources[name] = replace(_found(sources, name), networks=settled)


def limit(path: Path, name: str, per_second: int) -> None:
    """Let a source deliver so many times a second; any number of times where that is 0.

    Raises `SourceError` for an unknown source, or a number below 0.
    """
    if per_second < 0:
        msg = f"a source can't deliver {per_second} times a second: take a whole number, or 0 for no limit"
        raise SourceError(msg)
    with _editing(path) as sources:
        sources[name] = replace(_found(sources, name), per_second=per_second)


def listed(path: Path) -> tuple[Source, ...]:
    """The sources in the file at a path, in the order added; none where there is no file.

    Raises `ConfigurationError` for a file that can't be read.
    """
    return _read(path) if path.exists() else ()


def webhook_path(name: str, secret: str) -> str:
    """The path of the URL to give to the platform."""
    return f"/webhooks/{name}/{secret}"


class Sources:
    """The sources as a running receiver knows them.

    Follows the file: a change counts from the event loop's next turn. A file that can't
    be read, or has gone, changes nothing but a line in the receiver's own log.
    Raises `ConfigurationError` when made, if the file can't be read then.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = registry.signature(path)
        self._looked = False
        self._know(listed(path))
        if not self._hashes:
            _lines.warning("no source may deliver yet", file=str(path), remedy="simtrail sources add NAME")

    def authenticate(self, name: str, secret: str) -> bool:
        """Whether the secret is one of the source's.

        Takes the same time for any secret and any source, known or not: all are
        compared with as many hashes as the source with the most has.
        """
        self._follow()
        given = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
        known = False
        for kept in self._hashes.get(name, self._nobody):
            known |= compare_digest(given, kept)
        return known

    def bound(self, name: str) -> Bound | None:
        """What a source that has just been authenticated is held to; None where it may deliver from anywhere, at any rate."""
        return self._bounds.get(name)

    def _know(self, sources: Sequence[Source]) -> None:
        bounds = {
            source.name: Bound(tuple(map(network, source.networks)), source.per_second)
            for source in sources
            if source.networks or source.per_second
        }
        self._hashes, self._nobody = _padded(sources)
        self._bounds = bounds

    def _follow(self) -> None:
        if self._looked:
            return
        # Once for all that the event loop does in one turn; in a thread, where receipts are found, each time.
        with suppress(RuntimeError):
            asyncio.get_running_loop().call_soon(self._look_again)
            self._looked = True
        seen = registry.signature(self._path)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._know(_read(self._path))
        except (ConfigurationError, SourceError) as error:
            _lines.error("sources unchanged: the file can't be used", reason=str(error))
        else:
            _lines.info("sources changed", sources=sorted(self._hashes))

    def _look_again(self) -> None:
        self._looked = False


def _padded(sources: Iterable[Source]) -> tuple[dict[str, tuple[bytes, ...]], tuple[bytes, ...]]:
    """The hashes of each source, and those of an unknown one: all equally many."""
    kept = {source.name: [bytes.fromhex(secret.sha256) for secret in source.secrets] for source in sources}
    nobody = [_NO_SECRET] * max(map(len, kept.values()), default=1)
    return {name: (*hashes, *nobody[len(hashes) :]) for name, hashes in kept.items()}, tuple(nobody)


def _new_secret(now: datetime, entropy: Callable[[int], bytes]) -> tuple[str, Secret]:
    secret = base64.urlsafe_b64encode(entropy(SECRET_BYTES)).rstrip(b"=")
    return secret.decode(), Secret(hashlib.sha256(secret).hexdigest(), instant(now))


def _found(sources: dict[str, Source], name: str) -> Source:
    try:
        return sources[name]
    except KeyError:
        names = ", ".join(sources) or "none"
        msg = f"there is no source {name!r}: the sources are {names}"
        raise SourceError(msg) from None


def _read(path: Path) -> tuple[Source, ...]:
    file = registry.read(path, _File, "sources")
    if file.v != FILE_VERSION:
        msg = f"the sources file {path} has version {file.v}, this simtrail reads {FILE_VERSION}: upgrade"
        raise ConfigurationError(msg)
    return file.sources


@contextmanager
def _editing(path: Path) -> Iterator[dict[str, Source]]:
    """The sources by name, to change; written back in one step if nothing is raised."""
    with registry.editing(path, "sources"):
        sources = {source.name: source for source in listed(path)}
        yield sources
        registry.replace(path, _File(FILE_VERSION, tuple(sources.values())), "sources")
