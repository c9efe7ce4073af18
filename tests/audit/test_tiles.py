"""Hash tiles: what the specification's examples say, and that proofs come out of them as from the whole tree."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from audit import merkle, tiles

LEAVES = [sha256(b"%d" % n).digest() for n in range(70_000)]


def kept(count: int, *splits: int) -> dict[tuple[int, int], bytes]:
    """The tiles of a tree that grew in steps."""
    found: dict[tuple[int, int], bytes] = {}
    size = 0
    for end in sorted({*splits, count}):
        found.update(tiles.grown(size, LEAVES[size:end], loading(found)))
        size = end
    return found


def loading(found: dict[tuple[int, int], bytes]) -> tiles.Load:
    return lambda level, index: found.get((level, index), b"")


def whole(height: int, index: int) -> bytes:
    return merkle.perfect(LEAVES[index << height : (index + 1) << height])


@pytest.mark.parametrize(
    ("level", "index", "width", "path"),
    [
        (0, 1234067, 256, "tile/0/x001/x234/067"),
        (0, 0, 256, "tile/0/000"),
        (1, 5, 17, "tile/1/005.p/17"),
        (63, 999, 1, "tile/63/999.p/1"),
        (2, 1000, 256, "tile/2/x001/000"),
        (0, 273, 112, "tile/0/273.p/112"),
    ],
)
def test_a_tile_is_published_at_the_path_of_the_specification(level, index, width, path):
    """C2SP tlog-tiles, "Merkle Tree"."""
    assert tiles.path(level, index, width) == path


def test_a_tree_of_70000_has_the_tiles_of_the_specifications_example():
    """273 full and one of 112 at level 0, one full and one of 17 at level 1, one of 1 at level 2."""
    widths = {place: len(tile) // 32 for place, tile in kept(70_000).items()}
    assert widths == {
        **{(0, n): 256 for n in range(273)},
        (0, 273): 112,
        (1, 0): 256,
        (1, 1): 17,
        (2, 0): 1,
    }


def test_a_tree_of_256_has_a_full_tile_and_one_above():
    """The specification's other example: a full tile is hashed into the level above at once."""
    assert {place: len(tile) // 32 for place, tile in kept(256).items()} == {(0, 0): 256, (1, 0): 1}


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3_000), st.lists(st.integers(0, 3_000), max_size=6))
@example(600, [255, 256, 257, 511, 512])
def test_tiles_are_the_same_however_the_tree_grew(count, splits):
    """A tile depends on the leaves alone, and a smaller tree's partial tile is its beginning."""
    expected = kept(count)
    assert kept(count, *(split for split in splits if split < count)) == expected
    for split in splits:
        for place, tile in kept(split).items() if 0 < split < count else ():
            assert expected[place].startswith(tile)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 70_000), st.data())
def test_proofs_from_tiles_are_those_of_the_tree(size, data):
    """Roots and both kinds of proofs, for a tree and any smaller one in it, from the tiles of a larger."""
    index = data.draw(st.integers(0, size - 1))
    node = tiles.nodes(loading(TILES))
    assert merkle.inclusion(index, size, node) == merkle.inclusion(index, size, whole)
    assert merkle.consistency(index, size, node) == merkle.consistency(index, size, whole)


TILES = kept(70_000)


def test_tiles_that_are_to_change_go_before_those_that_are_kept():
    """A proof can be made for a tree before its tiles are stored."""
    before = kept(300)
    changed = tiles.grown(300, LEAVES[300:600], loading(before))
    node = tiles.nodes(tiles.over(changed, loading(before)))
    assert merkle.root(600, node) == merkle.root(600, whole)
    assert merkle.root(300, node) == merkle.root(300, whole)


def test_tiles_are_remembered_up_to_a_number(monkeypatch):
    """A tile is loaded once for many proofs; of more tiles than may be kept, again."""
    loaded: list[tuple[int, int]] = []

    def load(level, index):
        loaded.append((level, index))
        return TILES[level, index]

    node = tiles.nodes(load)
    for _ in range(3):
        assert merkle.inclusion(12_345, 70_000, node) == merkle.inclusion(12_345, 70_000, whole)
    assert len(loaded) == len(set(loaded))
    monkeypatch.setattr(tiles, "KEPT_TILES", 1)
    for index in (60_000, 12_345):
        assert merkle.inclusion(index, 70_000, node) == merkle.inclusion(index, 70_000, whole)
    assert len(loaded) > len(set(loaded))


@pytest.mark.parametrize("width", [0, 43, 45])
def test_a_partial_tile_of_another_width_is_not_gone_on_from(width):
    """The size says how wide it must be."""
    damaged = {(0, 1): b"".join(LEAVES[:width])}
    with pytest.raises(ValueError, match=rf"tile/0/001 has {width * 32} bytes, a tree of size 300 needs 1408"):
        tiles.grown(300, LEAVES[:1], loading(damaged))


def test_a_tile_that_is_missing_is_named():
    """The proof can't be made, and whoever mends it must know where."""
    with pytest.raises(LookupError, match="tile/0/001"):
        merkle.root(300, tiles.nodes(loading({place: tile for place, tile in kept(300).items() if place != (0, 1)})))
