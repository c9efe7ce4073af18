"""Fields: finding what an object says by a table of aliases.

An object is looked at itself, then one level down under a container's name.
What each key means is worked out once for each distinct tuple of keys.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from schema.aliases import CONTAINERS, folded
from schema.memo import SHAPES, Memo, keys_fit, scalar_fits
from schema.redaction import is_secret, withhold

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from schema.readings import Json

Found: TypeAlias = tuple[object, tuple[str, ...]]
"""What a reader found in a value, None if nothing usable, and the anomalies met."""

Reader: TypeAlias = "Callable[[Json], Found]"

Reading: TypeAlias = "tuple[list[object], Mapping[str, Json], Sequence[object], tuple[str, ...]]"
"""An object's slots, the fields that none of them holds, what was found besides, and the anomalies."""


class Weak(NamedTuple):
    """A finding that stands only where no other alias gives a better one."""

    value: object


class Alias(NamedTuple):
    """One name of a field: the slot that it fills, and how its value is read.

    What an object or array under it says stays among the attributes too,
    unless the field keeps it ``whole``.
    """

    name: str
    slot: int
    read: Reader
    whole: bool = False


_Memo: TypeAlias = "Memo[Json, Found]"
_Step: TypeAlias = "tuple[int, str, _Memo, bool]"
"""A slot, the key that may fill it, how its value is read, and whether the slot keeps all of it."""


class _Shape(NamedTuple):
    """What the keys of an object mean.

    ``rest`` are those without an alias, less the secret ones; ``inner`` those
    of containers. ``plain``: no key is secret, a container or an alias of two
    fields, and no field has two keys.
    """

    steps: tuple[_Step, ...]
    rest: frozenset[str]
    inner: tuple[str, ...]
    plain: bool


_Place: TypeAlias = tuple[str | None, str]
"""A key of an object's, and the container in which it stands, if any."""


class _Findings:
    """What is found in an object while its levels are read."""

    def __init__(self, slots: list[object]) -> None:
        self.slots = slots
        self.held: set[_Place | None] = set()
        self.weak: list[tuple[int, object, _Place | None]] = []
        self.besides: list[object] = []
        self.anomalies: list[str] = []

    def settle(self) -> None:
        """Let weak findings fill the slots that nothing better has filled."""
        for slot, value, place in self.weak:
            if self.slots[slot] is None:
                self.slots[slot] = value
                self.held.add(place)


_NOTHING: Final[Mapping[str, Json]] = MappingProxyType({})


class Fields:
    """The fields of a kind of object, in the order in which their aliases are tried.

    The first alias to give a usable value wins. Owns its memos: one thread.
    """

    def __init__(self, slots: int, aliases: Iterable[Alias], compared: int | None = None) -> None:
        """``compared`` is the slot of which further findings are handed over as well."""
        self._blank: list[object] = [None] * slots
        self._compared = compared
        self._shapes: Memo[tuple[str, ...], _Shape] = Memo(self._shape, keys_fit, SHAPES)
        self._aliases: dict[str, list[tuple[int, Alias, _Memo]]] = {}
        memos: dict[Reader, _Memo] = {}
        for rank, alias in enumerate(aliases):
            memo = memos.setdefault(alias.read, Memo(alias.read, scalar_fits))
            self._aliases.setdefault(folded(alias.name), []).append((rank, alias, memo))

    def read(self, item: dict[str, Json]) -> Reading:
        """What an object says. Its secret fields are withheld in place, at any depth."""
        steps, rest, _, plain = self._shapes[tuple(item)]
        if not plain:
            return self._read_any(item)
        slots = self._blank.copy()
        anomalies: tuple[str, ...] = ()
        unheld: list[str] = []
        for slot, key, memo, whole in steps:
            value = item[key]
            if type(value) is str or type(value) is int:
                found, flaws = memo[value]
            elif value is None:
                continue
            else:
                withhold(value)
                if not whole and isinstance(value, dict | list):
                    unheld.append(key)
                found, flaws = memo.read(value)
            if flaws:
                anomalies += flaws
            if type(found) is Weak:
                found = found.value
            if found is None:
                unheld.append(key)
            else:
                slots[slot] = found
        if not rest and not unheld:
            return slots, _NOTHING, (), anomalies
        return slots, _left(item, rest, unheld), (), anomalies

    def _read_any(self, item: dict[str, Json]) -> Reading:
        withhold(item)
        findings = _Findings(self._blank.copy())
        shape = self._shapes[tuple(item)]
        inner = {key: entry for key in shape.inner if isinstance(entry := item[key], dict)}
        self._find(item, None, findings)
        for key, level in inner.items():
            self._find(level, key, findings)
        findings.settle()
        left = self._unheld(item, None, findings)
        for key, level in inner.items():
            left[key] = self._unheld(level, key, findings)
            if not left[key]:
                del left[key]
        return findings.slots, left, findings.besides, tuple(findings.anomalies)

    def _find(self, level: dict[str, Json], container: str | None, findings: _Findings) -> None:
        for slot, key, memo, whole in self._shapes[tuple(level)].steps:
            value = level[key]
            if findings.slots[slot] is not None:
                if slot == self._compared:
                    findings.besides.append(memo.read(value)[0])
                continue
            found, flaws = memo.read(value)
            findings.anomalies += flaws
            place = (container, key) if whole or not isinstance(value, dict | list) else None
            if isinstance(found, Weak):
                findings.weak.append((slot, found.value, place))
            elif found is not None:
                findings.slots[slot] = found
                findings.held.add(place)

    def _unheld(self, level: dict[str, Json], container: str | None, findings: _Findings) -> dict[str, Json]:
        shape = self._shapes[tuple(level)]
        unheld = {key for _, key, _, _ in shape.steps if (container, key) not in findings.held}
        return _left(level, shape.rest, unheld)

    def _shape(self, keys: tuple[str, ...]) -> _Shape:
        steps: list[tuple[int, _Step]] = []
        rest: list[str] = []
        inner: list[str] = []
        plain = True
        for key in keys:
            name = folded(key)
            aliases = self._aliases.get(name, ())
            steps += ((rank, (alias.slot, key, memo, alias.whole)) for rank, alias, memo in aliases)
            if name in CONTAINERS:
                inner.append(key)
            if not aliases and not is_secret(name):
                rest.append(key)
            plain = plain and len(aliases) <= 1 and name not in CONTAINERS and not is_secret(name)
        plain = plain and len({slot for _, (slot, *_) in steps}) == len(steps)
        # The sort is stable: of two keys with one name, the object's first goes first.
        steps.sort(key=lambda ranked: ranked[0])
        return _Shape(tuple(step for _, step in steps), frozenset(rest), tuple(inner), plain)


def _left(item: dict[str, Json], rest: frozenset[str], unheld: Collection[str]) -> dict[str, Json]:
    """An object's fields without an alias, and those with one that no slot holds though they say something."""
    left: dict[str, Json] = {}
    for key, value in item.items():
        if key in rest:
            if type(value) is dict or type(value) is list:
                withhold(value)
            left[key] = value
        elif key in unheld and value is not None and value != "":
            left[key] = value
    return left
