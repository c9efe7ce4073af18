"""Appending captured bodies: files that hold what the platform once sent become events of the log.

A receiver may run meanwhile: SQLite's own locks let one process commit at a time,
and each waits for the other, for the moment that a commit takes. It does open the
log to append a second time; that stays a moment too, for the length of one command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from ingest.headers import harmless
from ingest.limits import GROUP_BYTES, GROUP_DELIVERIES
from schema.decode import not_json
from schema.errors import SimtrailError
from schema.event import Delivery, WebhookReceived, instant, uuid7

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime
    from pathlib import Path
    from typing import IO

    from schema.log import Log

Form: TypeAlias = Literal["json", "ndjson", "raw"]

FORMS: dict[str, Form] = {".json": "json", ".ndjson": "ndjson", ".jsonl": "ndjson"}
"""The form of a file by its suffix; any other is raw."""

REMOTE = "append"
"""Stands where a received delivery has the sender's address."""

FILE_HEADER = "x-simtrail-file"
"""Says which file a body came from. No receiver keeps this header, so no sender can claim it."""


class FormError(SimtrailError):
    """A file doesn't hold bodies in the form that it should."""


def form_of(path: Path) -> Form:
    """The form that a file's suffix promises."""
    return FORMS.get(path.suffix.lower(), "raw")


def shown_name(path: Path) -> str:
    """A file's base name as text that fits one line, whatever bytes the file system has there."""
    return harmless(path.name)


def bodies(stream: IO[bytes], form: Form, name: str) -> Iterator[bytes]:
    r"""The bodies in a file, byte for byte.

    ``raw`` and ``json`` are one body, the whole file; ``ndjson`` is one each line,
    without its ``\n`` or ``\r\n``, blank lines apart. An event stays for ever, so
    what is called JSON must be: raises `FormError`, with the line, for what is not.
    """
    if form == "ndjson":
        for number, line in enumerate(stream, 1):
            body = line.removesuffix(b"\n").removesuffix(b"\r")
            if body.strip():
                yield _checked(body, f"{name}, line {number},")
    elif form == "json":
        yield _checked(stream.read(), name)
    else:
        yield stream.read()


def append(
    log: Log,
    captured: Iterable[tuple[str, bytes]],
    source: str,
    *,
    now: Callable[[], datetime],
    entropy: Callable[[int], bytes],
) -> Iterator[tuple[int, str]]:
    """Record bodies, each with the name of its file; the position of each with that name.

    Many share a commit, and are given when it is on disk: an error leaves recorded
    exactly those that were given before it. The time of receipt is now.
    """
    batch: list[WebhookReceived] = []
    names: list[str] = []
    size = 0
    for name, body in captured:
        at = now()
        delivery = Delivery(instant(at), source, REMOTE, {FILE_HEADER: name}, body)
        batch.append(WebhookReceived(uuid7(at, entropy), 1, delivery))
        names.append(name)
        size += len(body)
        if len(batch) >= GROUP_DELIVERIES or size >= GROUP_BYTES:
            yield from zip(log.append(batch), names, strict=True)
            batch, names, size = [], [], 0
    if batch:
        yield from zip(log.append(batch), names, strict=True)


def _checked(body: bytes, where: str) -> bytes:
    if (reason := not_json(body)) is not None:
        msg = f"{where} is not JSON: {reason}; --format raw records a file as it is"
        raise FormError(msg)
    return body
