"""Why projecting stands still: for `simtrail status`, the receiver's `/readyz`, and the front page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from audit.folder import is_held
from projections import read_model, rebuild, replacement
from schema import configuration
from schema.errors import ConfigurationError, ReadModelOld

if TYPE_CHECKING:
    from pathlib import Path

    from audit.folder import DataFolder, Role


def standstill(folder: DataFolder) -> str | None:
    """Why a projector does not go on with the read model as it is, and what mends that, in one sentence.

    None where it goes on, or there is no read model yet. It is found out from what lies in the folder,
    so that it is true of a projector that is not at work too. Raises `ReadModelError` where the read
    model can't be read.
    """
    live = folder.read_model
    if _is_building(folder, "projector", replacement.own(live)):
        return "the projector makes the read model anew from the log, and goes on by itself once that is done"
    try:
        refusal = read_model.refusal(live, configuration.load(folder.configuration))
    except ConfigurationError as error:
        return f"{error}; projecting goes on by itself once that is put right"
    if refusal is None:
        return None
    if isinstance(refusal, ReadModelOld):
        return f"{refusal} by the projector, without being asked"
    return f"{refusal}; one is at work" if _is_building(folder, "rebuild", rebuild.beside(live)) else str(refusal)


def _is_building(folder: DataFolder, role: Role, built: Path) -> bool:
    """Whether a process of that role is building there, and it is not what a killed one left."""
    # The file first: to ask for a lock takes it for a moment, which one who starts just then would meet.
    return built.exists() and is_held(folder, role)
