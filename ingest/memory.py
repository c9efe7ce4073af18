"""Memory that is kept: what a large delivery has needed, the next one needs again."""

from __future__ import annotations

import ctypes
from contextlib import suppress

KEPT_BYTES = 64 * 1024 * 1024
"""So much may lie free before it is given back to the system: what a bill of ten megabytes needs, some times over."""

LARGEST_BYTES = 32 * 1024 * 1024
"""What is larger is given back at once: the most that glibc takes."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep() -> None:
    """Have the C library keep freed memory, where it is glibc.

    By itself it gives back each large block: a bill of ten megabytes was then five thousand page
    faults, ten milliseconds of a virtual machine, on the event loop and between two commits.
    """
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, LARGEST_BYTES)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
