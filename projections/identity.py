"""Which row an observed object is about, told by its identifiers.

A SIM card is identified within its source by ICCID, else IMSI, else MSISDN,
else the platform's id; a bill by the platform's id, else its number. An
observation that ties two rows together makes them one, unless a stronger
identifier says that they are two: then the weaker one has moved from the one to
the other, as a number does when its card is replaced.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from projections.rows import Row
from schema.identifiers import iccid_forms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from projections.rows import Rows

R = TypeVar("R", bound=Row)


@dataclass
class Match(Generic[R]):
    """What was found for an observed object.

    ``row`` is the one meant, if there is one yet; ``same`` are to be merged into
    it; each of ``moved`` names a row that must give up one of its identifiers.
    """

    row: R | None = None
    same: list[R] = field(default_factory=list)
    moved: list[tuple[R, str]] = field(default_factory=list)


def match(rows: Rows[R], source: str, observed: Sequence[tuple[str, str | None]]) -> Match[R]:
    """Find the rows that share an identifier with what was observed.

    ``observed`` lists (column, value) from the strongest identifier to the weakest.
    """
    found: Match[R] = Match()
    for rank, (column, value) in enumerate(observed):
        if value is None:
            continue
        stronger = observed[:rank]
        for row in _holders(rows, source, column, value):
            if row is found.row or any(row is other for other in found.same):
                continue
            if any(differ(name, getattr(row, name), said) for name, said in stronger):
                found.moved.append((row, column))
            elif found.row is None:
                found.row = row
            elif any(differ(name, getattr(row, name), getattr(found.row, name)) for name, _ in stronger):
                found.moved.append((row, column))
            else:
                found.same.append(row)
    return found


def differ(column: str, one: str | None, other: str | None) -> bool:
    """Two known values of an identifier that can't be of one thing."""
    if one is None or other is None or one == other:
        return False
    return column != "iccid" or other not in iccid_forms(one)


def _holders(rows: Rows[R], source: str, column: str, value: str) -> list[R]:
    if column != "iccid":
        return rows.find(column, value, source)
    return [row for form in iccid_forms(value) for row in rows.find(column, form, source)]
