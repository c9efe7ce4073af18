"""What is true of one event while it is folded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from projections.read_model import ReadModel

Effect = Literal["applied", "late", "repeat"]
"""What an event did to the state: it was applied; it came behind a newer step, and
filled in only what was not known; or it repeated another, and changed nothing. A job's
callback that is both is late; that it repeats, ``repeat_of`` of its delivery says."""


@dataclass(slots=True)
class Context:
    """One event's surroundings, and what its parts tell each other.

    ``repeat`` is the position of the delivery that this one repeats. ``unpaid_before`` is
    the account's unpaid bills before the event; the last four are evidence about the
    account, gathered from the event's items.
    """

    model: ReadModel
    position: int
    at: str
    source: str
    repeat: int | None
    effect: Effect
    operation: Callable[[str | None], str | None]
    time_zone: str
    working_days: Mapping[str, bool]
    unpaid_before: int = 0
    restricting: bool = False
    restricting_bill: str | None = None
    unpaid_bill: str | None = None
    active_seen: str | None = None

    def rename(self, column: Literal["sim", "bill"], old: str, new: str) -> None:
        """Give the history of one card or bill to another, and what this event has told so far of it."""
        self.model.rename(column, old, new)
        if column == "sim":
            self.active_seen = new if self.active_seen == old else self.active_seen
            return
        self.restricting_bill = new if self.restricting_bill == old else self.restricting_bill
        self.unpaid_bill = new if self.unpaid_bill == old else self.unpaid_bill
