"""The correction: what no webhook tells, said by a person, with their name and reason.

It is an event like a delivery, and as immutable: only another correction, that voids
it, takes it back. Its stored body is JSON of the form below.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Literal, TypeAlias, get_args

import msgspec

from schema.errors import ConfigurationError, LogError
from schema.event import instant
from schema.readings import Status

Subject: TypeAlias = Literal["bill", "sim", "account", "same_sim", "void"]
"""What is corrected: a bill's payment, a SIM card's own status, an account's state; that
one SIM card is another; that the event at a position is void, as if it had never been."""

AccountState: TypeAlias = Literal["good", "unpaid", "restricted"]

REASON_CHARACTERS = 2_000
"""A reason is read in a table: what is longer belongs into the evidence file."""

EVIDENCE_BYTES = 16 * 1024 * 1024
"""An evidence file at most: a scan of some pages. It is kept in the log for ever."""


class Evidence(msgspec.Struct, frozen=True):
    """A file that shows why. ``content`` stands as base64 in the JSON."""

    name: str
    content: bytes


class Correction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One correction. ``key`` names the row of the read model, or the position to void.

    ``value`` is what is said of it: an instant or a date that a bill was paid at, or
    None that it was not; a status; a state; the key of the SIM card that it is; None for void.
    """

    subject: Subject
    key: str
    value: str | None
    by: str
    why: str
    evidence: Evidence | None = None
    v: Literal[1] = 1


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Correction)


def encode(correction: Correction) -> bytes:
    """The body of the event. Raises `ConfigurationError` for a correction that can't be meant."""
    _refuse_nonsense(correction)
    return _encoder.encode(correction)


def decode(body: bytes) -> Correction:
    """The correction in an event's body. Raises `LogError` for what no version can have written."""
    try:
        return _decoder.decode(body)
    except msgspec.DecodeError as error:
        msg = f"a correction can't be read: {error}; it was written by a later simtrail, or the log is damaged"
        raise LogError(msg) from error


def source_of(correction: Correction) -> str:
    """The source that a correction is about; empty for a voided position, which names none."""
    return "" if correction.subject == "void" else correction.key.partition(":")[0]


def moment(text: str) -> str:
    """An instant as the log writes it, of RFC 3339 text or a date. Raises `ConfigurationError`."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        msg = f"{text!r} is no moment: write 2026-05-01, or 2026-05-01T12:00:00Z"
        raise ConfigurationError(msg) from error
    if at.tzinfo is None and re.fullmatch(r"\d{4}-?\d{2}-?\d{2}", text) is None:
        msg = f"{text!r} does not say of which time zone: end it with Z for UTC, or with an offset"
        raise ConfigurationError(msg)
    return instant(at if at.tzinfo else at.fromisoformat(f"{at.date()}T00:00:00+00:00"))


def _refuse_nonsense(correction: Correction) -> None:
    for name, text in (("by", correction.by), ("why", correction.why)):
        if not text.strip() or len(text) > REASON_CHARACTERS or "\0" in text:
            msg = (
                f"a correction needs --{name}, of 1 to {REASON_CHARACTERS} characters: it is what an auditor will read"
            )
            raise ConfigurationError(msg)
    if correction.evidence is not None and len(correction.evidence.content) > EVIDENCE_BYTES:
        msg = f"the evidence has {len(correction.evidence.content):,} bytes; it may have {EVIDENCE_BYTES:,}"
        raise ConfigurationError(msg)
    allowed = {"sim": get_args(Status), "account": get_args(AccountState)}.get(correction.subject)
    if allowed is not None and correction.value not in allowed:
        msg = f"{correction.value!r} is none of {', '.join(allowed)}"
        raise ConfigurationError(msg)
    if correction.subject == "void" and not (correction.key.isascii() and correction.key.isdigit()):
        msg = f"{correction.key!r} is no position"
        raise ConfigurationError(msg)
