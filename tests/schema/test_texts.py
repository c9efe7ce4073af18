from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from schema import texts
from schema.texts import ATTRIBUTES_CHARACTERS, TEXT_CHARACTERS, identity, json_object, json_text, label, plain, shown

if TYPE_CHECKING:
    from schema.readings import Json

values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.decimals(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)


def test_a_text_is_stripped_and_ends_somewhere():
    """White space around is dropped, NUL is made visible, and what is too long ends in …, each of them named."""
    assert shown(" a b ") == ("a b", ())
    assert shown("  ") == (None, ())
    assert shown("a\0b") == ("a␀b", ("nul_in_text",))
    assert shown("x" * TEXT_CHARACTERS) == ("x" * TEXT_CHARACTERS, ())
    assert shown("x" * (TEXT_CHARACTERS + 1)) == ("x" * (TEXT_CHARACTERS - 1) + "…", ("text_cut",))
    assert shown("\0" * 1000)[1] == ("nul_in_text", "text_cut")


def test_a_field_of_text_takes_text_and_numbers():
    """A number is read as its digits and named; anything else is named and not read."""
    assert plain("a") == ("a", ())
    assert plain(None) == (None, ())
    assert plain(5) == ("5", ("number_for_text",))
    assert plain(Decimal("1.50")) == ("1.50", ("number_for_text",))
    others: tuple[Json, ...] = (True, [], {"name": "a"})
    for value in others:
        assert plain(value) == (None, ("field_not_text",))


def test_a_label_of_an_object_is_its_name():
    """Of an object its name counts, under whatever spelling; of an array the JSON."""
    assert label({"id": 7, "Name": "Склад"}) == ("Склад", ())
    assert label({"id": 7, "name": None}) == ("7", ())
    assert label({"a": {"b": 1}}) == ('{"a":{"b":1}}', ())
    assert label([1, "a"]) == ('[1,"a"]', ())
    assert label([]) == label({}) == (None, ())
    assert label(True) == ("true", ())
    assert label(Decimal("2.50")) == ("2.50", ())


def test_an_identity_is_never_cut():
    """Two long ids must not become one: such an id is none."""
    assert identity("q-1") == ("q-1", ())
    assert identity(17) == ("17", ())
    assert identity(Decimal("17.0")) == ("17", ())
    others: tuple[Json, ...] = (
        "x" * (TEXT_CHARACTERS + 1),
        10**TEXT_CHARACTERS,
        Decimal("1E+3"),
        Decimal("1.5"),
        True,
        [],
        {},
    )
    for value in others:
        assert identity(value) == (None, ("id_invalid",))
    assert identity(" ") == identity(None) == (None, ())


def test_json_in_a_column_is_json_even_if_cut():
    """What is too long leaves valid JSON that says so; the fields that fit stay."""
    fields: dict[str, Json] = {"first": 1, "long": "x" * ATTRIBUTES_CHARACTERS, "last": [True]}
    text, flaws = json_object(fields)
    assert text is not None
    read = json.loads(text)
    assert (read["first"], read["last"], flaws) == (1, [True], ("attributes_cut",))
    assert "the log has the whole" in read["long"]
    many, flaws = json_object({f"key {i}": "x" * 100 for i in range(1000)})
    assert many is not None
    assert len(many) <= ATTRIBUTES_CHARACTERS
    assert "…" in json.loads(many)
    assert flaws == ("attributes_cut",)
    groups, flaws = json_text(["x" * ATTRIBUTES_CHARACTERS])
    assert groups is not None
    assert "the log has the whole" in json.loads(groups)
    assert flaws == ("attributes_cut",)


@given(values)
def test_texts_can_be_stored_and_shown(value):
    """Whatever comes, a field's text is short, has no NUL, and is not empty."""
    for read in (plain, label, identity):
        text, _ = read(value)
        assert text is None or (0 < len(text) <= TEXT_CHARACTERS and texts.NUL not in text)


@given(st.dictionaries(st.text(max_size=2000), values, max_size=30))
def test_attributes_are_a_json_object_of_bounded_size(fields):
    """Whatever the fields, their JSON is an object, within the limit."""
    text, _ = json_object(fields)
    assert text is not None
    assert len(text) <= ATTRIBUTES_CHARACTERS
    assert isinstance(json.loads(text), dict)
