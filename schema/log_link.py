"""The way to a log on a server: one connection, made when it is needed, given up when nothing comes, and made again.

Time-outs are on both sides. The server's bound what it works on and waits for; ours also bounds what no setting of
the server's does, the wait of a commit for its standby.
"""

from __future__ import annotations

import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow, dict_row

from schema.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg.abc import PQGen

LOCK_TIMEOUT_S = 5
"""How long an append waits for those before it: each takes milliseconds, so by then something hangs."""

ANSWER_S = 15
"""How long an answer is awaited, of the server and of the standby that it waits for in turn: a group of
eight megabytes takes a fraction of a second. Then the connection is given up, and what came of a commit is unknown."""

INTERRUPT_S = 0.1
"""How often a wait looks whether it was interrupted, as by Ctrl-C."""

CONNECT_S = 3
"""How long one server may take to let us in, before the next is tried."""

RETRY_FIRST_S = 0.1
RETRY_MOST_S = 2.0
"""Bounds of the pause between two attempts to connect. It doubles, and a random part of it is waited: all
receivers lose their primary in the same moment, and should not all come back in one."""

DEFAULTS = {
    "connect_timeout": str(CONNECT_S),
    # Only there is what one sees what cannot be lost any more, and only there can be written.
    "target_session_attrs": "read-write",
    "application_name": "simtrail",
    # A machine that is gone says nothing: fifteen seconds instead of the system's two hours.
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": str(ANSWER_S * 1000),
}
"""What a connection is made with, where the URL does not say otherwise."""

_SETTINGS = """
    SELECT set_config('lock_timeout', %s, false), set_config('statement_timeout', %s, false),
        set_config('idle_in_transaction_session_timeout', %s, false), set_config('timezone', 'UTC', false)
"""

_T = TypeVar("_T")

_TIMEOUT = getattr(psycopg.errors, "_WaitTimeout", psycopg.errors.ConnectionTimeout)
"""What psycopg raises where the time of a wait is over; it has no name of its own in public."""


class Connection(psycopg.Connection[TupleRow]):
    """A connection that waits for no answer for ever, though the server may: for a standby that is gone."""

    def wait(self, gen: PQGen[_T], interval: float = INTERRUPT_S, timeout: float | None = None) -> _T:
        """Called by psycopg, for whatever comes from the server."""
        try:
            return super().wait(gen, interval, ANSWER_S if timeout is None else timeout)
        except _TIMEOUT as error:
            msg = f"the server did not answer within {ANSWER_S} s: what came of it is unknown"
            raise psycopg.OperationalError(msg) from error


def connected(conninfo: str) -> Connection:
    """A connection in autocommit, on which nothing is waited for longer than the time-outs. Raises `psycopg.Error`."""
    connection = Connection.connect(conninfo, autocommit=True)
    milliseconds = [str(int(seconds * 1000)) for seconds in (LOCK_TIMEOUT_S, ANSWER_S, ANSWER_S)]
    connection.execute(_SETTINGS, milliseconds)
    return connection


class Link:
    """The one connection to the server that keeps the log: made when it is needed, and again after it broke.

    ``clock`` is in seconds, of any origin; ``jitter`` draws from 0 to 1.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._conninfo = conninfo
        self._clock = clock
        self._jitter = jitter
        self._connection: Connection | None = None
        self._pause = 0.0
        self._not_before = 0.0
        self._refusal: psycopg.Error | None = None
        self.made = 0
        """How many connections were made so far."""
        self.warnings: list[str] = []
        """What the server warned of since this was last emptied."""

    def open(self) -> Connection:
        """The connection, made if there is none. Raises `psycopg.Error`, at once while a pause lasts."""
        if self._connection is not None and not self._connection.closed:
            return self._connection
        if self._refusal is not None and self._clock() < self._not_before:
            raise self._refusal
        try:
            connection = connected(self._conninfo)
            # As the library's own statements expect it; ours say what they want.
            connection.row_factory = dict_row  # type: ignore[assignment]
        except psycopg.Error as error:
            self._pause = min(RETRY_MOST_S, max(RETRY_FIRST_S, self._pause * 2))
            self._not_before = self._clock() + self._pause * (0.5 + self._jitter() / 2)
            self._refusal = error
            raise
        connection.add_notice_handler(self._hear)
        self._connection, self._refusal, self._pause = connection, None, 0.0
        self.made += 1
        return connection

    def wait_s(self) -> float:
        """For how many seconds no attempt to connect will be made."""
        return max(0.0, self._not_before - self._clock()) if self._refusal is not None else 0.0

    def drop(self) -> None:
        """Give the connection up."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def _hear(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            self.warnings.append(notice.message_primary or "")


def conninfo(url: str) -> str:
    """What libpq is told: what the URL says, and the defaults. Raises `ConfigurationError` for a URL that it can't read."""
    try:
        said = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        # libpq repeats what it can't read, which may be a password.
        msg = "the log's URL is not one that libpq can read: postgresql://USER@HOST[,HOST…]/DATABASE[?OPTION=VALUE…]"
        raise ConfigurationError(msg) from error
    return make_conninfo("", **{**DEFAULTS, **said})
