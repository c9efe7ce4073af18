"""The sealer: follows the log, takes each event into the tree, and signs anchors.

A batch goes four steps, and a crash between any two of them is harmless:

1. *Check* that this is the log that was sealed: it reaches as far, and its event at the
   last sealed position is the one in the tree.
2. *Integrate* what follows: leaves, tiles, a new root; and prove from the tiles that the
   tree of the last anchor is the beginning of this one.
3. *Store* tiles and head in one durable commit, as a compare-and-swap on the last head.
4. *Sign* the head that is stored, and store the signature.

After a crash between the last two, the head that is stored is signed before anything
else, whatever has come since: no second root of its size is ever given to a signer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from audit import leaf, merkle, tiles
from audit.anchor import opened
from audit.keys import signed
from audit.seals import SEALER, Head
from schema.errors import ForkError, LogError, ProofError, SealError
from schema.event import instant

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from audit.keys import Signer
    from audit.merkle import Node
    from audit.seal_writer import SealWriter
    from schema.log import Log

ANCHOR_S = 0.8
"""Pause between two anchors: with the time to make one, less than the second that is promised."""

BATCH_LEAVES = 8_192
"""Leaves between two anchors at most: a tenth of a second of work, and still a second where little time is left to it."""


def seal(  # noqa: PLR0913 - what a sealer needs, each by name
    log: Log,
    seals: SealWriter,
    signer: Signer,
    *,
    clock: Callable[[], datetime],
    stop: threading.Event,
    once: bool = False,
    also: Sequence[Signer] = (),
    on_anchor: Callable[[Head], None] | None = None,
) -> int:
    """Seal the log as it grows; the last position sealed.

    Goes on until ``stop`` is set or, with ``once``, until the log's end. While events
    come, an anchor is signed at least every second. ``also`` sign each anchor too, with
    other algorithms. Raises `SealError` (a `ForkError` above all, or `SignerUnavailable`) or `LogError`.
    """
    while not stop.is_set():
        if not log.hold_role(SEALER):
            msg = "another sealer is at work on this log: one log has one tree, so one machine seals it"
            raise SealError(msg)
        before = seals.last()
        head = seal_batch(log, seals, signer, now=clock(), also=also)
        if head is None:
            if once:
                break
            log.wait(stop)
            continue
        if on_anchor is not None:
            on_anchor(head)
        if not once and head.size - (before.size if before else 0) < BATCH_LEAVES:
            stop.wait(ANCHOR_S)
    last = seals.last(signed=True)
    return last.position if last else 0


def seal_batch(
    log: Log,
    seals: SealWriter,
    signer: Signer,
    *,
    now: datetime,
    also: Sequence[Signer] = (),
) -> Head | None:
    """Seal what the log has more than the tree, as much as fits a batch; the head signed, or None if there is nothing.

    Raises `ForkError`, and stores it for all to see, where to sign would be to sign a
    second history.
    """
    try:
        head = _seal_batch(log, seals, signer, also, now)
    except ForkError as error:
        seals.refuse(SEALER, str(error), now=now)
        raise
    if any(refusal.finder == SEALER for refusal in seals.refusals()):
        seals.refuse(SEALER, None, now=now)
    return head


def _seal_batch(log: Log, seals: SealWriter, signer: Signer, also: Sequence[Signer], now: datetime) -> Head | None:
    key = seals.known_keys("log")[-1].key
    if signer.key != key:
        msg = f"the log's key is {key.vkey}, the signer's is {signer.key.vkey}: nothing is signed by another key"
        raise SealError(msg)
    last = seals.last()
    if last is not None:
        _require_same_log(log, seals, last)
        if not last.signed:
            _require_consistent(seals, seals.last(signed=True), last, seals.node)
            return _sign(seals, last, signer, also, now)
    grown = _integrate(log, seals, last, now)
    if grown is None:
        return None
    head, changed, runs = grown
    _require_consistent(seals, last, head, tiles.nodes(tiles.over(changed, seals.tile)))
    if not seals.add(head, changed, runs, since=last):
        return None
    return _sign(seals, head, signer, also, now)


def _require_same_log(log: Log, seals: SealWriter, last: Head) -> None:
    """Raise `ForkError` where the log is not the one whose head this is, as far as its end shows."""
    remedy = f"nothing is signed until the log that was sealed up to position {last.position} is back"
    end = log.head()
    if end < last.position:
        msg = f"the log ends at position {end}, but was sealed up to {last.position} at {last.stored_at}: it was put back to an older copy; {remedy}"
        raise ForkError(msg)
    rows = log.stored_after(last.position - 1, max_events=1)
    index = last.size - 1
    sealed = seals.tile(0, index // tiles.WIDTH)[index % tiles.WIDTH * merkle.HASH_BYTES :][: merkle.HASH_BYTES]
    try:
        # A leaf binds its position.
        same = bool(rows) and leaf.hash_of(rows[0]) == sealed
    except LogError:
        same = False
    if not same:
        msg = f"the event at position {last.position} is not the one that was sealed at {last.stored_at}: the log was changed, or is another; {remedy}"
        raise ForkError(msg)


def _integrate(
    log: Log,
    seals: SealWriter,
    last: Head | None,
    now: datetime,
) -> tuple[Head, dict[tuple[int, int], bytes], list[tuple[int, int]]] | None:
    """The head with what follows the last one in the log, the tiles that change, and where positions skip."""
    size, position = (last.size, last.position) if last else (0, 0)
    leaves: list[bytes] = []
    runs: list[tuple[int, int]] = []
    while len(leaves) < BATCH_LEAVES:
        rows = log.stored_after(position, max_events=tiles.WIDTH)
        if not rows:
            break
        for row in rows:
            # Without a leaf before it, the first one begins a run too.
            if row[0] != position + 1 or not size + len(leaves):
                runs.append((size + len(leaves), row[0]))
            position = row[0]
            leaves.append(leaf.hash_of(row))
    if not leaves:
        return None
    try:
        changed = tiles.grown(size, leaves, seals.tile)
        root = merkle.root(size + len(leaves), tiles.nodes(tiles.over(changed, seals.tile)))
    except (ValueError, LookupError) as error:
        raise _changed_seals(size, str(error)) from error
    return Head(size + len(leaves), root, position, instant(now)), changed, runs


def _require_consistent(seals: SealWriter, last: Head | None, head: Head, node: Node) -> None:
    """Raise `ForkError` unless the tree of the last anchor is the beginning of the tree of the head."""
    if last is None:
        return
    try:
        anchor, _ = opened(seals.note(last.size), [known.key for known in seals.known_keys("log")])
        path = merkle.consistency(last.size, head.size, node)
        proven = merkle.consistent(last.size, anchor.root, head.size, head.root, path)
    except (ProofError, LookupError) as error:
        raise _changed_seals(last.size, str(error)) from error
    if not proven:
        raise _changed_seals(last.size, f"the tiles do not lead from it to size {head.size}")


def _changed_seals(size: int, reason: str) -> ForkError:
    return ForkError(
        f"seals.db no longer has the tree of the anchor of size {size} ({reason}): restore seals.db from a backup"
    )


def _sign(seals: SealWriter, head: Head, signer: Signer, also: Sequence[Signer], now: datetime) -> Head:
    """Sign a head that is stored. The log's own signature comes last: with it, the anchor is whole."""
    text = seals.anchor(head.size, head.root).text
    for each in also:
        seals.add_signature(head.size, each.key, "also", signed(each, text).signature, now=now)
    seals.add_signature(head.size, signer.key, "log", signed(signer, text).signature, now=now)
    return replace(head, signed=True)
