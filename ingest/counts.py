"""What the receiver has done since it started, in plain numbers: the metrics show them, nothing depends on them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.delivery_lines import DeliveryLines
    from schema.event import Delivery

Cause: TypeAlias = Literal[
    "address_not_allowed",
    "body_too_large",
    "gone",
    "head_too_large",
    "log_unavailable",
    "malformed",
    "no_such_webhook",
    "too_many_waiting",
    "too_much_for_source",
    "too_slow",
]
"""Why a request was refused; ``gone`` are senders that ended before their body was whole."""

COMMIT_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""The upper ends of the buckets of commit times: from a flash disk's fsync to a lock that is not given."""

GROUP_DELIVERIES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)
"""The upper ends of the buckets of group sizes."""

NOBODY = ""
"""The source of what is refused before it is known whose it is: a name that a stranger gives is not repeated."""


class Distribution:
    """How often a value was in which bucket, and the sum of all values."""

    def __init__(self, ends: Sequence[float]) -> None:
        self.ends = ends
        self.counts = [0] * (len(ends) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.ends, value)] += 1
        self.sum += value


class Counts:
    """Counts what comes and what becomes of it; has a line written of each, if there are ``lines``.

    All of it on the event loop.
    """

    def __init__(self, lines: DeliveryLines | None = None) -> None:
        self.lines = lines
        self.recorded: Counter[str] = Counter()
        self.recorded_bytes: Counter[str] = Counter()
        self.not_json: Counter[str] = Counter()
        self.refused: Counter[tuple[str, str]] = Counter()
        """By source and cause."""
        self.commit_s = Distribution(COMMIT_S)
        self.group = Distribution(GROUP_DELIVERIES)
        self.failed_commits = 0

    def refuse(self, cause: Cause, source: str = NOBODY) -> None:
        """Count a request that was refused. Called on the event loop."""
        self.refused[source, cause] += 1
        if self.lines is not None:
            self.lines.refused(cause, source)

    def committed(self, group: Sequence[Delivery], positions: Sequence[int], seconds: float) -> None:
        """Count a group that was recorded in one commit. Called on the event loop."""
        self.commit_s.add(seconds)
        self.group.add(len(group))
        for source in {delivery.source for delivery in group}:  # Most groups have one.
            sizes = [len(delivery.body) for delivery in group if delivery.source == source]
            self.recorded[source] += len(sizes)
            self.recorded_bytes[source] += sum(sizes)
        if self.lines is not None:
            self.lines.recorded(group, positions, seconds)
