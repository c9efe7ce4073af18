"""Hash tiles: how the tree is kept (C2SP tlog-tiles).

A tile holds up to 256 hashes that stand side by side at one level of the tree. Level 0
holds the leaves' hashes; each hash of a level above is the root over a full tile of the
level below. A tile only grows, at its end, until it is full: so a partial tile of a
smaller tree is the beginning of what is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from audit.merkle import HASH_BYTES, parents, perfect

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from audit.merkle import Node

HEIGHT = 8
WIDTH = 1 << HEIGHT
"""Hashes of a full tile."""

BYTES = WIDTH * HASH_BYTES

KEPT_TILES = 256
"""Tiles whose inner hashes are remembered while proofs are made: about 16 MB."""

Load: TypeAlias = "Callable[[int, int], bytes]"
"""Gives the hashes of a tile, one after the other, by its level and index; nothing where there is none."""


def split(tile: bytes) -> list[bytes]:
    """The hashes of a tile."""
    return [tile[at : at + HASH_BYTES] for at in range(0, len(tile), HASH_BYTES)]


def grown(size: int, leaves: Sequence[bytes], load: Load) -> dict[tuple[int, int], bytes]:
    """The tiles that change when leaves, by their hashes, follow a tree of a size: level, index, and all hashes.

    Raises `ValueError` where a tile that is kept has not the width that the size says.
    """
    changed: dict[tuple[int, int], bytes] = {}
    level, start, added = 0, size, leaves
    while added:
        above: list[bytes] = []
        done = 0
        while done < len(added):
            index, width = divmod(start + done, WIDTH)
            kept = load(level, index) if width else b""
            if len(kept) != width * HASH_BYTES:
                msg = (
                    f"tile {path(level, index)} has {len(kept)} bytes, a tree of size {size} needs {width * HASH_BYTES}"
                )
                raise ValueError(msg)
            taken = added[done : done + WIDTH - width]
            tile = kept + b"".join(taken)
            changed[level, index] = tile
            if len(tile) == BYTES:
                above.append(perfect(split(tile)))
            done += len(taken)
        level, start, added = level + 1, start >> HEIGHT, above
    return changed


def over(changed: Mapping[tuple[int, int], bytes], load: Load) -> Load:
    """Tiles as they will be: those that change, and the others as they are."""

    def loaded(level: int, index: int) -> bytes:
        tile = changed.get((level, index))
        return load(level, index) if tile is None else tile

    return loaded


def nodes(load: Load) -> Node:
    """Perfect subtrees' hashes, worked out from tiles. For as long as the tiles do not change.

    Raises `LookupError` for a subtree that no tile reaches.
    """
    known: dict[tuple[int, int], list[list[bytes]]] = {}

    def node(height: int, index: int) -> bytes:
        level, inner = divmod(height, HEIGHT)
        tile = index >> (HEIGHT - inner)
        layers = known.get((level, tile))
        if layers is None:
            if len(known) >= KEPT_TILES:
                known.clear()
            layers = known[level, tile] = _layers(load(level, tile))
        try:
            return layers[inner][index & ((1 << (HEIGHT - inner)) - 1)]
        except IndexError:
            msg = f"tile {path(level, tile)} does not reach the subtree of height {height} and index {index}"
            raise LookupError(msg) from None

    return node


def path(level: int | Literal["entries"], index: int, width: int = WIDTH) -> str:
    """Where a tile, or a bundle of leaves, is published: ``tile/<L>/<N>[.p/<W>]``, the index in groups of three digits."""
    digits = f"{index:03d}"
    digits = digits.zfill(-len(digits) // 3 * -3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    number = "/".join([f"x{group}" for group in groups[:-1]] + groups[-1:])
    return f"tile/{level}/{number}" if width == WIDTH else f"tile/{level}/{number}.p/{width}"


def _layers(tile: bytes) -> list[list[bytes]]:
    """The hashes of a tile, and those of each height inside it."""
    layers = [split(tile)]
    for _ in range(HEIGHT - 1):
        layers.append(parents(layers[-1]))
    return layers
