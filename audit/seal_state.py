"""How the log is sealed now, in one value: for `/readyz`, `simtrail status`, the doctor, and pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from audit import seals as sealed
from audit.seals import SEALER, Refusal

if TYPE_CHECKING:
    from pathlib import Path


class SealState(msgspec.Struct, frozen=True):
    """How the log is sealed; field for field as JSON shows it.

    ``position`` is that of the last event under a signed anchor, made of ``size`` events and
    stored at ``anchored_at``; ``key`` is the log's public one. ``cosigned`` is the position up to which a
    witness has cosigned, ``cosigned_by`` names who did that; ``stamped`` the position up to
    which a time-stamp reaches. ``refusals`` says what stands against log or seals: where
    ``signing`` is False, nothing is signed until that is mended.
    """

    origin: str
    key: str
    size: int
    position: int
    anchored_at: str | None
    cosigned: int
    cosigned_by: tuple[str, ...]
    stamped: int
    signing: bool
    refusals: tuple[Refusal, ...]


def seal_state(path: Path) -> SealState | None:
    """The state of the seals at a path; None where none are made yet. Raises `SealError` where they can't be read."""
    if not path.exists():
        return None
    with sealed.open_to_read(path) as seals:
        last, cosigned, stamped = seals.last(signed=True), seals.cosigned(), seals.timestamps(descending=True)
        by = (
            [known.key.name for known, _ in seals.signatures(cosigned.size) if known.role == "witness"]
            if cosigned
            else []
        )
        under = seals.heads(above=stamped[0].size - 1) if stamped else []
        refusals = seals.refusals()
        return SealState(
            origin=seals.origin,
            key=seals.known_keys("log")[-1].key.vkey,
            size=last.size if last else 0,
            position=last.position if last else 0,
            anchored_at=last.stored_at if last else None,
            cosigned=cosigned.position if cosigned else 0,
            cosigned_by=tuple(by),
            stamped=under[0].position if under else 0,
            signing=all(refusal.finder != SEALER for refusal in refusals),
            refusals=tuple(refusals),
        )


def as_json(path: Path) -> dict[str, object]:
    """The state as JSON has it; `{"signing": false}` and why, where no seals are made yet."""
    state = seal_state(path)
    return {"signing": False, "reason": "nothing was sealed yet"} if state is None else msgspec.to_builtins(state)
