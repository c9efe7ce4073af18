from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx
import pytest
from structlog.testing import capture_logs

from ingest.app import create_app
from ingest.readiness import Lag
from schema.body import not_json
from schema.errors import LogUnavailable, ReadModelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp

    from tests.ingest.conftest import Clock, Receiver


def ask(app: ASGIApp) -> httpx.Response:
    async def get() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            return await client.get("/readyz")

    with capture_logs():
        return asyncio.run(get())


def test_a_receiver_that_can_record_is_ready(receiver: Receiver):
    """200, to be asked anew each time."""
    answer = ask(receiver.app)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {
        "ready": True,
        "log": {"writable": True, "reason": None},
        "writer": {"running": True, "remedy": None},
        "connections": {"accepted": True, "reason": None},
    }


def test_a_receiver_that_can_not_record_says_why(receiver: Receiver, clock: Clock):
    """503 with the cause; and once the writer has stopped, that only a restart helps."""
    clock.now = clock.now.replace(minute=1)
    receiver.tape.fault = LogUnavailable("the disk is on fire")
    answer = ask(receiver.app)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    told = answer.json()
    assert told["ready"] is False
    assert "the disk is on fire" in told["log"]["reason"]
    assert told["writer"] == {"running": False, "remedy": "start the receiver again"}


def missing() -> Lag:
    msg = "the read model can't be read"
    raise ReadModelError(msg)


@pytest.mark.parametrize(
    ("lag", "told"),
    [
        (
            lambda: Lag(7, 3, 1.23456, "a rebuild is needed"),
            {"position": 7, "lag_events": 3, "lag_seconds": 1.235, "reason": "a rebuild is needed"},
        ),
        (missing, {"reason": "the read model can't be read"}),
    ],
)
def test_a_read_model_that_is_behind_keeps_nobody_from_recording(
    receiver: Receiver, clock: Clock, lag: Callable[[], Lag], told: dict[str, object]
):
    """Its lag and why it stands still are told, or why it can't be, and the receiver is ready all the same."""
    app = create_app(receiver.sources, receiver.writer, clock=clock, not_json=not_json, lag=lag)
    answer = ask(app)
    assert answer.status_code == 200
    assert answer.json()["projection"] == told
