"""How far the read model is behind the log, as the receiver's `/readyz` and `/metrics` tell it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from audit.standstill import standstill
from ingest.readiness import Lag
from projections import read_model
from schema.errors import ReadModelError
from schema.log import open_to_read

if TYPE_CHECKING:
    from audit.folder import DataFolder


def lag(folder: DataFolder, now: datetime) -> Lag:
    """How far the read model is behind the log at a moment, and why, where it stands still.

    Raises `SimtrailError` where either can't be read, and where there is no read model here: a receiver
    may have its log on a server, and the projector on another machine.
    """
    projected = read_model.tracked(folder.read_model) if folder.read_model.exists() else None
    if projected is None:
        msg = f"there is no read model {folder.read_model}: no projector has run here yet"
        raise ReadModelError(msg)
    why = standstill(folder)
    with open_to_read(folder.log) as log:
        head = log.head()
        oldest = log.at(projected + 1) if projected < head else None
    if oldest is None:
        return Lag(projected, 0, 0.0, why)
    age = now - datetime.fromisoformat(oldest.delivery.received_at)
    return Lag(projected, head - projected, max(0.0, age.total_seconds()), why)
