"""The tree as static files (C2SP tlog-tiles): `checkpoint`, `tile/<L>/<N>` and `tile/entries/<N>`.

A full tile never changes, so what was written once is left as it is. The checkpoint comes
last: whoever reads it finds all that it stands for.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from audit import leaf, merkle, tiles
from audit.tiles import HEIGHT, WIDTH
from schema.errors import ConfigurationError, ProofError, SealError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from audit.seals import Seals
    from schema.log import Log

LENGTH_BYTES = 2
"""Before each entry of a bundle stands its length."""


def write(target: Path, log: Log, seals: Seals, tell: Callable[[int, int], None]) -> int:
    """Bring a folder up to the last anchor; its size. ``tell`` is given the leaves done, and of how many.

    Raises `SealError` where nothing is signed or a tile is missing, `ProofError` where an event is not
    the one that was sealed, `ConfigurationError` where the folder can't be written.
    """
    head = seals.last(signed=True)
    if head is None:
        msg = "nothing is sealed yet, so there is no tree to write"
        raise SealError(msg)
    try:
        _write_hashes(target, seals, head.size)
        _write_entries(target, log, seals, head.size, tell)
        _replace(target / "checkpoint", str(seals.note(head.size)).encode())
    except OSError as error:
        msg = f"{target} can't be written: {error.strerror} ({error.filename})"
        raise ConfigurationError(msg) from error
    return head.size


def _write_hashes(target: Path, seals: Seals, size: int) -> None:
    level, left = 0, size
    while left:
        for index in range(-(-left // WIDTH)):
            width = min(WIDTH, left - index * WIDTH)
            path = target / tiles.path(level, index, width)
            if path.exists():
                continue
            kept = seals.tile(level, index)[: width * merkle.HASH_BYTES]
            if len(kept) != width * merkle.HASH_BYTES:
                msg = f"tile {tiles.path(level, index)} of seals.db has gaps: restore it from a backup"
                raise SealError(msg)
            _replace(path, kept)
        level, left = level + 1, left >> HEIGHT


def _write_entries(target: Path, log: Log, seals: Seals, size: int, tell: Callable[[int, int], None]) -> None:
    """Write the leaves, 256 a file; each is first compared with the hash that was sealed."""
    index = 0
    while index * WIDTH < size:
        width = min(WIDTH, size - index * WIDTH)
        path = target / tiles.path("entries", index, width)
        if not path.exists():
            _replace(path, _entries(log, seals, index, width))
        index += 1
        tell(min(size, index * WIDTH), size)


def _entries(log: Log, seals: Seals, index: int, width: int) -> bytes:
    positions = seals.positions(index * WIDTH, index * WIDTH + width)
    rows = log.stored_after(positions[0] - 1, max_events=width, max_bytes=1 << 62)
    sealed = tiles.split(seals.tile(0, index))
    found = []
    for position, row, hashed in zip(positions, rows, sealed, strict=False):
        encoded = leaf.encode(leaf.of(row))
        if merkle.leaf_hash(encoded) != hashed:
            msg = f"the event at position {position} is not the one that was sealed: `simtrail verify` tells what was changed"
            raise ProofError(msg)
        found.append(len(encoded).to_bytes(LENGTH_BYTES, "big") + encoded)
    if len(found) != width:
        msg = f"events from position {positions[0]} on are not in the log any more: `simtrail verify` tells which"
        raise ProofError(msg)
    return b"".join(found)


def _replace(path: Path, content: bytes) -> None:
    """Write a file, all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
