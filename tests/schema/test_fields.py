from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from schema.fields import Alias, Fields, Weak
from schema.memo import SHAPES

if TYPE_CHECKING:
    from schema.fields import Found
    from schema.readings import Json

NAME, SIZE, LIST = range(3)


def word(value: Json) -> Found:
    """Words are usable; `?` weakly; numbers not."""
    if value == "?":
        return Weak("?"), ("doubtful",)
    return (value, ()) if isinstance(value, str) and value else (None, () if value in (None, "") else ("no_word",))


def whole(value: Json) -> Found:
    return (None, ()) if value in (None, "") else (repr(value), ())


def fields() -> Fields:
    aliases = [
        Alias("name", NAME, word),
        Alias("title", NAME, word),
        Alias("both", NAME, word),
        Alias("both", SIZE, word),
        Alias("size", SIZE, word),
        Alias("list", LIST, whole, whole=True),
    ]
    return Fields(3, aliases, compared=NAME)


FIELDS = fields()

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.sampled_from(["", "a", "b", "?"]), st.decimals(allow_nan=False)
)
values = st.one_of(
    scalars, st.lists(scalars, max_size=2), st.dictionaries(st.sampled_from(["pin", "x", "name"]), scalars, max_size=2)
)
names = st.sampled_from(["name", "N_ame", "title", "both", "size", "Size", "list", "x", "y", "pin", "data", "card"])


@given(st.dictionaries(names, values, max_size=7))
def test_the_short_way_reads_as_the_long_way(item: dict[str, Json]):
    """An object of the common shape is read as if it were any: the same slots, fields left, anomalies and redactions."""
    short, long = deepcopy(item), deepcopy(item)
    slots, left, besides, anomalies = FIELDS.read(short)
    expected = FIELDS._read_any(long)
    assert (slots, dict(left), list(besides), sorted(anomalies)) == (
        expected[0],
        dict(expected[1]),
        list(expected[2]),
        sorted(expected[3]),
    )
    assert short == long
    assert list(left) == [key for key in item if key in left]


@given(st.dictionaries(names, values, max_size=7))
def test_no_field_is_lost(item: dict[str, Json]):
    """Whatever says something is in a slot or left over, but for what is secret; no secret is in either."""
    slots, left, _, _ = fields().read(deepcopy(item))
    for key, value in item.items():
        if key == "pin":
            assert key not in left
        elif key != "list" and isinstance(value, str) and value and value != "?":
            assert value in slots or left[key] == value
        elif key not in {"list", "data", "card"} and value:
            assert value == "?" or key in left


def test_what_was_found_besides_is_handed_over():
    """Further findings of the compared slot are given, of others not."""
    _, left, besides, _ = FIELDS.read({"name": "a", "title": "b", "data": {"title": "c", "size": "d"}})
    assert besides == ["b", "c"]
    assert left == {"title": "b", "data": {"title": "c"}}
    _, _, besides, _ = FIELDS.read({"size": "a", "Size": "b"})
    assert besides == []


def test_shapes_do_not_pile_up():
    """However many shapes of objects come, a bounded number is remembered."""
    many = fields()
    for i in range(3 * SHAPES):
        slots, left, _, _ = many.read({"name": "a", f"key {i}": i})
        assert (slots[NAME], left) == ("a", {f"key {i}": i})
    assert len(many._shapes) <= SHAPES
