from __future__ import annotations

import json
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from schema import seen
from schema.body import parse
from schema.readings import SimCard
from schema.seen import SEEN_BYTES, SeenItems
from schema.texts import rendered

if TYPE_CHECKING:
    from schema.readings import Json

pieces = st.sampled_from(
    [
        "1",
        "1.0",
        "1.00",
        "true",
        '"1"',
        '{"id":1}',
        '{ "id" : 1 }',
        '{"id":true}',
        '{"id":1.0}',
        "null",
        "[1]",
        '"\\u0031"',
    ]
)
spacing = st.sampled_from(["", " ", "\n\t"])


def card(value: Json) -> SimCard:
    """A card that tells its item from any other, exactly."""
    return SimCard(platform_id=repr(value))


def cards(reader: SeenItems, body: bytes) -> tuple[list[str | None], str, list[str]]:
    value, _ = parse(body)
    assert isinstance(value, dict)
    anomalies: list[str] = []
    found = [sim.platform_id for sim in reader.cards(value, body, anomalies)]
    return found, rendered(value), anomalies


@given(st.lists(st.tuples(st.lists(pieces), spacing, st.booleans()), max_size=6))
def test_what_was_seen_reads_as_if_anew(bodies: list[tuple[list[str], str, bool]]):
    """However often items came before, in whatever spelling, each is read and published as what it is."""
    reader = SeenItems(card)
    for elements, space, twice in bodies:
        array = space + "[" + f"{space},{space}".join(elements) + "]"
        before = '"items":["other"],"x":{"items":[0]},' if twice else ""
        body = f'\ufeff{{{before}"\\u0069tems":{array}}}'.encode()
        value, _ = parse(body)
        assert isinstance(value, dict)
        expected = value["items"]
        assert isinstance(expected, list)
        assert cards(reader, body) == ([repr(item) for item in expected], rendered(value), [])


def test_an_item_is_read_once():
    """The same bytes are not read again; other spellings, and large items, are."""
    asked: list[Json] = []

    def read(value: Json) -> SimCard:
        asked.append(value)
        return SimCard()

    reader = SeenItems(read)
    long = "x" * SEEN_BYTES
    for _ in range(3):
        cards(reader, json.dumps({"items": [{"id": 1}, {"id": 1}, long]}).encode())
    assert asked == [{"id": 1}, long, long, long]
    cards(reader, b'{"items":[{"id":1}]}')
    assert len(asked) == 5


def test_what_was_seen_is_bounded(monkeypatch):
    """Beyond its bound the memory of items begins anew."""
    monkeypatch.setattr(seen, "SEEN_ITEMS", 3)
    reader = SeenItems(card)
    for i in range(10):
        assert cards(reader, b'{"items":[%d,%d]}' % (i, i))[0] == [str(i)] * 2
        assert len(reader._seen) <= 3


def test_items_of_other_forms_are_read_too():
    """Items that are no array, or absent, are read as `schema.items` has them."""
    reader = SeenItems(card)
    assert cards(reader, b'{"items":{"id":1}}') == (["{'id': 1}"], '{"items":{"id":1}}', ["items_not_array"])
    assert cards(reader, b'{"items":null}') == ([], '{"items":null}', ["items_missing"])
    assert cards(reader, b"{}") == ([], "{}", ["items_missing"])
    assert cards(reader, b'{"items":[]}') == ([], '{"items":[]}', [])
