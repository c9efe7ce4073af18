"""Decoding: any bytes to exactly one reading.

Total and pure: the same bytes and configuration give the same reading, always
and everywhere, and no bytes make it raise. Nothing that is read is resolved to
code, a path or a query.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast
from zoneinfo import ZoneInfo

from schema.bill import BillReader
from schema.body import NotJson, not_json, parse
from schema.files import take_files
from schema.instants import Calendar
from schema.items import items, union
from schema.job import JobReader, is_job
from schema.readings import (
    BILL_TYPES,
    SIM_TYPES,
    Bill,
    BillNotification,
    Notification,
    SimCard,
    SimNotification,
    Unreadable,
    Unrecognised,
)
from schema.redaction import cut, mask_urls, unreadable_text, withhold
from schema.seen import SeenItems
from schema.simcard import SimCardReader
from schema.texts import rendered, shown

if TYPE_CHECKING:
    from schema.configuration import Configuration
    from schema.readings import Json, Reading

__all__ = ["Decoder", "not_json"]

VALUES: Final = 2_000_000
"""Values that a body may hold, to be read: 100,000 cards with 20 fields each, which are 32 MB. Bodies of nothing
but empty objects hold 11 million in that, which would take 1.5 GB to read."""


class Decoder:
    """Decodes bodies by one configuration. Owns its memos: one thread."""

    def __init__(self, configuration: Configuration) -> None:
        calendar = Calendar(ZoneInfo(configuration.time_zone))
        self._seen = SeenItems(SimCardReader(configuration).read)
        self._bills = BillReader(configuration, calendar)
        self._jobs = JobReader(calendar, self._seen)

    def decode(self, body: bytes) -> Reading:
        """The reading of a body. Never raises."""
        # Each value has one of these before it, but for the members of objects, whose keys are no worse.
        if len(body) > VALUES and (values := sum(map(body.count, (b",", b"[", b"{")))) > VALUES:
            reason = f"some {values} values are more than the {VALUES} that are read of one body"
            return Unreadable(reason, unreadable_text(body))
        try:
            value, flaws = parse(body)
        except NotJson as reason:
            return Unreadable(str(reason), unreadable_text(body))
        value = mask_urls(value, body)
        if type(value) is not dict:
            withhold(value)
            return Unrecognised(None, (), flaws, cut(rendered(value)))
        anomalies = list(flaws)
        if is_job(value):
            job = self._jobs.read(value, body, anomalies)
            if job is not None:
                return job
        kind = value.get("type")
        if isinstance(kind, str) and (kind in SIM_TYPES or kind in BILL_TYPES):
            return self._notification(cast("SimNotification | BillNotification", kind), value, body, anomalies)
        return _unrecognised(kind, value, anomalies)

    def _notification(
        self, kind: SimNotification | BillNotification, value: dict[str, Json], body: bytes, anomalies: list[str]
    ) -> Notification:
        withhold(value, apart=value.get("items"))
        files = take_files(value, anomalies)
        sims: tuple[SimCard, ...] = ()
        bills: tuple[Bill, ...] = ()
        if kind in SIM_TYPES:
            sims = self._seen.cards(value, body, anomalies)
        else:
            bills = tuple([self._bills.read(element) for element in items(value, anomalies)])
        return Notification(kind, sims, bills, files, union(anomalies, sims or bills), cut(rendered(value)))


def _unrecognised(kind: Json, body: dict[str, Json], anomalies: list[str]) -> Unrecognised:
    withhold(body)
    files = take_files(body, anomalies)
    name, flaws = shown(kind) if isinstance(kind, str) else (None, ())
    anomalies += flaws
    return Unrecognised(name, files, union(anomalies, ()), cut(rendered(body)))
