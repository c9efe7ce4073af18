"""The memo: a pure function's results, remembered within bounds."""

from __future__ import annotations

from sys import getsizeof
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

K = TypeVar("K")
V = TypeVar("V")

MEMO_ENTRIES: Final = 50_000
"""Entries before a memo is emptied: the identifiers of a large account's SIM
cards fit, and a memo of short texts stays below some 15 MB."""

SCALAR_BYTES: Final = 256
"""Size of the largest text or number remembered: identifiers and words are shorter."""

SHAPES: Final = 1_000
"""Distinct tuples of an object's keys remembered; a platform sends a dozen."""

SHAPE_KEYS: Final = 64
"""Keys of the largest object whose keys are remembered."""

SHAPE_CHARACTERS: Final = 2_048
"""Characters of all keys of the largest object whose keys are remembered."""


class Memo(dict[K, V]):
    """``memo[key]`` is ``memo.read(key)``, mostly without the call.

    Emptied when full; keys that don't ``fit`` are not kept: a sender's megabyte
    must not outlive its delivery. Keys of one memo must be of types whose values are never
    equal to each other's (text and whole numbers, say, but not ``True`` and 1):
    what was read of one must not be taken for the other.
    """

    __slots__ = ("_entries", "_fits", "read")

    def __init__(self, read: Callable[[K], V], fits: Callable[[K], bool], entries: int = MEMO_ENTRIES) -> None:
        super().__init__()
        self.read = read
        self._fits = fits
        self._entries = entries

    def __missing__(self, key: K) -> V:
        value = self.read(key)
        if self._fits(key):
            if len(self) >= self._entries:
                self.clear()
            self[key] = value
        return value


def scalar_fits(value: object) -> bool:
    """A text or number is small enough to remember."""
    return getsizeof(value) <= SCALAR_BYTES


def keys_fit(keys: tuple[str, ...]) -> bool:
    """An object's keys are few and short enough to remember."""
    return len(keys) <= SHAPE_KEYS and sum(map(len, keys)) <= SHAPE_CHARACTERS
