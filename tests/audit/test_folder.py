from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from audit import folder as folders
from schema.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

HOLDER = """
import sys
from pathlib import Path
from audit.folder import DataFolder, hold
with hold(DataFolder(Path(sys.argv[1])), "receiver"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_new_folder_is_its_owners_alone(tmp_path: Path) -> None:
    """A data folder is made with its parents, and nobody else may look into it."""
    folder = folders.create(tmp_path / "a" / "data")

    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700


def test_a_folder_that_is_there_is_taken_as_it_is(tmp_path: Path) -> None:
    """Making a data folder where one is changes neither its mode nor its files."""
    tmp_path.chmod(0o750)
    (tmp_path / "simtrail.toml").write_text("")

    folder = folders.create(tmp_path)

    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750
    assert folder.configuration.exists()


def test_the_files_of_a_folder_have_the_documented_names(tmp_path: Path) -> None:
    """The paths in a data folder are those that people back up and configure."""
    folder = folders.DataFolder(tmp_path)

    names = [path.name for path in (folder.log_file, folder.read_model, folder.sources, folder.configuration)]
    assert names == ["log.db", "audit.db", "sources.json", "simtrail.toml"]
    assert [path.name for path in (folder.users, folder.cookie_secret)] == ["users.json", "cookie.secret"]


@pytest.mark.parametrize("place", ["file", "file/below", "n" * 300])
def test_a_folder_that_cannot_be_made_is_an_error_with_a_remedy(tmp_path: Path, place: str) -> None:
    """Where no folder can be made, the error names the path and the option."""
    (tmp_path / "file").touch()

    with pytest.raises(ConfigurationError, match="--data") as caught:
        folders.create(tmp_path / place)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("place", ["nowhere", "file"])
def test_a_folder_that_is_not_there_is_an_error_with_a_remedy(tmp_path: Path, place: str) -> None:
    """A command that makes no folder says which one is missing, and makes none."""
    (tmp_path / "file").touch()

    with pytest.raises(ConfigurationError, match="--data"):
        folders.existing(tmp_path / place)
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_that_cannot_be_written_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    """Where the lock file can't be opened, the error names the folder and the option."""
    (tmp_path / "projector.lock").mkdir()

    with pytest.raises(ConfigurationError, match=r"can't be written.*projector\.lock.*--data"):
        folders.require_free(folders.DataFolder(tmp_path), "projector")


def test_a_second_process_of_a_role_is_refused_and_told_of_the_first(
    tmp_path: Path,
    environment: dict[str, str],
) -> None:
    """While a process holds a role, another one of that role is an error naming it; other roles are free."""
    folder = folders.DataFolder(tmp_path)
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"

        with pytest.raises(ConfigurationError, match=rf"another receiver \(process {holder.pid}\).*--data"):
            folders.require_free(folder, "receiver")
        folders.require_free(folder, "projector")
        holder.kill()
        holder.wait()
        folders.require_free(folder, "receiver")


def test_a_role_is_free_again_after_an_error(tmp_path: Path) -> None:
    """A role is let go of however its context ends; the lock file stays, its owner's alone, with the last holder's id."""
    folder = folders.DataFolder(tmp_path)
    with pytest.raises(ZeroDivisionError), folders.hold(folder, "receiver"):
        _ = 1 / 0

    folders.require_free(folder, "receiver")

    assert folder.lock("receiver").read_text() == f"{os.getpid()}\n"
    assert stat.S_IMODE(folder.lock("receiver").stat().st_mode) == 0o600


def test_a_lock_files_stale_id_is_replaced_whole(tmp_path: Path) -> None:
    """Of a longer id that an earlier holder left, nothing stays."""
    folder = folders.DataFolder(tmp_path)
    folder.lock("receiver").write_text("999999999999\n")

    folders.require_free(folder, "receiver")

    assert folder.lock("receiver").read_text() == f"{os.getpid()}\n"


INHERITED = """
import os, subprocess, sys
from pathlib import Path
from audit.folder import DataFolder, hold
with hold(DataFolder(Path(sys.argv[1])), "receiver") as held:
    child = "import sys, time; print('begun', flush=True); time.sleep(float(sys.argv[1])); open(sys.argv[2], 'x')"
    child = [sys.executable, "-c", child, sys.argv[2], os.path.join(sys.argv[1], "finished")]
    with subprocess.Popen(child, pass_fds=held, stdout=subprocess.PIPE) as left:
        left.stdout.readline()
        print(left.pid, flush=True)
        os._exit(0)
"""


def _left_behind(folder: Path, seconds: float) -> int:
    """A process that holds the lock for so long, though the one that took it has ended."""
    with subprocess.Popen(
        [sys.executable, "-c", INHERITED, str(folder), str(seconds)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        return int(process.stdout.readline())


def test_a_lock_is_none_of_the_standard_descriptors(tmp_path: Path, environment: dict[str, str]) -> None:
    """Also where they are closed: a process that is to inherit the lock has its own input there."""
    code = HOLDER.replace("import sys", "import os, sys; os.close(0)", 1)
    code = code.replace('"receiver"):', '"receiver") as held:').replace("sys.stdin.read()", "print(min(held))")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], check=True, env=environment, capture_output=True, text=True
    )
    assert int(done.stdout.split()[1]) >= folders.STANDARD


def test_what_an_ended_process_left_at_work_is_waited_for(tmp_path: Path) -> None:
    """As the appender of a receiver that was killed: it finishes what it was given, and then the folder is free."""
    _left_behind(tmp_path, 0.3)

    folders.require_free(folders.DataFolder(tmp_path), "receiver")

    assert (tmp_path / "finished").exists()


def test_what_was_left_at_work_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the error says that it is not the one whose id is known, and how to find it."""
    monkeypatch.setattr(folders, "LEFT_S", 0.1)
    left = _left_behind(tmp_path, 60)
    try:
        with pytest.raises(
            ConfigurationError, match=r"has ended, but a process that it started.*`fuser .*/receiver\.lock`"
        ):
            folders.require_free(folders.DataFolder(tmp_path), "receiver")
    finally:
        os.kill(left, signal.SIGKILL)
