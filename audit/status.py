"""What an installation has recorded and read so far, as `simtrail status` tells it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from audit.seal_state import seal_state
from audit.standstill import standstill
from ingest import sources
from projections import read_model
from schema.errors import LogNotThere, ReadModelError
from schema.log import open_to_read
from schema.tables import PROJECTION

if TYPE_CHECKING:
    from pathlib import Path

    from audit.folder import DataFolder
    from schema.log_place import Place


@dataclass(frozen=True)
class Status:
    """The state of an installation; its fields, in order, are the keys of the JSON.

    ``head`` is the position of the log's last event and ``projected`` the position
    that the read model has reached, 0 where there is none yet; ``lag`` is the events
    between them; ``standstill`` says why projecting does not go on, and what mends that.
    ``deliveries`` counts those in the read model and ``quarantine`` those among them that were
    not understood. ``last_received_at`` is the log's last event's, an instant in UTC. ``sealed`` is the position of the last event under a signed
    anchor; ``refusals`` say why nothing is signed, or what a witness holds against the log.
    """

    head: int
    projected: int
    lag: int
    standstill: str | None
    sources: tuple[str, ...]
    deliveries: int
    quarantine: int
    last_received_at: str | None
    sealed: int
    refusals: tuple[str, ...]


def status(folder: DataFolder) -> Status:
    """The status of the installation in a data folder, whether it runs or not; changes nothing.

    Raises `SimtrailError` where the log, the read model or the sources can't be read.
    """
    # The log last: what is recorded meanwhile is lag, and lag is never negative.
    seals = seal_state(folder.seals)
    projected, deliveries, quarantine = _read(folder.read_model)
    head, last_received_at = _last(folder.log)
    return Status(
        head=head,
        projected=projected,
        lag=head - projected,
        standstill=standstill(folder),
        sources=tuple(source.name for source in sources.listed(folder.sources)),
        deliveries=deliveries,
        quarantine=quarantine,
        last_received_at=last_received_at,
        sealed=seals.position if seals else 0,
        refusals=tuple(f"{each.finder}: {each.reason}" for each in seals.refusals) if seals else (),
    )


def caught_up(folder: DataFolder) -> bool:
    """Whether the read model stands for the whole log."""
    with open_to_read(folder.log) as log:
        return (read_model.tracked(folder.read_model) or 0) >= log.head()


def sealed_up(folder: DataFolder) -> bool:
    """Whether the whole log is sealed, or can't be: then waiting is of no use."""
    seals = seal_state(folder.seals)
    with open_to_read(folder.log) as log:
        return seals is None or not seals.signing or seals.position >= log.head()


def _last(place: Place) -> tuple[int, str | None]:
    """The log's head and when it was received; 0 and None for a log that is empty or not there."""
    try:
        log = open_to_read(place)
    except LogNotThere:
        return 0, None
    with log:
        head = log.head()
        event = log.at(head)
    return head, event.delivery.received_at if event else None


def _read(path: Path) -> tuple[int, int, int]:
    """The position of a read model, its deliveries, and those in quarantine; zeros where none is made yet."""
    if not path.exists():
        return 0, 0, 0
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=read_model.LOCK_TIMEOUT_S)) as connection:
            # One transaction, so that what is counted is what the position stands for.
            connection.execute("BEGIN")
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'tracking'").fetchone():
                return 0, 0, 0
            tracked = "SELECT position FROM tracking WHERE projection = ?"
            (position,) = connection.execute(tracked, (PROJECTION,)).fetchone()
            # One walk along the index of outcomes answers both.
            outcomes = dict(connection.execute("SELECT outcome, count(*) FROM deliveries GROUP BY outcome"))
    except sqlite3.Error as error:
        msg = f"the read model {path} can't be read: {error}"
        raise ReadModelError(msg) from error
    deliveries = sum(outcomes.values())
    return position, deliveries, deliveries - outcomes.get("read", 0)
