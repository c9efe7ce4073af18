"""The SIM cards: one row each as they are now, one row for each event that touched one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from projections import changes as change
from projections.identity import differ, match
from projections.rows import Row
from schema.identifiers import iccid_forms
from schema.readings import JobCallback, Notification

if TYPE_CHECKING:
    from collections.abc import Sequence

    from projections.changes import Changes
    from projections.context import Context
    from projections.read_model import ReadModel
    from projections.reading import Read
    from schema.readings import SimCard, Status

IDENTIFIERS = ("iccid", "imsi", "msisdn", "platform_id")
"""From the strongest to the weakest."""

Basis = Literal["explicit", "implied", "msu_lock", "correction"]


class Sim(Row):
    """A row of ``sims``."""

    sim: str
    source: str
    iccid: str | None = None
    msisdn: str | None = None
    imsi: str | None = None
    imei: str | None = None
    platform_id: str | None = None
    status: str = "unknown"
    status_raw: str | None = None
    status_basis: str | None = None
    status_since: str | None = None
    balance_kopecks: int | None = None
    balance_at: str | None = None
    groups: str | None = None
    tariff: str | None = None
    operator: str | None = None
    package_exhausted_at: str | None = None
    msu_locked_at: str | None = None
    last_job: str | None = None
    first_seen_at: str = ""
    last_seen_at: str = ""
    position: int = 0


class Touch(msgspec.Struct, frozen=True):
    """What an event does to the SIM cards that it names."""

    what: Literal["job_callback", "msu_lock", "package_empty"]
    operation: str | None = None
    implied: Status | None = None
    job: str | None = None


def ask(model: ReadModel, page: Sequence[Read]) -> None:
    """Read the rows that a page of events is about at once: one look-up for all costs less than one for each."""
    if model.sims.all_held:
        return
    named: dict[str, dict[int, SimCard]] = {}
    for event in page:
        if isinstance(event.said, JobCallback | Notification):
            named.setdefault(event.source, {}).update((id(card), card) for card in event.said.sims)
    for source, observed in named.items():
        cards = observed.values()
        model.sims.ask({f"{source}:{card.iccid}" for card in cards if card.iccid is not None})
        described = (card for card in cards if card.attributes is not None and card.iccid is not None)
        model.sim_attributes.ask({f"{source}:{card.iccid}" for card in described})
        # What is remembered by its key is not looked up by anything else.
        unknown = [card for card in cards if card.iccid is None or model.sims.get(f"{source}:{card.iccid}") is None]
        for column in IDENTIFIERS:
            values = {value for card in unknown if (value := getattr(card, column)) is not None}
            if column == "iccid":
                values = {form for value in values for form in iccid_forms(value)}
            model.sims.ask_by(column, source, values)


def touch(context: Context, item: int, card: SimCard, by: Touch) -> Sim | None:
    """Apply one observed SIM card, and write its line of history.

    An event that is late fills in what was not known and overwrites nothing; one
    that repeats another changes nothing. None where the object names no card.
    """
    changes: Changes = {}
    effect, position, at = context.effect, context.position, context.at
    row = _remembered(context, card)
    if effect == "applied":
        if row is None:
            row = _settled(context, card, changes)
        if row is not None:
            _apply(context, row, card, by, changes)
    else:
        if row is None:
            row = _known(context, card, changes)
        if row is not None and not context.repeat:
            _fill(context, row, card, by, changes)
    sim = status = basis = None
    if row is not None:
        sim, status, basis = row.sim, row.status, row.status_basis
        if not context.repeat:
            row.position = position
            row.last_seen_at = at
            context.model.sims.put(row)
    said = card.status
    context.model.sim_events.rows.append(
        (
            position,
            item,
            sim,
            context.source,
            at,
            by.what,
            by.operation,
            by.job,
            effect,
            card.status_raw if said is None or said == "unknown" else said,
            status,
            basis,
            card.balance_kopecks,
            change.text(changes) if changes else "{}",
            _names(card.anomalies) if card.anomalies else "[]",
        ),
    )
    return row


def find(context: Context, card: SimCard) -> Sim | None:
    """The row that an observed SIM card is about, if it is known."""
    row = _remembered(context, card)
    return row if row is not None else match(context.model.sims, context.source, _identifiers(card)).row


def correct(context: Context, key: str, status: str) -> bool:
    """Set a card's own status, as a person says it is; False if there is no such card."""
    row = context.model.sims.get(key)
    if row is None:
        return False
    changes: Changes = {}
    _put_status(row, status, "correction", changes, context.at)
    row.status_raw = None
    _record_correction(context, row, status, changes)
    return True


def unite(context: Context, key: str, into: str) -> bool:
    """Make one card of two, as a person says they are; False unless both are there and can be one."""
    other, row = context.model.sims.get(key), context.model.sims.get(into)
    if other is None or row is None or other is row or other.source != row.source:
        return False
    if any(differ(column, getattr(row, column), getattr(other, column)) for column in IDENTIFIERS):
        return False
    _merge(context, row, other)
    _rekey(context, row)
    context.model.sims.index(row)
    _record_correction(context, row, None, {"sim": (key, row.sim)})
    return True


def _record_correction(context: Context, row: Sim, said: str | None, changes: Changes) -> None:
    row.position = context.position
    context.model.sims.put(row)
    context.model.sim_events.rows.append(
        (
            context.position,
            0,
            row.sim,
            context.source,
            context.at,
            "correction",
            None,
            None,
            "applied",
            said,
            row.status,
            row.status_basis,
            None,
            change.text(changes),
            "[]",
        ),
    )


def _names(anomalies: tuple[str, ...]) -> str:
    return msgspec.json.encode(anomalies).decode() if anomalies else "[]"


def _identifiers(card: SimCard) -> tuple[tuple[str, str | None], ...]:
    return (
        ("iccid", card.iccid),
        ("imsi", card.imsi),
        ("msisdn", card.msisdn),
        ("platform_id", card.platform_id),
    )


def _key(source: str, row: Sim) -> str:
    if row.iccid is not None:
        return f"{source}:{row.iccid}"
    if row.imsi is not None:
        return f"{source}:imsi-{row.imsi}"
    if row.msisdn is not None:
        return f"{source}:{row.msisdn}"
    return f"{source}:id-{row.platform_id}"


def _remembered(context: Context, card: SimCard) -> Sim | None:
    # Most observations name a card just as the last one did: then nothing is to be
    # settled. The row itself is asked, so a card that has since lost an identifier,
    # or was merged away, is not taken for itself.
    iccid = card.iccid
    if iccid is None:
        return None
    row = context.model.sims.get(f"{context.source}:{iccid}")
    if row is None:
        return None
    imsi, msisdn, platform_id = card.imsi, card.msisdn, card.platform_id
    if (
        (imsi is None or imsi == row.imsi)
        and (msisdn is None or msisdn == row.msisdn)
        and (platform_id is None or platform_id == row.platform_id)
    ):
        return row
    return None


def _settled(context: Context, card: SimCard, changes: Changes) -> Sim | None:
    """The row of this card with its identifiers as now observed: made, merged, re-keyed."""
    sims = context.model.sims
    found = match(sims, context.source, _identifiers(card))
    row = found.row
    for other, column in found.moved:
        _give_up(context, other, column)
    if row is None:
        return _made(context, card, changes)
    for other in found.same:
        _merge(context, row, other)
    for column, value in _identifiers(card):
        if column == "iccid" and row.iccid is not None and value is not None and len(value) < len(row.iccid):
            continue  # The same card without its check digit: the longer form stays.
        change.assign(row, changes, column, value)
    _rekey(context, row)
    sims.index(row)
    return row


def _known(context: Context, card: SimCard, changes: Changes) -> Sim | None:
    """The row of this card, its identifiers left as they are, made if there is none."""
    found = match(context.model.sims, context.source, _identifiers(card))
    if found.row is not None or context.repeat:
        return found.row
    # What is late takes no identifier from a card that holds it now.
    return _made(context, card, changes, without=frozenset(column for _, column in found.moved))


def _made(context: Context, card: SimCard, changes: Changes, without: frozenset[str] = frozenset()) -> Sim | None:
    row = Sim("", context.source, first_seen_at=context.at, last_seen_at=context.at, position=context.position)
    for column, value in _identifiers(card):
        if column not in without:
            change.assign(row, changes, column, value)
    if not changes:
        return None
    row.sim = _key(context.source, row)
    context.model.sims.put(row)
    context.model.sims.index(row)
    return row


def _rekey(context: Context, row: Sim) -> None:
    key = _key(context.source, row)
    if key == row.sim:
        return
    old = row.sim
    context.model.sims.remove(row)
    row.sim = key
    context.model.sims.put(row)
    context.model.sim_attributes.unite(old, old, key, context.position)
    context.rename("sim", old, key)


def _give_up(context: Context, row: Sim, column: str) -> None:
    # A row keyed by the identifier that it loses had no stronger one, so nothing
    # stronger could have told it apart: it would have been merged, not robbed.
    setattr(row, column, None)
    row.position = context.position
    context.model.sims.put(row)


def _merge(context: Context, row: Sim, other: Sim) -> None:
    """Make ``row`` the one row of two that turned out to be one card."""
    older, newer = sorted((row, other), key=lambda sim: (sim.last_seen_at, sim.position))
    told = older if newer.status == "unknown" else newer
    both = {
        column: getattr(older, column) if getattr(newer, column) is None else getattr(newer, column)
        for column in (*IDENTIFIERS, "imei", "groups", "tariff", "operator", "last_job", "package_exhausted_at")
    }
    both |= {
        column: getattr(told, column)
        for column in ("status", "status_raw", "status_basis", "status_since", "msu_locked_at")
    }
    valued = older if newer.balance_kopecks is None else newer
    both |= {column: getattr(valued, column) for column in ("balance_kopecks", "balance_at")}
    both["first_seen_at"] = min(row.first_seen_at, other.first_seen_at)
    both["last_seen_at"] = newer.last_seen_at
    context.model.sims.remove(other)
    for column, value in both.items():
        setattr(row, column, value)
    context.model.sim_attributes.unite(older.sim, newer.sim, row.sim, context.position)
    context.rename("sim", other.sim, row.sim)


def _apply(context: Context, row: Sim, card: SimCard, by: Touch, changes: Changes) -> None:
    at = context.at
    _describe(row, card, changes)
    balance = card.balance_kopecks
    if balance is not None:
        if balance != row.balance_kopecks:
            change.assign(row, changes, "balance_kopecks", balance)
        row.balance_at = at
    if card.attributes is not None:
        context.model.sim_attributes.add(row.sim, card.attributes, context.position)
    if by.job is not None:
        row.last_job = by.job
    if by.what == "package_empty":
        change.assign(row, changes, "package_exhausted_at", at)
    _set_status(row, card, by, changes, at)
    if card.status == "active":
        context.active_seen = context.active_seen or row.sim


def _describe(row: Sim, card: SimCard, changes: Changes) -> None:
    # Compared here, not by `assign` alone: mostly nothing has changed, and that is told by less.
    if card.imei is not None and card.imei != row.imei:
        change.assign(row, changes, "imei", card.imei)
    if card.groups is not None and card.groups != row.groups:
        change.assign(row, changes, "groups", card.groups)
    if card.tariff is not None and card.tariff != row.tariff:
        change.assign(row, changes, "tariff", card.tariff)
    if card.operator is not None and card.operator != row.operator:
        change.assign(row, changes, "operator", card.operator)


def _set_status(row: Sim, card: SimCard, by: Touch, changes: Changes, at: str) -> None:
    """The status by the best evidence that this event gives, if it gives any.

    "unknown" is the absence of knowledge: it never replaces knowledge, though the
    platform's own value is kept.
    """
    status: str
    basis: Basis
    if by.what == "msu_lock":
        status, basis = "blocked", "msu_lock"
        if row.msu_locked_at is None:
            change.assign(row, changes, "msu_locked_at", at)
    elif card.status is not None and card.status != "unknown":
        status, basis = card.status, "explicit"
    elif by.implied is not None:
        status, basis = by.implied, "implied"
    else:
        change.assign(row, changes, "status_raw", card.status_raw)
        return
    _put_status(row, status, basis, changes, at)
    row.status_raw = card.status_raw


def _put_status(row: Sim, status: str, basis: Basis, changes: Changes, at: str) -> None:
    if row.status != status:
        change.assign(row, changes, "status", status)
        row.status_since = at
    row.status_basis = basis
    if status == "active" and row.msu_locked_at is not None:
        changes["msu_locked_at"] = (row.msu_locked_at, None)
        row.msu_locked_at = None


def _fill(context: Context, row: Sim, card: SimCard, by: Touch, changes: Changes) -> None:
    for column in ("imei", "groups", "tariff", "operator"):
        change.fill(row, changes, column, getattr(card, column))
    if row.balance_kopecks is None and card.balance_kopecks is not None:
        change.fill(row, changes, "balance_kopecks", card.balance_kopecks)
        row.balance_at = context.at
    if card.attributes is not None:
        context.model.sim_attributes.add(row.sim, card.attributes, context.position, late=True)
    if row.status == "unknown":
        _set_status(row, card, by, changes, context.at)
    if row.last_job is None:
        row.last_job = by.job
