"""Attestations: what others say of the anchors, and copies that lie elsewhere.

Witnesses are asked for their cosignatures, an authority for time-stamps, and anchors are
appended to a file elsewhere: by a thread beside the sealing, which none of them can hold up.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import structlog

from audit import cosignatures, timestamps
from audit.sealing import ASK_S
from schema.errors import ConfigurationError, ProofError, SimtrailError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from datetime import datetime

    from audit.seal_writer import SealWriter
    from audit.sealing import Cosigner, Sealing

ANSWER_S = 5
"""How long a witness or an authority may take to answer."""

RETRY_S = 30
"""Pause after somebody did not answer, so that the others are asked on time."""

_lines = structlog.get_logger("simtrail.sealer")


def attest(seals: SealWriter, sealing: Sealing, *, clock: Callable[[], datetime], stop: threading.Event) -> None:
    """See to what others say of the anchors, until ``stop`` is set. Nothing that goes wrong ends it."""
    with httpx.Client(timeout=ANSWER_S) as http:
        rounds = Rounds(seals, sealing, http)
        while not stop.wait(ASK_S):
            try:
                rounds.go(clock(), time.monotonic())
            except SimtrailError as error:
                rounds.tell("seals", str(error))


def attest_once(seals: SealWriter, sealing: Sealing, *, now: datetime) -> None:
    """Ask everybody once."""
    with httpx.Client(timeout=ANSWER_S) as http:
        Rounds(seals, sealing, http).go(now, time.monotonic())


class Rounds:
    """One round after the other: who is due, is asked. ``at_s`` is a time that only grows, in seconds."""

    def __init__(self, seals: SealWriter, sealing: Sealing, http: httpx.Client) -> None:
        self._seals = seals
        self._sealing = sealing
        self._http = http
        self._due_s: dict[str, float] = {}
        self._told: dict[str, str | None] = {}
        self._copied = 0

    def go(self, now: datetime, at_s: float) -> None:
        """Ask who is due."""
        for cosigner in self._sealing.witnesses:
            if self._is_due(cosigner.key.vkey, at_s):
                self._ask(cosigner, now, at_s)
        last = self._seals.last(signed=True)
        if last is None:
            return
        copy, stamps = self._sealing.copy, self._sealing.timestamps
        if copy is not None and last.size > self._copied and self._is_due("copy", at_s):
            self._try("copy", at_s, copy.every_s, lambda: self._copy(Path(copy.file), last.size))
        if stamps is not None and self._is_due("time-stamp", at_s):
            stamped = self._seals.timestamps(descending=True)
            if not stamped or stamped[0].size < last.size:
                self._try("time-stamp", at_s, stamps.every_s, lambda: self._stamp(last.size, now))

    def tell(self, who: str, reason: str | None) -> None:
        """Write a line where something is wrong, or well again; once for each change."""
        if self._told.get(who) != reason:
            self._told[who] = reason
            if reason is None:
                _lines.info("well again", who=who)
            else:
                _lines.warning("not attested", who=who, reason=reason, retry_s=RETRY_S)

    def _is_due(self, who: str, at_s: float) -> bool:
        return at_s >= self._due_s.get(who, at_s)

    def _ask(self, cosigner: Cosigner, now: datetime, at_s: float) -> None:
        answers = cosignatures.ask(self._seals, [cosigner], self._http)
        cosignatures.keep(self._seals, answers, now=now)
        for answer in answers:
            reason = answer.fork or answer.reason
            self._due_s[cosigner.key.vkey] = at_s + (RETRY_S if reason else 0)
            self.tell(cosigner.key.name, reason)

    def _try(self, who: str, at_s: float, every_s: int, act: Callable[[], None]) -> None:
        try:
            act()
        except (ProofError, ConfigurationError, OSError) as error:
            self._due_s[who] = at_s + RETRY_S
            self.tell(who, str(error))
        else:
            self._due_s[who] = at_s + every_s
            self.tell(who, None)

    def _copy(self, path: Path, size: int) -> None:
        """Append the anchor of a size to a file, and an empty line."""
        with path.open("ab") as file:
            file.write(f"{self._seals.note(size)}\n".encode())
            file.flush()
            os.fsync(file.fileno())
        self._copied = size

    def _stamp(self, size: int, now: datetime) -> None:
        stamps = self._sealing.timestamps
        if stamps is not None:
            token = timestamps.stamp(self._seals.note(size).text, stamps, self._http)
            self._seals.add_timestamp(size, token, now=now)
