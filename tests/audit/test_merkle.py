"""The tree against RFC 6962's own words, written down as functions, and against a peer."""

from __future__ import annotations

import os
import random
from functools import cache
from hashlib import sha256

import pymerkle  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit import merkle, verify_bundle
from audit.merkle import EMPTY, Edge

LARGEST = 1_025
"""One more than a power of two, four levels of tiles' inner nodes high."""

EXHAUSTIVE = LARGEST if os.environ.get("SIMTRAIL_ALL_PAIRS") else 130
"""Up to this size every pair is tried, above it every size with some partners. With
SIMTRAIL_ALL_PAIRS set all pairs are, which takes two minutes."""

LEAVES = [sha256(b"\x00%d" % n).digest() for n in range(LARGEST)]


@cache
def mth(start: int, end: int) -> bytes:
    """MTH(D[start:end]) of RFC 6962 §2.1."""
    if start == end:
        return sha256(b"").digest()
    if end - start == 1:
        return LEAVES[start]
    k = split(end - start)
    return sha256(b"\x01" + mth(start, start + k) + mth(start + k, end)).digest()


def split(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def path(m: int, start: int, end: int) -> list[bytes]:
    """PATH(m, D[start:end]) of RFC 6962 §2.1.1."""
    n = end - start
    if n == 1:
        return []
    k = split(n)
    if m < k:
        return [*path(m, start, start + k), mth(start + k, end)]
    return [*path(m - k, start + k, end), mth(start, start + k)]


def subproof(m: int, start: int, end: int, known: bool) -> list[bytes]:  # noqa: FBT001 - the specification's b
    """SUBPROOF(m, D[start:end], b) of RFC 6962 §2.1.2."""
    n = end - start
    if m == n:
        return [] if known else [mth(start, end)]
    k = split(n)
    if m <= k:
        return [*subproof(m, start, start + k, known), mth(start + k, end)]
    return [*subproof(m - k, start + k, end, False), mth(start, start + k)]


LAYERS = [LEAVES]
while len(LAYERS[-1]) > 1:
    LAYERS.append(merkle.parents(LAYERS[-1]))


def node(height: int, index: int) -> bytes:
    return LAYERS[height][index]


def partners(size: int, largest: int) -> range | list[int]:
    """Sizes or indices below one to try with it: all, or the ends, powers of two and some more."""
    if size <= EXHAUSTIVE:
        return range(largest)
    chosen = {0, 1, 2, size // 2, size - 2, size - 1, size}
    chosen |= {1 << bit for bit in range(size.bit_length())} | {size - (1 << bit) for bit in range(size.bit_length())}
    chosen |= set(random.Random(size).sample(range(largest), 5))  # noqa: S311 - the same in each run
    return sorted(each for each in chosen if 0 <= each < largest)


def flipped(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


VECTOR_LEAVES = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
]
VECTOR_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION_VECTORS = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CONSISTENCY_VECTORS = {
    (1, 1): [],
    (1, 8): INCLUSION_VECTORS[0, 8],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


def vector_node(height: int, index: int) -> bytes:
    leaves = [merkle.leaf_hash(bytes.fromhex(leaf)) for leaf in VECTOR_LEAVES]
    return merkle.perfect(leaves[index << height : (index + 1) << height])


def test_roots_are_those_of_certificate_transparencys_vectors():
    """The trees over the eight leaves of the reference implementation's tests, which everyone shares."""
    edge = Edge()
    for size, root in enumerate(VECTOR_ROOTS):
        assert merkle.root(size, vector_node).hex() == root
        assert edge.root().hex() == root
        if size < len(VECTOR_LEAVES):
            edge.add(0, vector_node(0, size))


@pytest.mark.parametrize(("index", "size"), INCLUSION_VECTORS)
def test_inclusion_proofs_are_those_of_the_vectors(index, size):
    """And they verify."""
    proof = merkle.inclusion(index, size, vector_node)
    assert [each.hex() for each in proof] == INCLUSION_VECTORS[index, size]
    assert merkle.included(vector_node(0, index), index, size, proof, bytes.fromhex(VECTOR_ROOTS[size]))


@pytest.mark.parametrize(("old", "new"), CONSISTENCY_VECTORS)
def test_consistency_proofs_are_those_of_the_vectors(old, new):
    """And they verify."""
    proof = merkle.consistency(old, new, vector_node)
    assert [each.hex() for each in proof] == CONSISTENCY_VECTORS[old, new]
    roots = [bytes.fromhex(VECTOR_ROOTS[size]) for size in (old, new)]
    assert merkle.consistent(old, roots[0], new, roots[1], proof)


def test_proofs_have_the_nodes_of_the_specifications_example():
    """C2SP merkle-tree, "Example": a tree of seven, its nodes named by letters."""
    a, b, c, d, e, f, g = (node(0, n) for n in range(7))
    h, i, j, k = node(1, 0), node(1, 1), node(1, 2), node(2, 0)
    last = merkle.node_hash(j, g)
    assert merkle.root(7, node) == merkle.node_hash(k, last)
    assert merkle.inclusion(0, 7, node) == [b, i, last]
    assert merkle.inclusion(3, 7, node) == [c, h, last]
    assert merkle.inclusion(4, 7, node) == [f, g, k]
    assert merkle.inclusion(6, 7, node) == [j, k]
    assert merkle.consistency(3, 7, node) == [c, d, h, last]
    assert merkle.consistency(4, 7, node) == [last]
    assert merkle.consistency(6, 7, node) == [j, g, k]
    assert merkle.node_hash(a, b) == h
    assert merkle.node_hash(e, f) == j


def test_every_size_has_the_root_that_the_definition_gives():
    """From nodes, and growing leaf by leaf."""
    edge = Edge()
    for size in range(LARGEST + 1):
        assert merkle.root(size, node) == mth(0, size) == edge.root()
        assert Edge(size, edge.roots).root() == edge.root()
        if size < LARGEST:
            edge.add(0, LEAVES[size])


def test_every_inclusion_proof_is_the_definitions_and_verifies():
    """For every leaf of every tree; and for no other leaf, index, size or root."""
    for size in range(1, LARGEST + 1):
        root = mth(0, size)
        for index in partners(size, size):
            proof = merkle.inclusion(index, size, node)
            assert proof == path(index, 0, size)
            assert merkle.included(LEAVES[index], index, size, proof, root)
            assert not merkle.included(flipped(LEAVES[index]), index, size, proof, root)
            assert not merkle.included(LEAVES[index], index ^ 1, size, proof, root)
            assert not merkle.included(LEAVES[index], index, size, proof, flipped(root))


def test_every_consistency_proof_is_the_definitions_and_verifies():
    """From every size to every size; and for no other root."""
    for new in range(LARGEST + 1):
        for old in partners(new, new + 1):
            proof = merkle.consistency(old, new, node)
            assert proof == (subproof(old, 0, new, True) if old else [])
            assert merkle.consistent(old, mth(0, old), new, mth(0, new), proof)
            if old:
                assert not merkle.consistent(old, flipped(mth(0, old)), new, mth(0, new), proof)
                assert not merkle.consistent(old, mth(0, old), new, flipped(mth(0, new)), proof)


@given(st.data())
def test_a_proof_with_anything_changed_verifies_nothing(data):
    """One hash changed, left out, put in or moved, or another index or size."""
    size = data.draw(st.integers(2, 200))
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(1, size - 1))
    extra = data.draw(st.sampled_from(LEAVES))
    for proof, holds in (
        (merkle.inclusion(index, size, node), lambda p: merkle.included(LEAVES[index], index, size, p, mth(0, size))),
        (merkle.consistency(old, size, node), lambda p: merkle.consistent(old, mth(0, old), size, mth(0, size), p)),
    ):
        assert holds(proof)
        at = data.draw(st.integers(0, len(proof) - 1))
        assert not holds([*proof[:at], flipped(proof[at]), *proof[at + 1 :]])
        assert not holds([*proof[:at], *proof[at + 1 :]])
        assert not holds([*proof[:at], extra, *proof[at:]])
        assert not holds([*proof, extra])
        assert not holds([])
        if len(proof) > 1:
            assert not holds([*proof[1:], proof[0]])


@pytest.mark.parametrize("ours", [merkle, verify_bundle], ids=["merkle", "verify_bundle"])
def test_a_path_of_another_length_verifies_nothing(ours):
    """Even where its hashes lead to the root: from an inner node, or past the root of the size that is claimed."""
    a, b, c, d = LEAVES[:4]
    ab, cd = merkle.node_hash(a, b), merkle.node_hash(c, d)
    root = merkle.node_hash(ab, cd)
    assert ours.included(a, 0, 4, [b, cd], root)
    assert not ours.included(ab, 0, 4, [cd], root)
    assert not ours.included(root, 0, 4, [], root)
    assert not ours.included(b, 0, 1, [a], ab)
    assert not ours.included(a, 0, 2, [b, cd], root)
    assert ours.consistent(2, ab, 4, root, [cd])
    assert not ours.consistent(1, ab, 4, root, [cd])
    assert not ours.consistent(2, ab, 3, merkle.node_hash(merkle.node_hash(ab, c), d), [c, d])
    assert not ours.consistent(3, ab, 4, root, [ab, cd])


def test_proofs_about_sizes_that_can_not_be_verify_nothing():
    """An index outside the tree, a tree that shrinks, an empty tree that is none."""
    assert not merkle.included(LEAVES[0], 1, 1, [], LEAVES[0])
    assert not merkle.included(LEAVES[0], -1, 1, [], LEAVES[0])
    assert not merkle.included(LEAVES[0], 0, 0, [], EMPTY)
    assert not merkle.consistent(2, mth(0, 2), 1, mth(0, 1), [])
    assert not merkle.consistent(-1, EMPTY, 1, mth(0, 1), [])
    assert not merkle.consistent(0, LEAVES[0], 1, mth(0, 1), [])
    assert not merkle.consistent(0, EMPTY, 1, mth(0, 1), [LEAVES[0]])
    assert not merkle.consistent(1, LEAVES[0], 1, LEAVES[1], [])
    assert merkle.consistent(0, EMPTY, 0, EMPTY, [])


@given(st.lists(st.integers(0, 90), max_size=12))
def test_an_edge_grows_the_same_however_leaves_come(counts):
    """In any pieces, the root is that of the leaves; and a copy grows on its own."""
    edge = Edge()
    for count in counts:
        before = edge.copy()
        size = edge.size
        edge.extend(LEAVES[size : size + count])
        assert edge.root() == mth(0, min(size + count, LARGEST))
        assert (before.size, before.root()) == (size, mth(0, size))


def test_an_edge_refuses_what_does_not_fit():
    """A number of hashes that is not the size's, a hash that is none, a subtree out of line."""
    with pytest.raises(ValueError, match="has 2 hashes"):
        Edge(3, [LEAVES[0]])
    with pytest.raises(ValueError, match="32 bytes"):
        Edge(1, [b"short"])
    with pytest.raises(ValueError, match="can't begin at leaf 1"):
        Edge(1, [LEAVES[0]]).add(1, LEAVES[1])


def test_a_peer_gives_the_same_roots_and_proofs():
    """pymerkle, which shares no line with this, for every size up to 130."""
    entries = [b"%d" % n for n in range(130)]
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    hashes = [merkle.leaf_hash(entry) for entry in entries]
    layers = [hashes]
    while len(layers[-1]) > 1:
        layers.append(merkle.parents(layers[-1]))

    def ours(height: int, index: int) -> bytes:
        return layers[height][index]

    for size, entry in enumerate(entries, 1):
        tree.append_entry(entry)
        assert tree.get_root() == merkle.root(size, ours)
    for size in (1, 2, 3, 7, 8, 64, 65, 127, 128, 129, 130):
        for index in range(size):
            # The peer counts leaves from one, and has the leaf itself in front of the path.
            theirs = tree.prove_inclusion(index + 1, size)
            assert theirs.path == [hashes[index], *merkle.inclusion(index, size, ours)]
            # It has another form of consistency proofs: what must be shared are the roots.
            proof = merkle.consistency(index + 1, size, ours)
            assert merkle.consistent(index + 1, tree.get_root(index + 1), size, tree.get_root(size), proof)
