"""Cosignatures: asking witnesses for them, and keeping what they answer.

Asking only reads the seals, so that no witness, however slow, holds up the sealing;
keeping is for the one process that adds to them.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import httpx

from audit import note as notes
from audit.anchor import parse_number
from audit.proof import consistency
from audit.witness import SIZE_TYPE
from schema.errors import ForkError, ProofError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from audit.note import Key, Note, Signature
    from audit.seal_writer import SealWriter
    from audit.sealing import Cosigner
    from audit.seals import Seals

ANSWER_BYTES = 64 * 1024
"""Bytes of a witness's answer at most; a line of a signature has some hundred."""

ATTEMPTS = 2
"""Requests to a witness for one anchor: the second goes on from the size that it answered with."""


@dataclass(frozen=True)
class Answer:
    """What came of asking a witness to cosign the anchor of a size.

    One of three: a signature, verified; the ``fork`` that the witness knows of; or
    neither, and why.
    """

    cosigner: Cosigner
    size: int
    signature: Signature | None = None
    fork: str | None = None
    reason: str | None = None


def ask(seals: Seals, cosigners: Sequence[Cosigner], http: httpx.Client) -> list[Answer]:
    """Ask each witness to cosign the last anchor, unless it has; what each answered.

    The client's timeouts hold for each request. Raises `SealError` where the seals can't be read.
    """
    head = seals.last(signed=True)
    if head is None:
        return []
    note = seals.note(head.size)
    answers = []
    for cosigner in cosigners:
        known = seals.cosigned(key=cosigner.key)
        if known is not None and known.size == head.size:
            continue
        try:
            signature = _ask(seals, note, cosigner, known.size if known else 0, head.size, http)
            answers.append(Answer(cosigner, head.size, signature=signature))
        except ForkError as error:
            answers.append(Answer(cosigner, head.size, fork=str(error)))
        except (ProofError, httpx.HTTPError) as error:
            answers.append(Answer(cosigner, head.size, reason=f"{cosigner.key.name} did not cosign: {error}"))
    return answers


def keep(seals: SealWriter, answers: Sequence[Answer], *, now: datetime) -> None:
    """Store the cosignatures among answers, and what a witness holds against this log.

    A witness's word is not signed: it is shown, and does not stop the sealing.
    """
    for answer in answers:
        key = answer.cosigner.key
        if answer.signature is not None:
            seals.add_signature(answer.size, key, "witness", answer.signature.signature, now=now)
        if answer.signature is not None or answer.fork is not None:
            seals.refuse(key.name, answer.fork, now=now)


def request(old: int, path: Sequence[bytes], note: Note) -> bytes:
    """The body of a request to cosign an anchor that goes on from a size."""
    lines = [f"old {old}", *(base64.b64encode(each).decode() for each in path), "", str(note)]
    return "\n".join(lines).encode()


def _ask(  # noqa: PLR0913, PLR0917 - the two sizes stand in the order of growth
    seals: Seals,
    note: Note,
    cosigner: Cosigner,
    old: int,
    new: int,
    http: httpx.Client,
) -> Signature:
    """A witness's signature of the anchor of the new size. Raises `ForkError` or `ProofError`."""
    name = cosigner.key.name
    for _ in range(ATTEMPTS):
        body = request(old, consistency(seals, old, new), note)
        status, media_type, answer = _post(http, f"{cosigner.url.rstrip('/')}/add-checkpoint", body)
        if status == HTTPStatus.OK:
            return _signature(note, cosigner.key, answer)
        if status == HTTPStatus.CONFLICT and media_type == SIZE_TYPE:
            old = parse_number(answer.decode(errors="replace").removesuffix("\n"))
            if old > new:
                msg = f"{name} has cosigned size {old} of this log, but only {new} is sealed here: log and seals were put back to an older copy"
                raise ForkError(msg)
            if old == new:
                msg = f"{name} has cosigned another tree of size {old} of this log"
                raise ForkError(msg)
        elif status == HTTPStatus.UNPROCESSABLE_ENTITY:
            msg = f"{name} does not find the tree of size {old} that it cosigned to be the beginning of this one"
            raise ForkError(msg)
        else:
            break
    msg = f"it answered {status}: {answer[:200].decode(errors='replace')}"
    raise ProofError(msg)


def _post(http: httpx.Client, url: str, body: bytes) -> tuple[int, str, bytes]:
    """The status, media type and content of the answer, of bounded size."""
    with http.stream("POST", url, content=body, headers={"Content-Type": "text/plain; charset=utf-8"}) as response:
        content = b""
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > ANSWER_BYTES:
                msg = f"its answer has more than {ANSWER_BYTES} bytes"
                raise ProofError(msg)
    media_type, _, _ = response.headers.get("content-type", "").partition(";")
    return response.status_code, media_type.strip(), content


def _signature(note: Note, key: Key, answer: bytes) -> Signature:
    """The witness's own signature among the lines that it answered; verified."""
    for signature in notes.parse_signatures(answer):
        if signature.by(key):
            if key.signed(note.text, signature.signature):
                return signature
            msg = "its signature is false"
            raise ProofError(msg)
    msg = f"none of its signatures is by the key {key.vkey}"
    raise ProofError(msg)
