"""The data folder: where everything of one installation lies, and who is at work in it."""

from __future__ import annotations

import fcntl
import os
import shlex
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TextIO, TypeAlias

from schema.errors import ConfigurationError
from schema.log_place import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from schema.log_place import Place

Role: TypeAlias = Literal["receiver", "sealer", "projector", "rebuild"]
"""Who writes in the folder: the receiver the log, the sealer the seals, the projector the read model; one of each at a time."""

ROLES: tuple[Role, ...] = ("receiver", "sealer", "projector")

FOLDER_MODE = 0o700
"""Webhooks carry personal data, and the lock files a process's id: the owner's alone."""

LOCK_MODE = 0o600

LEFT_S = 10
"""How long a process that was started by one that has ended may finish what it was given: an appender takes milliseconds."""

STANDARD = 3
"""Descriptors that are a process's input, output and errors, whatever it has for them: 0, 1 and 2."""

LOOK_S = 0.02
"""Between two looks at whether it has."""


@dataclass(frozen=True)
class DataFolder:
    """The paths inside a data folder, and the log. That a folder is named says nothing of what is there."""

    path: Path
    kept: Place | None = None

    @property
    def log(self) -> Place:
        """Where the log is: in the folder, unless it is said to be kept elsewhere."""
        return self.log_file if self.kept is None else self.kept

    @property
    def log_file(self) -> Path:
        """The file of a log that is kept in the folder."""
        return self.path / "log.db"

    @property
    def has_log_file(self) -> bool:
        """Whether the log is a file, which one receiver at a time appends to, rather than on a server."""
        return not isinstance(self.log, Server)

    @property
    def read_model(self) -> Path:
        """The read model."""
        return self.path / "audit.db"

    @property
    def sources(self) -> Path:
        """The sources and the hashes of their secrets."""
        return self.path / "sources.json"

    @property
    def users(self) -> Path:
        """Who may look, with hashes of their passwords and tokens; nobody is named where it is not there."""
        return self.path / "users.json"

    @property
    def cookie_secret(self) -> Path:
        """What Datasette signs its cookies with."""
        return self.path / "cookie.secret"

    @property
    def configuration(self) -> Path:
        """The configuration; optional."""
        return self.path / "simtrail.toml"

    @property
    def seals(self) -> Path:
        """The seals."""
        return self.path / "seals.db"

    @property
    def seal_key(self) -> Path:
        """The private key that anchors are signed with; not there where a command signs."""
        return self.path / "seal.key"

    @property
    def sealing(self) -> Path:
        """How the log is sealed; optional."""
        return self.path / "sealing.toml"

    def lock(self, role: Role) -> Path:
        """The lock file of a role. It stays behind unlocked: only a lock held means anything."""
        return self.path / f"{role}.lock"


def create(path: Path, log: Place | None = None) -> DataFolder:
    """The data folder at a path, made for its owner alone if it is not there; its log is there unless said to be elsewhere.

    A folder that is there keeps its mode. Raises `ConfigurationError` where none can be made.
    """
    try:
        path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise _not_a_folder(path) from error
    except OSError as error:
        msg = f"the data folder {path} can't be made: {error.strerror}; choose another with --data"
        raise ConfigurationError(msg) from error
    return DataFolder(path, log)


def existing(path: Path, log: Place | None = None) -> DataFolder:
    """The data folder at a path, with its log there or elsewhere. Raises `ConfigurationError` where there is none."""
    if not path.exists():
        msg = f"there is no data folder {path}: `simtrail serve` makes one, --data names another"
        raise ConfigurationError(msg)
    if not path.is_dir():
        raise _not_a_folder(path)
    return DataFolder(path, log)


@contextmanager
def hold(folder: DataFolder, role: Role) -> Iterator[tuple[int, ...]]:
    """Be the one process of a role in the folder, for the length of the context; gives the descriptor of the lock.

    The kernel lets go of the lock when the process ends, however it ends, and with it whoever inherited the descriptor. Raises
    `ConfigurationError` where another process holds it, or where the folder can't be
    written.
    """
    try:
        opened = os.open(folder.lock(role), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, LOCK_MODE)
        # Beyond the standard ones, which may have been closed: who inherits it has something else for these.
        descriptor = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, STANDARD)
        os.close(opened)
    except OSError as error:
        msg = f"the data folder {folder.path} can't be written: {error.strerror} ({folder.lock(role).name}); choose another with --data"
        raise ConfigurationError(msg) from error
    with os.fdopen(descriptor, "r+") as file:
        _lock(file, folder, role)
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield (descriptor,)


def _lock(file: TextIO, folder: DataFolder, role: Role) -> None:
    until = time.monotonic() + LEFT_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            process = file.readline().strip()
            ended = process.isdecimal() and not _runs(int(process))
            # Then a process of its own is finishing what it was given.
            if ended and time.monotonic() < until:
                time.sleep(LOOK_S)
                continue
            raise ConfigurationError((_left if ended else _at_work)(folder, role, process)) from error
        else:
            return


def _at_work(folder: DataFolder, role: Role, process: str) -> str:
    return (
        f"another {role}{f' (process {process})' if process else ''} is at work in the data folder "
        f"{folder.path}: stop it first, or choose another folder with --data"
    )


def _left(folder: DataFolder, role: Role, process: str) -> str:
    lock = folder.lock(role)
    return (
        f"the last {role} (process {process}) of the data folder {folder.path} has ended, but a process that it started "
        f"still holds {lock.name} after {LEFT_S} s, as it does while its disk does not answer: "
        f"wait for it, or find it with `fuser {shlex.quote(str(lock))}` and end it with `kill -KILL`"
    )


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def hold_to_append(folder: DataFolder) -> AbstractContextManager[tuple[int, ...]]:
    """Be the receiver: of a log in a file the only one, of a log on a server one of any number."""
    return hold(folder, "receiver") if folder.has_log_file else nullcontext(())


def tell_receiving(folder: DataFolder, url: str) -> None:
    """Write down in its lock where the receiver that holds it is reached; of a log on a server nobody has one."""
    if folder.has_log_file:
        folder.lock("receiver").write_text(f"{os.getpid()}\n{url}\n")


def receiving_at(folder: DataFolder) -> str | None:
    """Where the receiver that is at work here is reached; None where none is, or none says."""
    if not is_held(folder, "receiver"):
        return None
    _, _, url = folder.lock("receiver").read_text().partition("\n")
    return url.strip() or None


def is_held(folder: DataFolder, role: Role) -> bool:
    """Whether a process has the role; asked without taking it from anyone."""
    try:
        with folder.lock(role).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


def require_free(folder: DataFolder, role: Role) -> None:
    """Raise as `hold` does, at once, where a process of that role could not start."""
    with hold(folder, role):
        pass


def _not_a_folder(path: Path) -> ConfigurationError:
    return ConfigurationError(f"{path} is no folder, so it can't be the data folder; choose another with --data")
