"""The lines of deliveries."""

from __future__ import annotations

import io
import json
import threading
from typing import TYPE_CHECKING

from ingest import delivery_lines
from ingest.delivery_lines import REFUSALS_PER_S, DeliveryLines
from schema.event import Delivery

if TYPE_CHECKING:
    import pytest

    from tests.ingest.conftest import Clock

AT = "2026-05-01T00:00:00.000000Z"

BATCH = [Delivery(AT, "main", "192.0.2.9", {"user-agent": "ivanov"}, b'{"fio": "Ivanov"}') for _ in range(2)]


def test_each_delivery_has_a_line(clock: Clock) -> None:
    """Source, position, bytes, the group that it was committed in: nothing of what it says or who says it."""
    out = io.BytesIO()
    with DeliveryLines(out, clock) as lines:
        lines.recorded(BATCH, [7, 8], 0.0015)

    told = [json.loads(line) for line in out.getvalue().splitlines()]

    assert told == [
        {
            "source": "main",
            "position": position,
            "bytes": 17,
            "group": 2,
            "commit_ms": 1.5,
            "event": "recorded",
            "logger": "simtrail.deliveries",
            "level": "info",
            "timestamp": AT,
        }
        for position in (7, 8)
    ]


def test_refusals_have_so_many_lines_a_second(clock: Clock) -> None:
    """The next second's first line says how many had none."""
    out = io.BytesIO()
    with DeliveryLines(out, clock) as lines:
        for _ in range(REFUSALS_PER_S + 5):
            lines.refused("no_such_webhook", "")
        clock.now = clock.now.replace(second=1)
        lines.refused("too_slow", "main")

    told = [json.loads(line) for line in out.getvalue().splitlines()]

    assert [line.get("left_out", 0) for line in told] == [0] * REFUSALS_PER_S + [5]
    assert (told[0]["source"], told[0]["cause"]) == (None, "no_such_webhook")
    assert (told[-1]["source"], told[-1]["cause"]) == ("main", "too_slow")


def test_lines_are_written_while_it_goes_on(clock: Clock) -> None:
    """Soon, not at the end; and those of many groups at once."""
    out = Told()
    with DeliveryLines(out, clock) as lines:
        for number in range(20):
            lines.recorded(BATCH, [2 * number + 1, 2 * number + 2], 0.001)
            if number % 10 == 9:
                assert out.told.acquire(timeout=20)

    assert [json.loads(line)["position"] for line in out.getvalue().splitlines()] == list(range(1, 41))


class Told(io.BytesIO):
    """A stream that tells of each write."""

    def __init__(self) -> None:
        super().__init__()
        self.told = threading.Semaphore(0)

    def flush(self) -> None:
        """Called behind each write."""
        self.told.release()


class Held(io.BytesIO):
    """A stream that takes nothing for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()

    def write(self, data: object, /) -> int:
        """Write, once it may."""
        self.open.wait()
        return super().write(data)  # type: ignore[arg-type]


def test_a_reader_that_does_not_read_holds_nobody_up(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't be written is left out, and told."""
    waiting = 100
    monkeypatch.setattr(delivery_lines, "WAITING_LINES", waiting)
    out = Held()
    with DeliveryLines(out, clock) as lines:
        for number in range(3 * waiting):
            lines.recorded(BATCH[:1], [number + 1], 0.001)
        out.open.set()

    lines_left = out.getvalue().splitlines()
    assert waiting <= len(lines_left) < 3 * waiting


def test_a_stream_that_is_broken_ends_nothing(clock: Clock) -> None:
    """A terminal that is gone, a disk that is full."""
    out = io.BytesIO()
    out.close()
    with DeliveryLines(out, clock) as lines:
        lines.recorded(BATCH, [1, 2], 0.001)
