"""Supervising: several processes that start in order, stop in order, and never outlive their supervisor.

Each is the command itself, started again with ``--supervised``: a session of its
own, so that the terminal's Ctrl-C reaches the supervisor alone, and a pipe as its
standard input, whose end of file says that the supervisor is gone. The kernel
closes the pipe however the supervisor ends, so no orphan is left even by SIGKILL.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import click

from ingest import limits
from schema.errors import SimtrailError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

POLL_S = 0.05
"""Between two looks at whether a process is ready, settled or gone."""

PATIENCE_S = 5
"""A start that takes longer is explained: a long log takes its time to project."""

SETTLE_S = 5
"""How long a process may finish what it is at before it is told to stop; what it
leaves undone then it takes up at the next start."""

STOP_S = 2 * limits.STOP_S + limits.APPENDER_S + 5
"""How long a process has to stop once told to, before it is killed: longer than the
receiver waits for the requests that it has begun, for a word of its appender, and for its end."""

HURRY_AFTER_S = 1
"""From then on a second signal kills. Earlier it is an echo of the first: `timeout`
and some terminals signal a process both by itself and with its group."""


class ProcessError(SimtrailError):
    """A supervised process ended by itself, or did not stop as it should."""


@dataclass(frozen=True)
class Service:
    """A process to supervise.

    ``name`` is what people call it, ``arguments`` follow ``python -P``. ``ready``
    says whether it does its work yet, ``settled`` whether it has nothing left to
    finish; both are asked repeatedly and must answer soon. ``environment`` is added to
    that of the supervisor: what may be secret in it does not show among the processes.
    """

    name: str
    arguments: tuple[str, ...]
    ready: Callable[[], bool]
    settled: Callable[[], bool] = lambda: True
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


def supervise(services: Sequence[Service], announce: Callable[[], None]) -> None:
    """Run the services until SIGINT or SIGTERM; call from the main thread.

    Each starts when the one before it is ready; when all are, `announce` is called.
    They stop in the order they started in; a second signal kills what is left.
    Raises `ProcessError`, with the others stopped, if one ends by itself or badly.
    """
    with _signals() as inbox:
        supervision = _Supervision(inbox)
        try:
            if all(supervision.start(service) for service in services):
                announce()
                supervision.wait()
        except BaseException:
            for complaint in supervision.stop():
                click.echo(f"While stopping, {complaint}.", err=True)
            raise
        if complaints := supervision.stop():
            raise ProcessError("; ".join(complaints))


@contextmanager
def _signals() -> Iterator[SimpleQueue[int]]:
    """The numbers of the signals that arrive: to stop, or that a child has ended."""
    inbox: SimpleQueue[int] = SimpleQueue()

    def deliver(number: int, _frame: FrameType | None) -> None:
        inbox.put(number)  # SimpleQueue is reentrant: safe in a signal's handler.

    before = {number: signal.signal(number, deliver) for number in (*STOP_SIGNALS, signal.SIGCHLD)}
    try:
        yield inbox
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Supervision:
    """Owns the processes started, in order, and the signals that arrive meanwhile."""

    def __init__(self, inbox: SimpleQueue[int]) -> None:
        self._inbox = inbox
        self._processes: list[tuple[Service, subprocess.Popen[bytes]]] = []
        self._died: Service | None = None
        self._stopping_since = 0.0
        self._hurried = False

    def start(self, service: Service) -> bool:
        """Start a service and wait until it is ready; False if asked to stop first."""
        process = subprocess.Popen(  # noqa: S603  (our own program)
            [sys.executable, "-P", *service.arguments],
            stdin=subprocess.PIPE,
            env={**os.environ, **service.environment},
            stdout=sys.stderr,  # Standard output is the supervisor's, for what people copy.
            start_new_session=True,
        )
        self._processes.append((service, process))
        explain_at = time.monotonic() + PATIENCE_S
        while not service.ready():
            if self._stop_asked(POLL_S):
                return False
            if time.monotonic() > explain_at:
                click.echo(f"Still waiting for the {service.name} to be ready.", err=True)
                explain_at = float("inf")
        return not self._stop_asked(0)

    def wait(self) -> None:
        """Wait until asked to stop."""
        while not self._stop_asked(None):
            pass

    def stop(self) -> list[str]:
        """Stop what still runs; what there is to complain about in the way that went."""
        self._stopping_since = time.monotonic()
        complaints = [self._stop_one(service, process) for service, process in self._processes]
        for _, process in self._processes:
            if process.stdin:
                process.stdin.close()
        return [complaint for complaint in complaints if complaint]

    def _stop_asked(self, timeout_s: float | None) -> bool:
        """Whether a signal to stop arrives in time. Raises if a process has ended."""
        number = self._next(timeout_s)
        if number in STOP_SIGNALS:
            return True
        if number == signal.SIGCHLD:
            for service, process in self._processes:
                if (status := process.poll()) is not None:
                    self._died = service
                    msg = f"the {service.name} {_ended(status)} by itself, so all stop; nothing recorded is lost"
                    raise ProcessError(msg)
        return False

    def _next(self, timeout_s: float | None) -> int | None:
        try:
            return self._inbox.get(timeout=timeout_s)
        except Empty:
            return None

    def _stop_one(self, service: Service, process: subprocess.Popen[bytes]) -> str | None:
        if service is self._died:
            return None
        self._wait_until(lambda: process.poll() is not None or service.settled(), SETTLE_S)
        process.terminate()  # Does nothing to a process that has ended.
        stopped = self._wait_until(lambda: process.poll() is not None, STOP_S)
        if not stopped:
            process.kill()
        status = process.wait()
        if not stopped:
            return f"the {service.name} had not stopped yet and was killed"
        # Datasette's server stops cleanly, then lets the signal take its usual course.
        return None if status in (0, -signal.SIGTERM) else f"the {service.name} {_ended(status)} while it stopped"

    def _wait_until(self, condition: Callable[[], bool], limit_s: float) -> bool:
        """Whether the condition comes true within the limit; a signal to stop ends all waiting."""
        deadline = time.monotonic() + limit_s
        while not (met := condition()) and not self._hurried and time.monotonic() < deadline:
            again = self._next(POLL_S) in STOP_SIGNALS
            self._hurried = again and time.monotonic() > self._stopping_since + HURRY_AFTER_S
        return met


def _ended(status: int) -> str:
    if status < 0:
        return f"was ended by signal {-status} ({signal.strsignal(-status)})"
    return f"ended with status {status}"


def end_with_supervisor() -> None:
    """In a supervised process: end it as SIGTERM does when its supervisor is gone, and by SIGKILL if that fails."""
    threading.Thread(target=_outlive_nobody, name="supervisor-watch", daemon=True).start()


def _outlive_nobody() -> None:
    # The bare descriptor: a thread inside sys.stdin would hold its lock while the interpreter shuts down.
    with suppress(OSError):
        while os.read(0, 1):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SETTLE_S)
    os.kill(os.getpid(), signal.SIGKILL)
