"""A log on PostgreSQL whose server, or the way to it, fails: what the sender sees, what is said, and what the log holds."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import threading
import time
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psycopg
import pytest

from bench.cluster import APPLICATION, OWNER, Postgres, runs
from schema.log_place import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from schema.event import Event
    from schema.log_place import Place
    from tests.ingest.conftest import Process, Strace

DEADLINE_S = 30

BEFORE, AFTER = b'"before"', b'"after"'

BODY = b'"' + random.Random(20260501).randbytes(10_000).hex().encode() + b'"'  # noqa: S311 - for tests
"""More than a page of the table, however it is compressed."""

SMALL_BYTES = 1024 * 1024

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"

LOCK_S = {"schema.log_link.LOCK_TIMEOUT_S": 1}
ANSWER_S = {"schema.log_link.ANSWER_S": 2}
"""Enough for every commit here that nothing holds up."""

GOES_ON = "takes up again by itself"
STARTED = "is started again"
ENDED = "has ended with exit code 1, and is started again"

PASSED = " (the log alone)"
"""Of what has passed before anyone can ask."""

UNSAID = "—"

YES, NO, EITHER = "yes", "no", "yes or no"

AWAITS_LOCK = (
    "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'simtrail' AND wait_event = 'advisory'"
)
AWAITS_STANDBY = (
    "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'simtrail' AND wait_event = 'SyncRep'"
)
"""Its commit record is fsynced by then."""

ALTER = "ALTER TABLE simtrail.stored_events"

APPENDING = "SELECT pid FROM pg_stat_activity WHERE application_name = 'simtrail' ORDER BY backend_start DESC LIMIT 1"


class Wire:
    """A way to a server, by a port of its own on loopback, which can lose what the server says."""

    def __init__(self, server: Postgres) -> None:
        self.server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets = [self._listener]
        self.cuts, self.swallows = False, False
        """What becomes of the next answer: the connection ends in its place, or nothing comes, ever."""
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                ours, _ = self._listener.accept()
                its = socket.create_connection(("127.0.0.1", self.server.port))
                self._sockets += [ours, its]
                for source, target, answers in ((ours, its, False), (its, ours, True)):
                    threading.Thread(target=self._carry, args=(source, target, answers), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, answers: bool) -> None:  # noqa: FBT001
        deaf = False
        with suppress(OSError):
            while data := source.recv(65_536):
                if answers and self.cuts:
                    self.cuts = False
                    break
                if answers and self.swallows:
                    self.swallows, deaf = False, True
                if not deaf:
                    target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it, and all its connections."""
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def until(answered: Callable[[], object], said: Callable[[], object] = lambda: None) -> None:
    """Ask until it is so."""
    deadline = time.monotonic() + DEADLINE_S
    while not answered():
        assert time.monotonic() < deadline, said()
        time.sleep(0.02)


@dataclass(frozen=True)
class Struck:
    """A running receiver, the server that has its log, the way between them, and how what is wrong is mended."""

    receiver: Process
    server: Postgres
    wire: Wire
    trace: Callable[..., Strace]
    small: Callable[[], Path]
    mend: ExitStack

    def readyz(self) -> httpx.Response:
        """What the receiver says of itself."""
        return httpx.get(f"{self.receiver.url}/readyz", timeout=DEADLINE_S)

    def hold_lock(self) -> Callable[[], object]:
        """Another append holds the lock; what lets it go, by rolling back."""
        other = psycopg.connect(self.server.url("log"))
        self.mend.callback(other.close)
        other.execute("SELECT simtrail.append_events('{}', '{}', '{}', '{}')")
        return other.close

    def alter(self, setting: str, value: str) -> None:
        """Set something of the whole server, until all is mended."""
        self.mend.callback(self.reset)
        self.server.execute(f"ALTER SYSTEM SET {setting} = '{value}'")
        self.server.execute("SELECT pg_reload_conf()")
        self.server.wait_until(f"SELECT current_setting('{setting}') = '{value}'")
        # The checkpointer, whom everyone hears of standbys from, looks at its settings before each.
        self.server.execute("CHECKPOINT")

    def reset(self) -> None:
        """Set everything of the server back."""
        self.server.execute("ALTER SYSTEM RESET ALL")
        self.server.execute("SELECT pg_reload_conf()")


def while_it_waits(strike: Callable[[Struck], object]) -> Callable[[Struck], str]:
    """Before the commit: another append holds the lock meanwhile, and then lets it go."""

    def struck_by(struck: Struck) -> str:
        def meanwhile() -> None:
            struck.server.wait_until(AWAITS_LOCK)
            strike(struck)
            let_go()

        let_go = struck.hold_lock()
        return struck.receiver.post(BODY, meanwhile)

    return struck_by


def once_on_disk(strike: Callable[[Struck], object]) -> Callable[[Struck], str]:
    """Within the commit, which is on the server's disk: it is held there by a standby that is not there."""

    def struck_by(struck: Struck) -> str:
        def meanwhile() -> None:
            struck.server.wait_until(AWAITS_STANDBY)
            strike(struck)

        struck.alter("synchronous_standby_names", "gone")
        return struck.receiver.post(BODY, meanwhile)

    return struck_by


def kill_server(struck: Struck) -> None:
    """SIGKILL to all of it; mended by starting it."""
    struck.server.kill()
    (struck.server.data / "postgresql.auto.conf").write_text("")
    struck.mend.callback(struck.server.start)


def stopped(struck: Struck) -> str:
    """The server is stopped at once, as by an operator who does not wait."""
    struck.server.stop("immediate")
    struck.mend.callback(struck.server.start)
    return struck.receiver.post(BODY)


def cut(struck: Struck) -> str:
    """The first that the server says of a commit is said after it, and ends the connection."""
    struck.wire.cuts = True
    return struck.receiver.post(BODY)


def swallowed(struck: Struck) -> str:
    """The same, and nothing is heard of the connection any more."""
    struck.wire.swallows = True
    return struck.receiver.post(BODY)


def stands_still(struck: Struck) -> str:
    """All of the server is paused."""
    processes = struck.server.processes()
    for process in processes:
        os.kill(process, signal.SIGSTOP)
        struck.mend.callback(os.kill, process, signal.SIGCONT)
    return struck.receiver.post(BODY)


def locked(struck: Struck) -> str:
    """Another append does not come to an end."""
    struck.hold_lock()
    return struck.receiver.post(BODY)


def without_standby(struck: Struck) -> str:
    """No standby that the server waits for is there."""
    struck.alter("synchronous_standby_names", "gone")
    return struck.receiver.post(BODY)


def cancel(struck: Struck) -> None:
    """Somebody cancels what the backend does that appends."""
    struck.server.execute(f"SELECT pg_cancel_backend(({APPENDING}))")


def terminate(struck: Struck) -> None:
    """Somebody ends its connection."""
    struck.server.execute(f"SELECT pg_terminate_backend(({APPENDING}))")


def read_only(struck: Struck) -> str:
    """The server lets nobody write, which is found out by asking, on a connection that was made before."""
    struck.alter("default_transaction_read_only", "on")
    until(lambda: struck.readyz().status_code == 503)
    return struck.receiver.post(BODY)


def standby(struck: Struck) -> str:
    """The server comes back as a standby, until it is promoted."""
    struck.server.stop()
    (struck.server.data / "standby.signal").touch()
    struck.server.start()
    struck.mend.callback(struck.server.promote)
    return struck.receiver.post(BODY)


def revoked(struck: Struck) -> str:
    """The application's role may not append any more."""
    function = "ON FUNCTION simtrail.append_events"
    struck.server.execute(f"REVOKE EXECUTE {function} FROM {APPLICATION}", "log")
    struck.mend.callback(struck.server.execute, f"GRANT EXECUTE {function} TO {APPLICATION}", "log")
    return struck.receiver.post(BODY)


def fsync_fails(struck: Struck) -> str:
    """The server's disk fails once, under its write-ahead log."""
    ((backend,),) = struck.server.execute(APPENDING)
    struck.trace(backend, "fdatasync:error=EIO:when=1")
    return struck.receiver.post(BODY)


def full(struck: Struck) -> str:
    """Nothing is left of the disk that the table is on."""
    filling = struck.small() / "filling"
    with suppress(OSError):
        filling.write_bytes(bytes(SMALL_BYTES))
    struck.mend.callback(filling.unlink)
    return struck.receiver.post(BODY)


def kill_receiver(struck: Struck) -> None:
    """What it has handed over is appended all the same; then its appender ends."""
    appender = struck.receiver.appender
    struck.receiver.process.kill()
    struck.mend.callback(until, lambda: not runs(appender))


def kill_appender(struck: Struck) -> None:
    """What it has sent to the server is appended all the same."""
    os.kill(struck.receiver.appender, signal.SIGKILL)


@dataclass(frozen=True)
class Fault:
    """A row of the table: what is wrong, what the sender sees, what is said, what is kept, and what the receiver does then."""

    name: str
    sender: str
    says: str
    kept: str
    afterwards: str
    strike: Callable[[Struck], str]
    constants: Mapping[str, float] = field(default_factory=dict)


BROKEN = "server closed the connection unexpectedly"
REFUSED = "Connection refused"
UNKNOWN = "did not answer within"
CANCELLED = "canceling wait for synchronous replication"


FAULTS = [
    Fault("the server is stopped (`pg_ctl stop -m immediate`)", "503", REFUSED, NO, GOES_ON, stopped),
    Fault("it is killed before the commit", "503", REFUSED, NO, GOES_ON, while_it_waits(kill_server)),
    Fault(
        "it is killed within the commit, which is on its disk", "503", REFUSED, YES, GOES_ON, once_on_disk(kill_server)
    ),
    Fault("its fsync fails with EIO", "503", "could not fdatasync" + PASSED, EITHER, GOES_ON, fsync_fails),
    Fault(
        "the disk of the table is full (a small tmpfs)", "503", "No space left on device" + PASSED, NO, GOES_ON, full
    ),
    Fault("it stands still (SIGSTOP), and goes on", "503", UNKNOWN, YES, GOES_ON, stands_still, ANSWER_S),
    Fault("it takes no writes (`default_transaction_read_only`)", "503", "read-only", NO, GOES_ON, read_only),
    Fault("it has become a standby", "503", "session is read-only", NO, GOES_ON, standby),
    Fault("its synchronous standby is gone", "503", UNKNOWN, YES, GOES_ON, without_standby, ANSWER_S),
    Fault("the wait for the standby is cancelled", "503", CANCELLED + PASSED, YES, GOES_ON, once_on_disk(cancel)),
    Fault("the right to append is revoked", "503", "permission denied", NO, GOES_ON, revoked),
    Fault("another append holds the lock", "503", "lock timeout", NO, GOES_ON, locked, LOCK_S),
    Fault(
        "the connection is ended before the commit (`pg_terminate_backend`)",
        "503",
        "terminating connection" + PASSED,
        NO,
        GOES_ON,
        while_it_waits(terminate),
    ),
    Fault(
        "it is ended within the commit, which is on disk", "503", BROKEN + PASSED, YES, GOES_ON, once_on_disk(terminate)
    ),
    Fault("it is cut between the commit and its answer", "503", BROKEN + PASSED, YES, GOES_ON, cut),
    Fault("it swallows the answer to the commit", "503", UNKNOWN + PASSED, YES, GOES_ON, swallowed, ANSWER_S),
    Fault(
        "the receiver is killed while the server commits",
        "no answer",
        UNSAID,
        YES,
        STARTED,
        while_it_waits(kill_receiver),
    ),
    Fault(
        "the appender is killed while the server commits",
        "503",
        "the process that appends to the log has ended by itself" + PASSED,
        YES,
        ENDED,
        while_it_waits(kill_appender),
    ),
]


@pytest.fixture(scope="module")
def struck_server() -> Iterator[Postgres]:
    """A PostgreSQL of one's own, which may be stopped and killed."""
    with Postgres() as server:
        yield server.make().start()


@pytest.fixture
def wire(struck_server: Postgres) -> Iterator[Wire]:
    """The way to it."""
    with closing(Wire(struck_server)) as wire:
        yield wire


@pytest.fixture
def log(struck_server: Postgres, whole: Callable[[Place], list[Event]]) -> Iterator[Server]:
    """A new log there. Whatever happened to it, positions run from 1 and every event decodes."""
    place = struck_server.make_log("log")
    yield place
    whole(place)


@pytest.fixture
def small(struck_server: Postgres, log: Server, mount: Callable[..., None]) -> Iterator[Callable[[], Path]]:  # noqa: ARG001 - moved with it
    """Put the table on a small disk of its own, until the test is over; the folder where that is."""
    with ExitStack() as stack:

        def move() -> Path:
            folder = struck_server.folder / "small"
            folder.mkdir()
            mount("-t", "tmpfs", "-o", f"size={SMALL_BYTES}", "simtrail-test", str(folder))
            shutil.chown(folder, folder.parent.owner())
            for there, back in (
                (f"CREATE TABLESPACE small LOCATION '{folder}'", "DROP TABLESPACE small"),
                (f"{ALTER} SET TABLESPACE small", f"{ALTER} SET TABLESPACE pg_default"),
            ):
                struck_server.execute(there, "log")
                stack.callback(struck_server.execute, back, "log")
            return folder

        yield move


@pytest.fixture
def begin(
    receive: Callable[..., Process],
    wire: Wire,
    trace: Callable[..., Strace],
    log: Server,
    small: Callable[[], Path],
) -> Callable[[Fault], Struck]:
    """Start a receiver that is to be struck: over the wire if that is."""

    def begin(fault: Fault) -> Struck:
        way = log
        if fault.strike in {cut, swallowed}:
            way = Server(log.url.replace(f":{wire.server.port}/", f":{wire.port}/"))
        return Struck(receive(log=way, constants=fault.constants), wire.server, wire, trace, small, ExitStack())

    return begin


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_costs_no_acknowledged_delivery(
    begin: Callable[[Fault], Struck],
    receive: Callable[..., Process],
    log: Server,
    whole: Callable[[Place], list[Event]],
    fault: Fault,
):
    """It is refused, or not answered, and all is as the table says; what was acknowledged before and after is there once."""
    struck = begin(fault)
    receiver = struck.receiver
    assert receiver.post(BEFORE) == "200"
    says = fault.says.removesuffix(PASSED)

    def unready() -> bool:
        answer = struck.readyz()
        return answer.status_code == 503 and says in answer.text and int(answer.headers["retry-after"]) > 0

    def said() -> bool:
        return any(says in str(line) and line["level"] != "info" for line in receiver.lines())

    with struck.mend:
        assert fault.strike(struck) == fault.sender
        if fault.says == says != UNSAID:
            until(unready, receiver.lines)
        until(lambda: says == UNSAID or said(), receiver.lines)
    if fault.afterwards == GOES_ON:
        until(lambda: struck.readyz().status_code == 200, receiver.lines)
    else:
        assert receiver.process.wait(DEADLINE_S) == (1 if fault.afterwards == ENDED else -signal.SIGKILL)
        receiver = receive(log=log)
    assert receiver.post(AFTER) == "200"

    def bodies() -> list[bytes]:
        return [event.delivery.body for event in whole(log)]

    if fault.kept == YES:
        until(lambda: BODY in bodies(), bodies)
    assert receiver.end() == 0
    assert bodies().count(BODY) in {YES: {1}, NO: {0}, EITHER: {0, 1}}[fault.kept]
    assert [body for body in bodies() if body != BODY] == [BEFORE, AFTER]


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("postgresql://simtrail@127.0.0.1:1/log", "can't be reached"),
        ("postgresql://{owner}/template1", "there is no log in this database"),
    ],
)
def test_a_server_without_a_log_stops_the_start(
    receive: Callable[..., Process], struck_server: Postgres, place: str, says: str
):
    """As one does that can't be reached: the operator is told at once, rather than each sender."""
    owner = f"{OWNER}@127.0.0.1:{struck_server.port}"
    with pytest.raises(AssertionError, match=says):
        receive(log=Server(place.format(owner=owner)))


def test_the_page_says_the_same():
    """The table that operators read has a row for each fault, and in it what the test found."""
    head = ["what is wrong", "the sender sees", "`/readyz` and the log say", "the log holds the delivery"]
    expected = [[*head, "once it is mended, the receiver"]]
    expected += [[fault.name, fault.sender, fault.says, fault.kept, fault.afterwards] for fault in FAULTS]
    text = PAGE.read_text().partition("## On PostgreSQL\n")[2].partition("\n## ")[0]
    lines = [line.strip("|\n").split("|") for line in text.splitlines() if line.startswith("|") and "---" not in line]
    assert [[cell.strip() for cell in line] for line in lines] == expected
