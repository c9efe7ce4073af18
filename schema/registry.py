"""Registries: small JSON files of who may do what, changed by commands while servers follow them.

A registry is its owner's alone (mode 0600), is replaced whole or not at all, whenever
the machine stops, and is changed by one command at a time.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import msgspec

from schema import durable
from schema.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE_MODE = 0o600
FOLDER_MODE = 0o700
"""Of a file or a folder that is its owner's alone: these, and all else that may hold personal data."""

_File = TypeVar("_File", bound=msgspec.Struct)


def read(path: Path, form: type[_File], what: str) -> _File:
    """The registry at a path. Raises `ConfigurationError`, calling it ``what``, where it can't be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=form)
    except OSError as error:
        msg = f"the {what} file {path} can't be read: {error.strerror}"
        raise ConfigurationError(msg) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        msg = f"the {what} file {path} is damaged ({error}): restore it, or move it away and add the {what} anew"
        raise ConfigurationError(msg) from error


@contextmanager
def editing(path: Path, what: str) -> Iterator[None]:
    """Be the one command that changes the registry. Commands take turns by a lock on the folder, made if it is not there."""
    try:
        path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        msg = f"the folder {path.parent} of the {what} file can't be used: {error.strerror}"
        raise ConfigurationError(msg) from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def replace(path: Path, file: msgspec.Struct, what: str) -> None:
    """Put a registry in the place of the one at a path: write beside it, fsync, rename, fsync the folder."""
    content = msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n"
    write(path, content, what)


def write(path: Path, content: bytes, what: str) -> None:
    """The bytes in a file of the owner's alone, whole or not at all."""
    beside = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, FILE_MODE)
        with open(descriptor, "wb") as out:  # noqa: PTH123 - a descriptor
            out.write(content)
            out.flush()
            os.fsync(descriptor)
        beside.replace(path)
        durable.sync(path.parent)
    except OSError as error:
        msg = f"the {what} file {path} can't be written: {error.strerror}"
        raise ConfigurationError(msg) from error


def signature(path: Path) -> tuple[int, int, int] | None:
    """Differs whenever the file at a path was replaced or written; None where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - in every request; Path.stat takes twice as long
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
