"""Users and their passwords or tokens: the file `users.json`, changed by commands, followed by Datasette.

A person has a password, a program a token. The file keeps scrypt of a password, and
SHA-256 of a token: a token is 192 random bits, so there is nothing to guess.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import unicodedata
from contextlib import contextmanager
from hmac import compare_digest
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec.structs import replace

from audit.roles import Role  # noqa: TC001 - msgspec reads it
from schema import registry
from schema.errors import ConfigurationError, SimtrailError
from schema.event import instant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

FILE_VERSION = 1

NAME = r"^[a-z0-9][a-z0-9._-]{0,62}\Z"
"""A user's name is shown, written in cookies and told apart by eye: nothing in it needs quoting."""

RESERVED = frozenset({"root", "anyone", "this-machine"})
"""Names that Datasette, or an installation without users, gives a meaning to."""

PASSWORD_CHARACTERS = 12
"""Characters of a password at least: what is guessed over the network, ten a second,
is not found in this length unless it is a known one."""

PASSWORD_BYTES = 1024
"""Bytes of a password at most: hashing takes time by the length."""

TOKEN_BYTES = 24
SALT_BYTES = 16

SCRYPT = {"n": 1 << 15, "r": 8, "p": 1, "maxmem": 64 << 20, "dklen": 32}
"""32 MiB and about a tenth of a second a guess (RFC 7914): OWASP's n of 2^17 with p of 1
takes 128 MiB, which a few logins at a time should not cost a machine that receives webhooks."""

_TOKEN = "st_"  # noqa: S105 - what a token begins with, so that one is recognised where it was leaked
_NO_PASSWORD = "0" * 2 * SALT_BYTES + "$" + "0" * 64


class UserError(SimtrailError):
    """A user can't be added, changed or found."""


class User(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A person with a password, or a program with a token; ``password`` is ``salt$scrypt``, in hex."""

    name: Annotated[str, msgspec.Meta(pattern=NAME)]
    role: Role
    added_at: str
    changed_at: str
    password: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\$[0-9a-f]{64}\Z")] | None = None
    token_sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")] | None = None

    @property
    def stamp(self) -> str:
        """Changes with the password or the role: a session stands for one of them and ends with it."""
        told = f"{self.name}\n{self.role}\n{self.password or self.token_sha256}"
        return hashlib.sha256(told.encode()).hexdigest()[:16]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    v: int
    users: tuple[User, ...]


def add(  # noqa: PLR0913 - what a user is of
    path: Path, name: str, role: Role, password: str, *, now: datetime, entropy: Callable[[int], bytes]
) -> None:
    """Add a person to the file at a path, made if it is not there.

    Raises `UserError` for a name that is taken or no name and for a password that is
    too short or too long, `ConfigurationError` for a file that can't be read or written.
    """
    _check_name(name)
    kept = _hashed(password, entropy)
    with _editing(path) as users:
        _check_free(users, name)
        users[name] = User(name, role, instant(now), instant(now), password=kept)


def add_program(path: Path, name: str, role: Role, *, now: datetime, entropy: Callable[[int], bytes]) -> str:
    """Add a program; its token, which can't be had again. Raises as `add` does."""
    _check_name(name)
    token, kept = _new_token(entropy)
    with _editing(path) as users:
        _check_free(users, name)
        users[name] = User(name, role, instant(now), instant(now), token_sha256=kept)
    return token


def change_password(path: Path, name: str, password: str, *, now: datetime, entropy: Callable[[int], bytes]) -> None:
    """Give a person another password; whoever is logged in by the former one no longer is. Raises as `add` does."""
    kept = _hashed(password, entropy)
    with _editing(path) as users:
        users[name] = replace(_found(users, name), password=kept, token_sha256=None, changed_at=instant(now))


def change_token(path: Path, name: str, *, now: datetime, entropy: Callable[[int], bytes]) -> str:
    """Give a program another token, and end the former one. Raises as `add` does."""
    token, kept = _new_token(entropy)
    with _editing(path) as users:
        users[name] = replace(_found(users, name), token_sha256=kept, password=None, changed_at=instant(now))
    return token


def remove(path: Path, name: str) -> None:
    """Remove a user, and end the sessions of that name. Raises `UserError` where there is none."""
    with _editing(path) as users:
        _found(users, name)
        del users[name]


def listed(path: Path) -> tuple[User, ...]:
    """The users in the file at a path, in the order added; none where there is no file.

    Raises `ConfigurationError` for a file that can't be read.
    """
    if not path.exists():
        return ()
    file = registry.read(path, _File, "users")
    if file.v != FILE_VERSION:
        msg = f"the users file {path} has version {file.v}, this simtrail reads {FILE_VERSION}: upgrade"
        raise ConfigurationError(msg)
    return file.users


class Users:
    """The users as a running Datasette knows them: follows the file from one request to the next.

    A file that was there and can't be read, or has gone, lets nobody in: an
    installation that had users never becomes one without.
    """

    def __init__(self, path: Path) -> None:
        """Raises `ConfigurationError` if the file can't be read."""
        self._path = path
        self._seen = registry.signature(path)
        self._users = {user.name: user for user in listed(path)}
        self._were_any = bool(self._users)

    @property
    def are_any(self) -> bool:
        """Whether there are users, or were since the start: then nobody gets in without being one."""
        self._follow()
        return self._were_any

    def named(self, name: str, stamp: str) -> User | None:
        """The user of a session, if it still stands."""
        self._follow()
        user = self._users.get(name)
        return user if user is not None and compare_digest(user.stamp, stamp) else None

    def with_password(self, name: str, password: str) -> User | None:
        """The person whose name and password these are. Takes a tenth of a second, whatever the answer."""
        self._follow()
        user = self._users.get(name)
        known = user.password if user is not None else None
        given = password.encode("utf-8", "surrogatepass")[:PASSWORD_BYTES].decode("utf-8", "ignore")
        right = _matches(given, known or _NO_PASSWORD)
        return user if known is not None and right else None

    def with_token(self, token: str) -> User | None:
        """The program whose token this is."""
        self._follow()
        given = hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
        found = None
        for user in self._users.values():
            if user.token_sha256 is not None and compare_digest(given, user.token_sha256):
                found = user
        return found

    def _follow(self) -> None:
        seen = registry.signature(self._path)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._users = {user.name: user for user in listed(self._path)}
        except ConfigurationError:
            self._users = {}
            self._were_any = True
        self._were_any |= bool(self._users)


def _hashed(password: str, entropy: Callable[[int], bytes]) -> str:
    if len(password) < PASSWORD_CHARACTERS or len(password.encode("utf-8", "surrogatepass")) > PASSWORD_BYTES:
        msg = f"a password has {PASSWORD_CHARACTERS} characters or more, and {PASSWORD_BYTES} bytes at most; this one has {len(password)}"
        raise UserError(msg)
    salt = entropy(SALT_BYTES)
    return f"{salt.hex()}${_scrypt(password, salt).hex()}"


def _matches(password: str, kept: str) -> bool:
    salt, _, expected = kept.partition("$")
    return compare_digest(_scrypt(password, bytes.fromhex(salt)), bytes.fromhex(expected))


def _scrypt(password: str, salt: bytes) -> bytes:
    # One form for what two keyboards write in two ways (RFC 8265).
    text = unicodedata.normalize("NFC", password)
    return hashlib.scrypt(text.encode("utf-8", "surrogatepass"), salt=salt, **SCRYPT)


def _new_token(entropy: Callable[[int], bytes]) -> tuple[str, str]:
    token = _TOKEN + base64.urlsafe_b64encode(entropy(TOKEN_BYTES)).rstrip(b"=").decode()
    return token, hashlib.sha256(token.encode()).hexdigest()


def _check_name(name: str) -> None:
    if not re.match(NAME, name) or name in RESERVED:
        msg = f"{name!r} can't name a user: take 1 to 63 of a-z, 0-9, dots, hyphens and underscores, beginning with a letter or a digit"
        if name in RESERVED:
            msg = f"{name!r} can't name a user: it has a meaning already"
        raise UserError(msg)


def _check_free(users: dict[str, User], name: str) -> None:
    if name in users:
        msg = f"the user {name} is there already, since {users[name].added_at}: `simtrail users change {name}` gives a new password or token"
        raise UserError(msg)


def _found(users: dict[str, User], name: str) -> User:
    try:
        return users[name]
    except KeyError:
        names = ", ".join(users) or "none"
        msg = f"there is no user {name!r}: the users are {names}"
        raise UserError(msg) from None


@contextmanager
def _editing(path: Path) -> Iterator[dict[str, User]]:
    """The users by name, to change; written back in one step if nothing is raised."""
    with registry.editing(path, "users"):
        users = {user.name: user for user in listed(path)}
        yield users
        registry.replace(path, _File(FILE_VERSION, tuple(users.values())), "users")


def cookie_secret(path: Path, *, entropy: Callable[[int], bytes]) -> str:
    """What Datasette signs its cookies with: kept in the file at a path, made if it is not there.

    Raises `ConfigurationError` where it can't be read or written, or others may read it.
    """
    with registry.editing(path, "cookie secret"):
        try:
            secret = path.read_text("ascii").strip()
        except FileNotFoundError:
            secret = entropy(32).hex()
            registry.write(path, f"{secret}\n".encode(), "cookie secret")
        except (OSError, UnicodeDecodeError) as error:
            msg = f"the cookie secret {path} can't be read ({error}): remove it, and everybody logs in again"
            raise ConfigurationError(msg) from error
        if not re.fullmatch(r"[0-9a-f]{64}", secret) or os.stat(path).st_mode & 0o077:  # noqa: PTH116
            msg = f"the cookie secret {path} is damaged or others may read it: remove it, and everybody logs in again"
            raise ConfigurationError(msg)
    return secret
