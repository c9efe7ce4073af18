"""Stopping a process that works in steps: at the end of the one under way."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from audit.supervisor import STOP_SIGNALS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

CUT_SHORT = 128
"""A command that a signal cuts short exits with this plus the signal's number, as shells have it."""


@contextmanager
def stopped_by_signals(received: list[int]) -> Iterator[threading.Event]:
    """An event that a signal to stop sets, a second one ends the process; its number goes to the list. In the main thread."""
    stop = threading.Event()

    def handle(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        for each in STOP_SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        # Not here: the main thread may be inside the event and hold its lock.
        threading.Thread(target=stop.set).start()

    before = {number: signal.signal(number, handle) for number in STOP_SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
