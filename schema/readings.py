"""What decoding a delivery's body gives: the readings.

A reading is a plain value. ``decode`` (in `schema.decode`) makes exactly one of
`JobCallback`, `Notification`, `Unrecognised`, `Unreadable` from any bytes.
Section numbers are those of the platform's page as we read it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

if TYPE_CHECKING:
    from decimal import Decimal

Json: TypeAlias = "bool | int | Decimal | str | list[Json] | dict[str, Json] | None"

Status: TypeAlias = Literal["active", "blocked", "inactive", "terminated", "pending", "unknown"]

SIM_TYPES = ("msu_lock", "package_empty")
BILL_TYPES = ("generate_bill", "unpaid_bill_3", "unpaid_bill_5", "unpaid_bill_6")

SimNotification: TypeAlias = Literal["msu_lock", "package_empty"]
BillNotification: TypeAlias = Literal["generate_bill", "unpaid_bill_3", "unpaid_bill_5", "unpaid_bill_6"]


class SimCard(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A «SIM card» object, as far as it was understood.

    ``iccid`` is 17 to 22 digits; ``msisdn`` is ``+`` and at most 15 digits;
    ``imsi`` and ``imei`` are digits; ``platform_id`` is the platform's own id
    as text. ``status`` is None where the object says nothing of a status, and
    ``"unknown"`` where it says something that can't be told. ``groups`` is
    JSON text. ``attributes`` is JSON text of an object holding every field
    that has no column, less the secret ones (PIN, PUK, Ki, OPc).
    """

    iccid: str | None = None
    imsi: str | None = None
    msisdn: str | None = None
    platform_id: str | None = None
    imei: str | None = None
    status: Status | None = None
    status_raw: str | None = None
    balance_kopecks: int | None = None
    groups: str | None = None
    tariff: str | None = None
    operator: str | None = None
    attributes: str | None = None
    anomalies: tuple[str, ...] = ()


class Bill(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A «Bill» object, as far as it was understood.

    ``bill_id`` is the platform's id as text; ``issued_on`` an ISO date in the
    configured time zone; ``due_on`` likewise. ``paid`` is None where the object
    says nothing about payment; ``paid_at`` an instant in UTC, where it says
    when. ``attributes`` is as for a SIM card.
    """

    bill_id: str | None = None
    number: str | None = None
    issued_on: str | None = None
    amount_kopecks: int | None = None
    amount_raw: str | None = None
    currency: str | None = None
    vat_kopecks: int | None = None
    due_on: str | None = None
    period: str | None = None
    paid: bool | None = None
    paid_at: str | None = None
    attributes: str | None = None
    anomalies: tuple[str, ...] = ()


class File(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An element of ``files``. ``content`` is None where base64 can't be decoded.

    ``name`` is the sender's: text to show, never a path.
    """

    name: str | None
    media_type: str | None
    content: bytes | None


class User(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Who ordered a job. ``user_id`` and ``company_id`` are the platform's, as text."""

    user_id: str
    first_name: str | None
    last_name: str | None
    company_id: str | None


class JobCallback(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The state of a job (section 1).

    ``added_at`` is an instant in UTC. ``count``, ``process`` and ``percentage``
    are None where they can't be read; they are never negative. ``handler`` is
    the webhook's URL with its secret masked.
    """

    qid: str
    added_at: str | None
    queue: str | None
    handler: str | None
    user: User | None
    count: int | None
    process: int | None
    percentage: int | None
    sims: tuple[SimCard, ...]
    anomalies: tuple[str, ...]
    body: str

    @property
    def complete(self) -> bool:
        """The callback reports the job complete: ``process`` ≥ ``count``, or 100 per cent."""
        if self.count is not None and self.process is not None and self.process >= self.count > 0:
            return True
        return self.percentage is not None and self.percentage >= 100  # noqa: PLR2004 - per cent


class Notification(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A notification of one of the six types (section 2).

    ``sims`` is filled for `SIM_TYPES` and ``bills`` for `BILL_TYPES`; ``files``
    in the order sent.
    """

    type: SimNotification | BillNotification
    sims: tuple[SimCard, ...]
    bills: tuple[Bill, ...]
    files: tuple[File, ...]
    anomalies: tuple[str, ...]
    body: str


class Unrecognised(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """JSON that is neither. ``type`` is its ``type`` field, where it has one as text.

    ``files`` holds what could be decoded where the body has a ``files`` array.
    """

    type: str | None
    files: tuple[File, ...]
    anomalies: tuple[str, ...]
    body: str


class Unreadable(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Bytes that are not JSON as RFC 8259 has it, nest deeper than we follow, or hold more values than are read."""

    reason: str
    body: str


Reading: TypeAlias = JobCallback | Notification | Unrecognised | Unreadable
"""``body`` of each is what may be published of it: compact JSON with the files'
contents cut out and secrets masked (text as far as it can be shown, if unreadable).
"""
