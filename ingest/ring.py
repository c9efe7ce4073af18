"""The ring: memory that a receiver shares with its appender, in which envelopes lie until it is known what became of them.

Whatever is of a kilobyte or of ten megabytes is so copied once, and holds up nothing on its way. Only the receiver
writes; what it has put there stays as it is until the receiver takes it away.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from mmap import ACCESS_READ, mmap
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Ring:
    """A ring of so many bytes, made by the receiver; ``descriptor`` is what the appender maps it by.

    What is put lies in one piece, and is taken away in the order in which it was put: invariant
    of ``_used``, the places in use, is that none overlaps another, and each but one begins behind the one before.
    """

    def __init__(self, size: int) -> None:
        self.descriptor = os.memfd_create("ring") if sys.platform == "linux" else _temporary()
        os.ftruncate(self.descriptor, size)
        self._memory = mmap(self.descriptor, size)
        self._used: deque[tuple[int, int]] = deque()

    def room(self) -> int:
        """The most bytes that can be put now."""
        before, behind = self._free()
        return max(before, behind[1] - behind[0])

    def put(self, parts: Iterable[bytes], size: int) -> int:
        """Put bytes of that size in all, no more than there is room for; where they begin."""
        before, (behind, _) = self._free()
        # As far in front as can be: so little of the memory is in use as waits, and it is warm.
        begin = end = 0 if size <= before else behind
        for part in parts:
            with memoryview(part) as view:
                self._memory[end : end + len(view)] = view
                end += len(view)
        self._used.append((begin, begin + size))
        return begin

    def take(self) -> None:
        """Take away what was put first."""
        self._used.popleft()

    def _free(self) -> tuple[int, tuple[int, int]]:
        """What is free: so many bytes from the beginning, and from here to there."""
        if not self._used:
            return len(self._memory), (0, 0)
        first, last = self._used[0][0], self._used[-1]
        if last[0] < first:
            return 0, (last[1], first)
        return first, (last[1], len(self._memory))

    def close(self) -> None:
        """Give back the memory, once the appender has ended too."""
        self._memory.close()
        os.close(self.descriptor)


def mapped(descriptor: int) -> memoryview:
    """All of the ring with this descriptor, to be read."""
    return memoryview(mmap(descriptor, 0, access=ACCESS_READ))


def _temporary() -> int:
    with TemporaryFile(buffering=0) as file:
        return os.dup(file.fileno())
