"""The items of a body, and the anomalies of what was read from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schema.redaction import withhold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema.readings import Bill, Json, SimCard


def items(body: dict[str, Json], anomalies: list[str]) -> list[Json]:
    """The elements of a body's ``items``, all but the objects among them without secrets.

    Of an object these are its values, if its keys are the indexes of an array
    as some platforms encode a sparse one; else it is itself the one element.
    """
    found = body.get("items")
    if type(found) is dict:
        anomalies.append("items_not_array")
        elements: list[Json] = list(found.values()) if found and all(key.isdecimal() for key in found) else [found]
    elif type(found) is list:
        elements = found
    else:
        anomalies.append("items_missing" if found is None else "items_not_array")
        return []
    for element in elements:
        if type(element) is list:
            withhold(element)
    return elements


def union(anomalies: list[str], read: Sequence[SimCard | Bill]) -> tuple[str, ...]:
    """A reading's anomalies and those of its items, sorted, each once."""
    flawed = [item.anomalies for item in read if item.anomalies]
    return tuple(sorted(set(anomalies).union(*flawed))) if anomalies or flawed else ()
