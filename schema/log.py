"""The log: events in the order of their positions, kept by the `eventsourcing` library's recorder.

Where it is kept is chosen by its place: a file (`schema.log_sqlite`) or a PostgreSQL server
(`schema.log_postgres`). Every override of the library is in these three modules. What binds them all:

- A stored topic is looked up in the closed registry of `schema.event`, never resolved as an import.
- The state is our envelope (`schema.event`), never the library's JSON, which
  acts on ``_type_``/``_data_`` inside a payload.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.persistence import InfrastructureFactory, Mapper, StoredEvent, Transcoder
from eventsourcing.utils import Environment

from schema import event as events
from schema import log_sqlite
from schema.errors import LogAway, LogError, LogNotThere, LogUnavailable
from schema.event import CLASSES, TOPICS, Delivery, DomainEvent, Event
from schema.log_place import Place, Server

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence

    from eventsourcing.domain import DomainEventProtocol
    from eventsourcing.utils import EnvType

PAGE_EVENTS = 2_000
"""Events a page at most: enough to make the page's own cost vanish."""

PAGE_BYTES = 16 * 1024 * 1024
"""Bytes of state a page at most: fifty ten-megabyte bills must not fill memory.
One event larger than this is a page of its own."""

WAIT_S = 1.0
"""How long a wait for more lasts at most: what wakes it is a hint, and a hint can be lost."""

Stored: TypeAlias = "tuple[int, bytes, bytes]"
"""An event as it is stored: position, topic in UTF-8, state. A column of another type than these reads as empty."""

Row: TypeAlias = "tuple[UUID, int, str, bytes]"
"""All of an event that is stored but its position: id, version, topic and state."""

NewRow: TypeAlias = "tuple[UUID, int, str, bytes | memoryview]"
"""A row that is to be stored; a state may lie in memory that is not ours."""


class Recorder(Protocol):
    """What keeps the log. It raises one of ``faults`` where it can't do what is asked."""

    faults: tuple[type[Exception], ...]

    def insert(self, rows: Sequence[NewRow], since: int | None = None) -> list[int]:
        """Store rows in one durable commit, as all there is after ``since`` if that is said; the position of each."""

    def commit_nothing(self) -> None:
        """Commit, durably, without an event."""

    def checkpoint(self) -> None:
        """Do what commits leave for later, if enough has come together."""

    def head(self) -> int:
        """The last position; 0 for none."""

    def select_page(self, after: int, max_events: int, max_bytes: int) -> list[tuple[int, str, bytes]]:
        """Position, topic and state of what follows a position."""

    def select_stored(self, after: int, max_events: int, max_bytes: int) -> list[Stored]:
        """The same, whatever stands there."""

    def select_rows(self, after: int, max_events: int, max_bytes: int) -> list[tuple[int, Row]]:
        """Positions and whole rows."""

    def select_corrections(self, last: int) -> list[tuple[int, str, bytes]]:
        """As `select_page`, of corrections alone, up to a position."""

    def wait(self, stop: threading.Event, timeout_s: float) -> None:
        """Return when more may have been committed since this last returned, on ``stop``, or after the time."""

    def hold_role(self, role: str) -> bool:
        """Whether this log is the one that has the role."""

    def is_passing(self, error: BaseException) -> bool:
        """Whether another append may follow one that raised this."""

    def is_away(self, error: BaseException) -> bool:
        """Whether what failed may come back by itself."""

    def finish(self) -> None:
        """Called before the connection is closed."""


class _NoTranscoder(Transcoder):
    """Stands where the library asks for one; the mapper below needs none."""

    def encode(self, obj: object) -> bytes:
        raise NotImplementedError

    def decode(self, data: bytes) -> object:
        raise NotImplementedError


class _EnvelopeMapper(Mapper[UUID]):
    """Maps by a closed registry of topics; no string from the log names code."""

    def to_stored_event(self, domain_event: DomainEventProtocol[UUID]) -> StoredEvent:
        return StoredEvent(*_row(cast("DomainEvent", domain_event)))

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEvent:
        if not isinstance(stored_event.originator_id, UUID):
            msg = f"an originator of the log is a UUID, not {stored_event.originator_id!r}"
            raise LogError(msg)
        delivery = _delivery(stored_event.topic, stored_event.state)
        kind = CLASSES[stored_event.topic]
        return kind(stored_event.originator_id, stored_event.originator_version, delivery)


class Log(Application[UUID]):
    """The log of one installation, as one process sees it.

    `open_to_append` and `open_to_read` make one; close it, or use it as a context
    manager. Not for several threads at once.
    """

    name = "simtrail"

    def __init__(self, place: Place, made: Callable[[Environment], object], settings: dict[str, str]) -> None:
        self.place = place
        self._made = made
        super().__init__(settings)

    def close(self) -> None:
        """Close the log; of a file, the one who checkpoints leaves all of it in the one file."""
        if not self.closing.is_set():
            self._recorder.finish()
        super().close()

    def construct_env(self, name: str, env: EnvType | None = None) -> Environment:
        """Called by the library: what we gave it, and nothing from the process's environment."""
        return Environment(name, dict(env or {}))

    def construct_factory(self, env: Environment) -> InfrastructureFactory:
        """Called by the library: our recorder, whatever the environment asks for."""
        return cast("InfrastructureFactory", self._made(env))

    def construct_mapper(self) -> Mapper[UUID]:
        """Called by the library: our mapper, so no topic is ever resolved."""
        return _EnvelopeMapper(_NoTranscoder())

    @property
    def _recorder(self) -> Recorder:
        return cast("Recorder", self.recorder)

    def append(self, batch: Sequence[DomainEvent]) -> list[int]:
        """Store the batch in one durable commit; the position of each, in order.

        All of it is on disk when this returns. Raises `LogUnavailable`, with the cause's own
        words, where that can't be said; then none of it counts. An empty batch is
        a commit that changes nothing: so one finds out whether the log can be written.
        """
        return self.append_rows([_row(event) for event in batch])

    def checkpoint(self) -> None:
        """Do what commits leave for later, if it is time; whoever appends much calls it where nobody waits.

        Without it a file's WAL grows to `schema.log_sqlite.WAL_BYTES_AT_MOST`, and a commit does it. Raises `LogUnavailable`
        where it can't be done: nothing is lost by that, and it is tried again later.
        """
        try:
            self._recorder.checkpoint()
        except self._recorder.faults as error:
            msg = f"the WAL can't be copied into the log: {one_line(error)}"
            raise LogUnavailable(msg, passing=True) from error

    def append_rows(self, rows: Sequence[NewRow], *, since: int | None = None) -> list[int]:
        """As `append`, of rows as they are stored; right after the position ``since``, if that is said.

        Raises `LogUnavailable`, and stores none, also where the log does not end there.
        """
        try:
            if not rows:
                self._recorder.commit_nothing()
                return []
            return self._recorder.insert(rows, since)
        except self._recorder.faults as error:
            what = f"{len(rows)} deliveries can't be appended" if rows else "the log can't be written"
            after = "" if since is None else f" after position {since}"
            msg = f"{what}{after}: {one_line(error)}"
            raise LogUnavailable(msg, passing=self._recorder.is_passing(error)) from error

    def after(self, position: int, *, max_events: int = PAGE_EVENTS, max_bytes: int = PAGE_BYTES) -> list[Event]:
        """The events that follow a position, in order, as many as fit a page."""
        with self._reading(f"after position {position}"):
            page = self._recorder.select_page(position, max_events, max_bytes)
        return [Event(at, _delivery(topic, state), topic) for at, topic, state in page]

    def stored_after(
        self, position: int, *, max_events: int = PAGE_EVENTS, max_bytes: int = PAGE_BYTES
    ) -> list[Stored]:
        """The events that follow a position as they are stored, in order, as many as fit a page.

        A proof is about what is stored, whatever it says. So this reads every row that a
        table can hold, also one that was put there by somebody else and that `after` does not stand.
        """
        with self._reading(f"after position {position}"):
            return self._recorder.select_stored(position, max_events, max_bytes)

    def rows_after(
        self, position: int, *, max_events: int = PAGE_EVENTS, max_bytes: int = PAGE_BYTES
    ) -> list[tuple[int, Row]]:
        """What follows a position, with all that another log needs to store it as it is."""
        with self._reading(f"after position {position}"):
            return self._recorder.select_rows(position, max_events, max_bytes)

    def corrections(self, last: int) -> list[Event]:
        """The corrections up to a position, in order: few, and read without the deliveries between."""
        with self._reading(f"for corrections up to position {last}"):
            found = self._recorder.select_corrections(last)
        return [Event(at, _delivery(topic, state), topic) for at, topic, state in found]

    def at(self, position: int) -> Event | None:
        """The event at a position, if there is one."""
        page = self.after(position - 1, max_events=1)
        return page[0] if page and page[0].position == position else None

    def head(self) -> int:
        """The position of the last event; 0 for an empty log."""
        with self._reading("for its head"):
            return self._recorder.head()

    def wait(self, stop: threading.Event, timeout_s: float = WAIT_S) -> None:
        """Return when there may be more to read than when this last returned, on ``stop``, or after the time.

        Read after it, and wait again only when nothing was there: then nothing is missed, and nothing
        waits long. It never fails; what is wrong with the log shows when it is read.
        """
        try:
            self._recorder.wait(stop, timeout_s)
        except self._recorder.faults:
            stop.wait(timeout_s)

    def hold_role(self, role: str) -> bool:
        """Whether this log may act in a role that one has at a time, until it is closed; ask again before each act.

        On a server it is told by a lock of the connection; beside a file, by those of its folder (`audit.folder`).
        """
        with self._reading(f"to be its {role}"):
            return self._recorder.hold_role(role)

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._recorder.faults as error:
            kind = LogAway if self._recorder.is_away(error) else LogError
            msg = f"the log can't be read {what}: {one_line(error)}"
            raise kind(msg) from error


def one_line(error: BaseException) -> str:
    """What an error says, in one line: libpq's messages have several, one for each server that it tried."""
    return " ".join(str(error).split())


def _row(event: DomainEvent) -> Row:
    if type(event) not in TOPICS:
        msg = f"the log keeps {' and '.join(CLASSES)} only, not a {type(event).__name__}"
        raise LogError(msg)
    return event.originator_id, event.originator_version, TOPICS[type(event)], events.encode(event.delivery)


def _delivery(topic: str, state: bytes) -> Delivery:
    if topic not in CLASSES:
        msg = f"the log holds an event of topic {topic!r}, which this simtrail does not know: upgrade"
        raise LogError(msg)
    return events.decode(state)


def open_to_append(place: Place, *, checkpoints: bool = True) -> Log:
    """The log at a place. A file is made if it is not there; on a server, `simtrail log init` has to have made it.

    One process at a time owns a file, and checkpoints; another may append beside it for a
    moment if it does not. On a server any number append. Raises `LogNotThere` where
    there is none, `LogUnavailable` where it can't be opened, made or written.
    """
    try:
        if isinstance(place, Server):
            return _on_server(place)
        log = Log(place, log_sqlite.Factory, log_sqlite.settings(place, create=True))
        try:
            cast("log_sqlite.Recorder", log.recorder).begin_appending(checkpoints=checkpoints)
        except BaseException:
            log.close()
            raise
    except (*log_sqlite.Recorder.faults, LogAway) as error:
        msg = f"the log {place} can't be opened for appending: {error}"
        raise LogUnavailable(msg) from error
    return log


def open_to_read(place: Place) -> Log:
    """The log at a place, to be read only. Raises `LogNotThere` where there is none yet, else `LogError`.

    Of a log on a server that is away it raises `LogAway`.
    """
    try:
        if isinstance(place, Server):
            return _on_server(place)
        if not log_sqlite.is_made(place):
            msg = f"there is no log at {place}: `simtrail serve` or `simtrail receive` makes one"
            raise LogNotThere(msg)
        return Log(place, log_sqlite.Factory, log_sqlite.settings(place, create=False))
    except log_sqlite.Recorder.faults as error:
        msg = f"the log {place} can't be opened for reading: {error}"
        raise LogError(msg) from error


def _on_server(server: Server) -> Log:
    from schema import log_link, log_postgres  # noqa: PLC0415 - half of what a receiver with a file would load

    conninfo = log_link.conninfo(server.url)
    log = Log(server, lambda env: log_postgres.Factory(env, conninfo), {})
    try:
        cast("log_postgres.Recorder", log.recorder).require_made()
    except log_postgres.Recorder.faults as error:
        log.close()
        msg = f"the log {server} can't be reached: {one_line(error)}"
        raise LogAway(msg) from error
    except BaseException:
        log.close()
        raise
    return log
