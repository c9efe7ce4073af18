"""The gate before a read model: closed while a swap waits for its turn to write.

SQLite's locks know no queue: a projector that is behind would take the write lock again and
again before a swap's next try. It passes this gate before each transaction; while the gate is
closed it waits there, so the swap waits for one transaction at most. The kernel opens it
when the process that closed it ends, however that ends.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MODE = 0o600


@contextmanager
def closed(live: Path) -> Iterator[None]:
    """Keep the gate closed for the length of the context."""
    descriptor = _opened(live)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def passed(live: Path) -> None:
    """Return when the gate is open."""
    descriptor = _opened(live)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _opened(live: Path) -> int:
    return os.open(live.with_name("swap.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE)
