"""The selection: what an export takes, of which moments, and for whom."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from schema import tables
from schema.errors import ConfigurationError
from schema.event import instant
from schema.tables import BY_NAME

if TYPE_CHECKING:
    from collections.abc import Collection

EVENTS: Final = "events"
"""The part that is no table: the events themselves, as the log has them."""

PARTS: Final = (*BY_NAME, EVENTS)
"""All that can be exported: the read model's tables by name, and the events."""

PERSONAL: Final = tables.PERSONAL | {EVENTS}
"""Parts that hold personal data; events as received hold the secrets too that no table shows."""

_MOMENT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"(?P<clock>[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?P<zone>[Zz]|[+-][0-9]{2}:[0-9]{2})?)?",
)


@dataclass(frozen=True)
class Selection:
    """What an export takes. `select` makes one.

    ``since`` (inclusive) and ``until`` (exclusive) are instants as the log writes
    them, or None for no bound; they bound the histories, by time of receipt. A
    table of current states is taken whole. ``source`` bounds every table that
    knows sources. ``parts`` are names of `PARTS`, in that order.
    """

    since: str | None
    until: str | None
    source: str | None
    parts: tuple[str, ...]

    @property
    def timed(self) -> bool:
        """Whether moments bound it."""
        return self.since is not None or self.until is not None

    @property
    def bounded(self) -> bool:
        """Whether anything bounds it."""
        return self.timed or self.source is not None

    def takes(self, received_at: str, source: str) -> bool:
        """Whether a delivery is within the bounds."""
        return (
            (self.since is None or received_at >= self.since)
            and (self.until is None or received_at < self.until)
            and (self.source is None or source == self.source)
        )


def select(
    names: Collection[str] | None,
    *,
    allowed: frozenset[str],
    since: str | None = None,
    until: str | None = None,
    source: str | None = None,
) -> Selection:
    """The selection of these parts, or of all that are allowed where None are named.

    ``allowed`` are the parts that whoever asks may have. Raises `ConfigurationError`, which
    lists the names that can be chosen, for any other; and where the range is empty.
    """
    choices = [part for part in PARTS if part in allowed]
    if names is None:
        names = choices
    other = sorted(set(names) - set(choices))
    if other:
        msg = f"{_listed(other)} can't be exported; what can be is {_listed(choices)}"
        raise ConfigurationError(msg)
    if not names:
        msg = f"an export of nothing was asked for; what can be exported is {_listed(choices)}"
        raise ConfigurationError(msg)
    if since is not None and until is not None and since >= until:
        msg = f"no moment is from {since} on and before {until}: the second must be the later one"
        raise ConfigurationError(msg)
    return Selection(since, until, source, tuple(part for part in choices if part in names))


def is_ranged(part: str) -> bool:
    """Whether an export has a part's rows of the range; else it has all of its rows, as they are at the snapshot."""
    return part in {EVENTS, "files"} or BY_NAME[part].key[0] == "position"


def moment(text: str) -> str:
    """The instant that a date (its midnight, UTC) or an RFC 3339 time means, as the log writes it.

    Raises `ConfigurationError` for anything else: a time without its zone could mean another hour.
    """
    match = _MOMENT.fullmatch(text.strip())
    try:
        if match is None:
            raise ValueError("it is neither a date nor a time")  # noqa: TRY003, EM101 - rendered below
        if match["clock"] is not None and match["zone"] is None:
            raise ValueError("its zone is missing")  # noqa: TRY003, EM101 - rendered below
        read = datetime.fromisoformat(match[0].upper())
        return instant(read if read.tzinfo else read.replace(tzinfo=UTC))
    except (ValueError, OverflowError) as error:
        msg = f"{text!r} is no moment ({error}): write 2026-05-01, 2026-05-01T09:00:00Z or 2026-05-01T12:00:00+03:00"
        raise ConfigurationError(msg) from error


def _listed(names: Collection[str]) -> str:
    return ", ".join(names)
