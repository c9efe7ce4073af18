"""A witness: cosigns anchors of other people's logs (C2SP tlog-witness, `add-checkpoint`).

It keeps, for each log, the largest tree that it has cosigned, in one small file, and
cosigns another only where a proof shows that this one is its beginning. So no log can
show two histories to those who ask for its cosignature.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing, contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Self

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from audit import merkle
from audit import note as notes
from audit.anchor import parse, parse_number, parse_path
from audit.merkle import EMPTY
from audit.note import Signature
from ingest.problems import BODY_READ, Problem
from schema.errors import ProofError, SealError, SignerUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path
    from types import TracebackType

    from starlette.requests import Request

    from audit.anchor import Anchor
    from audit.keys import Signer
    from audit.note import Key, Note

REQUEST_BYTES = notes.NOTE_BYTES + 16 * 1024
"""Bytes of a request at most: a note and 63 lines of a proof."""

SIZE_TYPE = "text/x.tlog.size"
"""The media type of the size that a witness answers a conflict with."""

LOCK_TIMEOUT_S = 5

_TABLES = (
    "CREATE TABLE IF NOT EXISTS witness (one INTEGER PRIMARY KEY CHECK (one = 1), vkey TEXT NOT NULL) STRICT",
    """CREATE TABLE IF NOT EXISTS cosigned (
        origin TEXT PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL, note TEXT NOT NULL
    ) STRICT""",
)


class Refused(Exception):
    """Why an anchor is not cosigned; with the size that last was, where the request went on from another."""

    def __init__(self, status: HTTPStatus, reason: str, size: int | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.size = size


class Witness:
    """The state of a witness: its key, the keys of the logs that it knows, and what it has cosigned.

    ``logs`` gives each log's keys by its origin; the key of ``signer`` is of the kind for
    cosignatures. Safe for several threads. Raises `SealError` where its file can't be opened.
    """

    def __init__(
        self,
        path: Path,
        signer: Signer,
        logs: Mapping[str, Sequence[Key]],
        *,
        clock: Callable[[], datetime],
    ) -> None:
        if signer.key.kind != notes.COSIGNATURE:
            msg = f"the key {signer.key.vkey} is not one for cosignatures"
            raise SealError(msg)
        self._signer = signer
        self._logs = dict(logs)
        self._clock = clock
        self._turn = threading.Lock()
        try:
            self._connection = sqlite3.connect(
                path, isolation_level=None, timeout=LOCK_TIMEOUT_S, check_same_thread=False
            )
            self._connection.execute("PRAGMA synchronous = FULL")
            for table in _TABLES:
                self._connection.execute(table)
            self._connection.execute("INSERT OR IGNORE INTO witness VALUES (1, ?)", (signer.key.vkey,))
            (vkey,) = self._connection.execute("SELECT vkey FROM witness").fetchone()
        except sqlite3.Error as error:
            msg = f"the witness's file {path} can't be opened: {error}"
            raise SealError(msg) from error
        if vkey != signer.key.vkey:
            self._connection.close()
            msg = f"the witness's file {path} is that of {vkey}, not of {signer.key.vkey}: put the right key back"
            raise SealError(msg)

    def __enter__(self) -> Self:
        """The witness itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close its file."""
        self._connection.close()

    def cosign(self, old: int, path: Sequence[bytes], note: Note) -> Signature:
        """The cosignature of an anchor that goes on from a size by a proof. Raises `Refused`.

        What is cosigned is on disk before this returns.
        """
        anchor = self._trusted(note)
        if old > anchor.size:
            raise Refused(HTTPStatus.BAD_REQUEST, f"the old size {old} is larger than the anchor's {anchor.size}")
        with self._turn, self._last(anchor.origin) as (size, root):
            if old != size:
                raise Refused(HTTPStatus.CONFLICT, f"the last size cosigned is {size}, not {old}", size)
            if size == anchor.size and root != anchor.root:
                raise Refused(HTTPStatus.CONFLICT, f"another root was cosigned for size {size}", size)
            if not merkle.consistent(size, root, anchor.size, anchor.root, path):
                raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, f"size {size} is not shown to be the beginning of it")
            time = int(self._clock().timestamp())
            signature = self._signer.sign(notes.cosigned(note.text, time))
            self._connection.execute(
                "INSERT INTO cosigned VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
                " SET size = excluded.size, root = excluded.root, note = excluded.note",
                (anchor.origin, anchor.size, anchor.root, str(note)),
            )
        key = self._signer.key
        return Signature(key.name, key.id, time.to_bytes(notes.TIME_BYTES, "big") + signature)

    def _trusted(self, note: Note) -> Anchor:
        try:
            anchor = parse(note.text)
        except ProofError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, str(error)) from error
        if anchor.origin not in self._logs:
            raise Refused(HTTPStatus.NOT_FOUND, "this witness does not know the log of that origin")
        try:
            signed = note.verified(self._logs[anchor.origin])
        except ProofError as error:
            raise Refused(HTTPStatus.FORBIDDEN, str(error)) from error
        if not signed:
            raise Refused(HTTPStatus.FORBIDDEN, "none of the log's keys that this witness trusts signed the anchor")
        return anchor

    @contextmanager
    def _last(self, origin: str) -> Iterator[tuple[int, bytes]]:
        """The size and root last cosigned, to be replaced in one durable commit."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            found = self._connection.execute("SELECT size, root FROM cosigned WHERE origin = ?", (origin,)).fetchone()
            yield found or (0, EMPTY)
            self._connection.execute("COMMIT")
        except (sqlite3.Error, SignerUnavailable) as error:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, f"this witness can't cosign now: {error}") from error
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")


def name_in(path: Path) -> str | None:
    """The name of the witness whose file this is; None where there is none yet. Raises `SealError`."""
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(path, timeout=LOCK_TIMEOUT_S)) as connection:
            found = connection.execute("SELECT vkey FROM witness").fetchone()
    except sqlite3.Error as error:
        msg = f"the witness's file {path} can't be read: {error}"
        raise SealError(msg) from error
    return None if found is None else notes.parse_key(found[0]).name


def create_app(witness: Witness) -> Starlette:
    """The witness's HTTP interface: ``POST /add-checkpoint``."""

    async def add_checkpoint(request: Request) -> Response:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > REQUEST_BYTES:
                return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A request has at most {REQUEST_BYTES} bytes.")
        request.scope[BODY_READ] = True
        try:
            signature = await run_in_threadpool(witness.cosign, *parse_request(bytes(body)))
        except ProofError as error:
            return Problem(HTTPStatus.BAD_REQUEST, str(error))
        except Refused as refused:
            if refused.size is not None:
                # Not as media_type, which would have a charset put behind it.
                return Response(f"{refused.size}\n", refused.status, {"content-type": SIZE_TYPE})
            return Problem(refused.status, str(refused))
        return PlainTextResponse(f"{signature.line}\n")

    return Starlette(routes=[Route("/add-checkpoint", add_checkpoint, methods=["POST"])])


def parse_request(body: bytes) -> tuple[int, tuple[bytes, ...], Note]:
    """The old size, the proof and the note of a request. Raises `ProofError` for what is none."""
    try:
        head, blank, note = body.decode().partition("\n\n")
    except UnicodeDecodeError as error:
        msg = f"a request is UTF-8, this one is not: {error}"
        raise ProofError(msg) from error
    old, *path = head.split("\n")
    if not blank or not old.startswith("old "):
        msg = "a request has a line with the old size, lines of a proof, an empty line, and an anchor"
        raise ProofError(msg)
    return parse_number(old.removeprefix("old ")), parse_path(path), notes.parse(note)
