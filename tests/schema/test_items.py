from __future__ import annotations

from typing import Any

import pytest

from schema.items import items, union
from schema.readings import SimCard


@pytest.mark.parametrize(
    ("body", "elements", "anomalies"),
    [
        ({"items": [1, {"a": 2}]}, [1, {"a": 2}], []),
        ({"items": []}, [], []),
        ({}, [], ["items_missing"]),
        ({"items": None}, [], ["items_missing"]),
        ({"items": 5}, [], ["items_not_array"]),
        ({"items": {"a": 1}}, [{"a": 1}], ["items_not_array"]),
        ({"items": {}}, [{}], ["items_not_array"]),
        ({"items": {"0": {"a": 1}, "7": 2}}, [{"a": 1}, 2], ["items_not_array"]),
        ({"items": {"0": {"a": 1}, "x": 2}}, [{"0": {"a": 1}, "x": 2}], ["items_not_array"]),
    ],
)
def test_items(body, elements, anomalies):
    """An array's elements; of an object its values if its keys are indexes, else itself; nothing of anything else."""
    named: list[str] = []
    assert (items(body, named), named) == (elements, anomalies)


@pytest.mark.parametrize("found", [[[{"pin": 1}]], {"0": [{"pin": 1}]}])
def test_arrays_among_the_items_have_no_secrets(found):
    """Nobody else looks into an element that is an array."""
    body: dict[str, Any] = {"items": found}
    assert items(body, []) == [[{"pin": "(withheld)"}]]


def test_anomalies_are_united():
    """A reading's own and its items', sorted, each once."""
    sims = (SimCard(), SimCard(anomalies=("b", "c")), SimCard(anomalies=("c",)))
    assert union(["d", "b"], sims) == ("b", "c", "d")
    assert union([], ()) == ()
