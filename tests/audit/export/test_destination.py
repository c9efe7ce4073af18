"""An export is there whole, and on disk, or not at all."""

from __future__ import annotations

import errno
import itertools
import os
import zipfile
from pathlib import Path

import pytest

from audit import destination, export
from audit.extract import Chunk, ExportError
from schema.errors import ConfigurationError
from schema.tables import BY_NAME

TARGETS = ["out", "out.zip"]


def left(folder: Path) -> set[str]:
    """What lies beside the database's own files and locks."""
    return {path.name for path in folder.iterdir() if ".db" not in path.name and path.suffix != ".lock"}


@pytest.fixture
def filled(site):
    for number in range(20):
        file = {"type": "base64", "format": "application/pdf", "name": "a.pdf", "body": f"AAA{number % 10}"}
        site.send({"type": "generate_bill", "files": [file], "items": [{"id": number}]})
    site.project()
    return site


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "fault", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), SystemExit(143)]
)
def test_whatever_ends_it_leaves_nothing(filled, monkeypatch, target: str, fault: BaseException) -> None:
    """A full disk, Ctrl-C or SIGTERM at any file or folder, the last one too: nothing is left, under any name."""
    fsync = os.fsync
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", synced.append)
    filled.export(f"whole-{target}")
    assert len(synced) == (2 if target == "out.zip" else len(BY_NAME) + 2 + 10 + 2 + 1)

    for number in range(len(synced)):
        done = itertools.count()

        def sync(descriptor: int, done=done, number=number) -> None:
            if next(done) == number:
                raise fault
            fsync(descriptor)

        monkeypatch.setattr("os.fsync", sync)
        with pytest.raises(ExportError if isinstance(fault, OSError) else type(fault)):
            filled.export(target)
        assert left(filled.folder) == {f"whole-{target}"}


@pytest.mark.parametrize("target", TARGETS)
def test_a_fault_while_reading_leaves_nothing(filled, monkeypatch, target: str) -> None:
    """Where what is read turns out not to be whole, at the last file, nothing is left either."""

    def fail(*_arguments: object) -> bytes:
        msg = "it isn't whole"
        raise ExportError(msg)

    monkeypatch.setattr(export, "descriptor", fail)
    with pytest.raises(ExportError, match="whole"):
        filled.export(target)
    assert left(filled.folder) == set()


@pytest.mark.parametrize("target", TARGETS)
def test_all_is_on_disk_before_it_has_its_name(filled, monkeypatch, target: str) -> None:
    """Every file and folder is synced before the rename, and the folder that holds the name after it."""
    happened = []
    fsync, rename = os.fsync, Path.rename
    synced = set()

    def note_sync(descriptor: int) -> None:
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        synced.add(path)
        happened.append(path)
        fsync(descriptor)

    def note_rename(path: Path, other: Path) -> Path:
        inside = {str(each) for each in [path, *path.rglob("*")]}
        assert inside <= synced
        happened.append("renamed")
        return rename(path, other)

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    monkeypatch.setattr("os.fsync", note_sync)
    monkeypatch.setattr(Path, "rename", note_rename)
    filled.export(target)

    assert happened[-2:] == ["renamed", str(filled.folder)]


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_ever_written_over(filled, target: str) -> None:
    """A target that is there, as a file, a folder with something in it or a broken link, is refused and stays."""
    path = filled.folder / target
    for make in (
        lambda: path.write_text("mine"),
        lambda: (path.mkdir(), (path / "mine").touch()),
        lambda: path.symlink_to("nowhere"),
    ):
        make()
        before = (path.is_symlink(), path.is_dir(), path.is_file() and path.read_text())
        with pytest.raises(ConfigurationError, match="never written over"):
            filled.export(target)
        assert before == (path.is_symlink(), path.is_dir(), path.is_file() and path.read_text())
        if path.is_dir():
            (path / "mine").unlink()
            path.rmdir()
        else:
            path.unlink()


def test_an_empty_folder_is_taken(filled) -> None:
    """A folder made for the export is no obstacle; one with an archive's name is."""
    for name in TARGETS:
        (filled.folder / name).mkdir()
    assert (filled.export("out") / "datapackage.json").is_file()
    with pytest.raises(ConfigurationError):
        filled.export("out.zip")


def test_a_folder_that_is_not_there_is_not_made(filled) -> None:
    """A target in a folder that isn't there is refused before anything is read."""
    with pytest.raises(ConfigurationError, match="there is no folder"):
        filled.export("nowhere/out")


def test_an_export_is_its_owners_alone(filled) -> None:
    """Files are 0600 and folders 0700, whatever the umask: an export may hold personal data."""
    old = os.umask(0)
    try:
        out, packed = filled.export("out"), filled.export("out.ZIP")
    finally:
        os.umask(old)
    for path in [out, packed, *out.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)


def test_an_archive_holds_the_folder(filled) -> None:
    """The same files, to the byte, whichever way they are written; the suffix decides."""
    out, packed = filled.export("out"), filled.export("out.zip")
    with zipfile.ZipFile(packed) as archive:
        assert archive.testzip() is None
        names = {name: archive.read(name) for name in archive.namelist()}
    assert names == {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_progress_tells_every_row(filled) -> None:
    """What progress is told adds up to the rows that the export said it has."""
    told: list[int] = []
    with filled.prepare(filled.selection()) as made:
        destination.write(made, filled.folder / "out", told.append)
    assert sum(told) == made.rows == sum(part.resource.rows for part in made.parts) > 100


def test_a_part_that_ends_early_is_an_error(filled, monkeypatch) -> None:
    """Rows that were counted and then not read, whatever the cause, make no export."""
    monkeypatch.setattr("audit.events.write", lambda *_arguments: iter([Chunk(b"{}\n", 1)]))
    with pytest.raises(ExportError, match="events has 20 rows, and 1 were read"):
        filled.export("out")
    assert left(filled.folder) == set()


@pytest.mark.parametrize("form", ["csv", "ndjson", "parquet", "xlsx"])
def test_any_name_of_a_target_will_do(filled, form: str) -> None:
    """A target's name means nothing to SQL, to patterns of names or to an archive."""
    name = f"it's [a]*? \"{form}\" -- ; 'x"
    assert (filled.export(name, form=form) / f"sims.{form}").is_file()
    assert left(filled.folder) == {name}
