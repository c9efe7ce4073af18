"""The destination: a folder or a ZIP file that is there whole, and on disk, or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from audit import archive
from audit.extract import ExportError
from schema import durable
from schema.errors import ConfigurationError
from schema.registry import FILE_MODE, FOLDER_MODE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from audit.export import Entry, Export
    from audit.extract import Chunk

ARCHIVE: Final = ".zip"
"""What the name of a destination ends in that is to be an archive; any other is a folder."""


def write(export: Export, target: Path, progress: Callable[[int], object]) -> None:
    """Write an export to a folder, or to an archive where the name ends in ``.zip``; tell rows as they are written.

    It is written beside the target under another name, and takes its own once all of
    it is on disk; whatever ends this earlier leaves nothing. It may hold personal data, and
    is its owner's alone, until its owner decides otherwise. Raises
    `ConfigurationError` for a target that can't be, before anything is read, and
    `ExportError` where writing fails.
    """
    target = target.absolute()
    require_free(target)
    try:
        with _staging(target) as (whole, scratch):
            entries = export.entries(scratch)
            if target.suffix.lower() == ARCHIVE:
                _write_file(whole, archive.pack(entries), progress)
            else:
                _write_folder(whole, entries, progress)
            whole.rename(target)
            try:
                durable.sync(target.parent)
            except BaseException:
                target.rename(whole)  # An export that failed must not be found under its name.
                raise
    except OSError as error:
        msg = f"the export {target} can't be written: {error.strerror or error}; nothing of it was left"
        raise ExportError(msg) from error


@contextmanager
def _staging(target: Path) -> Iterator[tuple[Path, Path]]:
    """Where the export is made, and a folder for what is kept meanwhile: on the target's own file system."""
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    try:
        scratch = folder / "scratch"
        scratch.mkdir()
        yield folder / "whole", scratch
    finally:
        shutil.rmtree(folder)


def _write_folder(folder: Path, entries: Iterable[Entry], progress: Callable[[int], object]) -> None:
    folder.mkdir(FOLDER_MODE)
    folders = [folder]
    for entry in entries:
        path = folder / entry.path
        if path.parent not in folders:
            path.parent.mkdir(FOLDER_MODE)
            folders.append(path.parent)
        _write_file(path, entry.chunks, progress)
    for each in folders:
        durable.sync(each)


def _write_file(path: Path, chunks: Iterable[Chunk], progress: Callable[[int], object]) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE), "wb") as file:
        for chunk in chunks:
            file.write(chunk.data)
            progress(chunk.rows)
        file.flush()
        os.fsync(file.fileno())


def require_free(target: Path) -> None:
    """Raise `ConfigurationError` where nothing can be written under that name."""
    if not target.parent.is_dir():
        msg = f"the export can't be written to {target}: there is no folder {target.parent}"
        raise ConfigurationError(msg)
    empty_folder = target.is_dir() and not target.is_symlink() and not any(target.iterdir())
    if os.path.lexists(target) and not (empty_folder and target.suffix.lower() != ARCHIVE):
        msg = f"{target} is there already, and an export is never written over anything: choose another name"
        raise ConfigurationError(msg)
