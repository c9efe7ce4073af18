"""The Merkle tree of RFC 6962 §2.1: its hashes, its proofs, and their verification.

All here is arithmetic over SHA-256; nothing is stored. A tree of any size is made of
*perfect subtrees*: 2**height leaves that begin at a multiple of 2**height. Each is
named by its height and its index among those of its height, so leaf 5 is (0, 5) and
leaves 4 to 7 are (2, 1). Whoever can give the hash of a perfect subtree (a `Node`)
can have every proof made.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

HASH_BYTES = 32

EMPTY = sha256().digest()
"""The root of the tree of size 0."""

Node: TypeAlias = "Callable[[int, int], bytes]"
"""Gives the hash of a perfect subtree by its height and index."""


def leaf_hash(leaf: bytes) -> bytes:
    """The hash of a leaf: SHA-256 of a zero byte and the leaf."""
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node: SHA-256 of a one byte and its children's hashes."""
    return sha256(b"\x01" + left + right).digest()


def parents(hashes: Sequence[bytes]) -> list[bytes]:
    """The hashes one level up, of neighbours in pairs; one that is left over is not among them."""
    pairs = iter(hashes)
    return [sha256(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=False)]


def perfect(hashes: Sequence[bytes]) -> bytes:
    """The root over as many hashes as a power of two."""
    while len(hashes) > 1:
        hashes = parents(hashes)
    return hashes[0]


def subtrees(start: int, end: int) -> Iterator[tuple[int, int]]:
    """The fewest perfect subtrees that the leaves from ``start`` up to ``end`` are made of, in order."""
    while start < end:
        height = (end - start).bit_length() - 1
        if start:
            height = min(height, (start & -start).bit_length() - 1)
        yield height, start >> height
        start += 1 << height


def root(size: int, node: Node) -> bytes:
    """The root of the tree of a size: MTH of RFC 6962 §2.1."""
    return _hash(0, size, node) if size else EMPTY


def inclusion(index: int, size: int, node: Node) -> list[bytes]:
    """The audit path of a leaf in the tree of a size: PATH of RFC 6962 §2.1.1.

    From the leaf's sibling up to the root's child. ``index`` is below ``size``.
    """
    path = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_hash(middle, end, node))
            end = middle
        else:
            path.append(_hash(start, middle, node))
            start = middle
    return path[::-1]


def consistency(old: int, new: int, node: Node) -> list[bytes]:
    """The proof that the tree of size ``old`` is the beginning of that of size ``new``: RFC 6962 §2.1.2.

    Empty where there is nothing to prove: from the empty tree, or from a size to itself.
    """
    if not old:
        return []
    path = []
    start, end = 0, new
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(_hash(middle, end, node))
            end = middle
        else:
            path.append(_hash(start, middle, node))
            start = middle
    # A subtree that begins with the tree is the old tree itself, whose root is known.
    if start:
        path.append(_hash(start, end, node))
    return path[::-1]


def included(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether an audit path shows a leaf's hash at an index of the tree: RFC 9162 §2.1.3.2."""
    sides = _sides(index, size - 1, len(path)) if 0 <= index < size else None
    if sides is None:
        return False
    known = leaf
    for sibling, left in zip(path, sides, strict=True):
        known = node_hash(sibling, known) if left else node_hash(known, sibling)
    return known == root


def consistent(old: int, old_root: bytes, new: int, new_root: bytes, path: Sequence[bytes]) -> bool:
    """Whether a proof shows that one tree is the beginning of the other: RFC 9162 §2.1.4.2."""
    if not 0 < old < new:
        return not path and (old_root == new_root if old == new else (old, old_root) == (0, EMPTY))
    # Where the old tree is a perfect subtree of the new one, its root is known and not in the proof.
    height = (old & -old).bit_length() - 1
    hashes = [old_root, *path] if old == 1 << height else list(path)
    sides = _sides((old - 1) >> height, (new - 1) >> height, len(hashes) - 1)
    if not hashes or sides is None:
        return False
    before = after = hashes[0]
    for sibling, left in zip(hashes[1:], sides, strict=True):
        if left:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
        else:
            after = node_hash(after, sibling)
    return (before, after) == (old_root, new_root)


class Edge:
    """The right edge of a tree that grows: the roots of the perfect subtrees that it is made of.

    One hash for each bit set in the size, largest subtree first (a compact range that
    begins at leaf 0): all that is needed to go on, and to know the root at each step.
    """

    __slots__ = ("_roots", "size")

    def __init__(self, size: int = 0, roots: Iterable[bytes] = ()) -> None:
        self.size = size
        self._roots = list(roots)
        if len(self._roots) != size.bit_count() or any(len(each) != HASH_BYTES for each in self._roots):
            msg = f"a tree of size {size} has {size.bit_count()} hashes of {HASH_BYTES} bytes at its right edge"
            raise ValueError(msg)

    @property
    def roots(self) -> tuple[bytes, ...]:
        """The roots of the perfect subtrees, largest first."""
        return tuple(self._roots)

    def add(self, height: int, subtree: bytes) -> None:
        """Put a perfect subtree, by its root, at the right. The size is a multiple of its leaves."""
        if self.size & ((1 << height) - 1):
            msg = f"a subtree of height {height} can't begin at leaf {self.size}"
            raise ValueError(msg)
        neighbours = self.size >> height
        while neighbours & 1:
            subtree = node_hash(self._roots.pop(), subtree)
            neighbours >>= 1
        self._roots.append(subtree)
        self.size += 1 << height

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Put leaves, by their hashes, at the right."""
        start = self.size
        for height, index in subtrees(start, start + len(leaves)):
            first = (index << height) - start
            self.add(height, perfect(leaves[first : first + (1 << height)]))

    def root(self) -> bytes:
        """The root of the tree as it is now."""
        return _join(self._roots) if self._roots else EMPTY

    def copy(self) -> Edge:
        """Another edge of the same tree, which grows on its own."""
        return Edge(self.size, self._roots)


def _split(size: int) -> int:
    """The largest power of two below a size."""
    return 1 << ((size - 1).bit_length() - 1)


def _sides(at: int, last: int, count: int) -> list[bool] | None:
    """Whether each sibling on the way from a node to the root stands at its left.

    ``at`` is the node's index, ``last`` that of the last one at its height. None where
    the way has not as many steps as ``count``.
    """
    sides = []
    for _ in range(count):
        if not last:
            return None
        left = bool(at & 1) or at == last
        sides.append(left)
        while left and at and not at & 1:
            at, last = at >> 1, last >> 1
        at, last = at >> 1, last >> 1
    return None if last else sides


def _hash(start: int, end: int, node: Node) -> bytes:
    """The hash of a node of the tree, by the leaves that it stands for; perfect or at the right edge."""
    return _join([node(height, index) for height, index in subtrees(start, end)])


def _join(roots: Sequence[bytes]) -> bytes:
    """One root over perfect subtrees of falling heights."""
    joined = roots[-1]
    for left in reversed(roots[:-1]):
        joined = node_hash(left, joined)
    return joined
