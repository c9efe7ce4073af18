"""`/metrics`, read as Prometheus reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from ingest.app import create_app
from ingest.limits import Limits
from ingest.readiness import Lag
from schema.body import not_json
from schema.errors import LogUnavailable, ReadModelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp

    from tests.ingest.conftest import Clock, Receiver, Served


def samples(served: Served) -> dict[tuple[str, ...], float]:
    """Each sample: its name and its labels' values in the order of their names, and its value."""
    answer = httpx.get(f"http://127.0.0.1:{served.port}/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == CONTENT_TYPE_LATEST
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_what_was_recorded_is_counted(receiver: Receiver, run: Callable[..., Served]) -> None:
    """Deliveries and bytes by source, commits by time and size of the group."""
    served = run(receiver.app)
    url = f"http://127.0.0.1:{served.port}{receiver.path}"
    with httpx.Client() as client:
        for body in (b"{}", b"[1]", b"not JSON"):
            client.post(url, content=body)

    told = samples(served)

    assert told["simtrail_deliveries_total", "recorded", "main"] == 3
    assert told["simtrail_recorded_bytes_total", "main"] == 13
    assert told["simtrail_not_json_total", "main"] == 1
    assert told["simtrail_commit_seconds_count",] == told["simtrail_group_deliveries_count",] == 3
    assert told["simtrail_commit_seconds_sum",] > 0
    assert told["simtrail_group_deliveries_bucket", "1.0"] == told["simtrail_group_deliveries_sum",] == 3
    assert told["simtrail_group_deliveries_bucket", "+Inf"] == 3
    assert told["simtrail_held_deliveries",] == told["simtrail_held_bytes",] == 0
    assert told["simtrail_writer_running",] == 1
    assert ("simtrail_projected_position",) not in told


def test_refusals_are_counted_by_cause(start: Callable[..., Receiver], run: Callable[..., Served]) -> None:
    """By source too, once it is known to be that source's."""
    receiver = start(Limits(body_bytes=10))
    served = run(receiver.app)
    url = f"http://127.0.0.1:{served.port}{receiver.path}"
    httpx.post(url + "x", content=b"{}")
    httpx.post(url, content=b"{}" * 10)
    httpx.post(url, content=iter([b"{}" * 10]))
    receiver.tape.fault = LogUnavailable("disk I/O error")
    httpx.post(url, content=b"{}")
    connection = served.connect()
    connection.sendall(b"garbage\r\n\r\n")
    assert connection.recv(65_536)

    told = samples(served)

    assert told["simtrail_refused_total", "no_such_webhook"] == 1
    assert told["simtrail_refused_total", "body_too_large"] == 2
    assert told["simtrail_refused_total", "log_unavailable"] == 1
    assert told["simtrail_refused_total", "malformed"] == 1
    assert told["simtrail_deliveries_total", "refused", "main"] == 3
    assert told["simtrail_deliveries_total", "refused", ""] == 2
    assert told["simtrail_failed_commits_total",] == 1
    assert told["simtrail_writer_running",] == 0
    assert ("simtrail_deliveries_total", "recorded", "main") not in told


def test_senders_without_a_place_or_patience_are_counted(
    start: Callable[..., Receiver], run: Callable[..., Served]
) -> None:
    """One that comes when as many are held as may be; one that goes away in the middle of its body."""
    receiver = start(Limits(held_deliveries=1))
    served = run(receiver.app)
    url = f"http://127.0.0.1:{served.port}{receiver.path}"
    connection = served.connect()
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
    connection.sendall(head % receiver.path.encode())
    assert connection.recv(65_536).startswith(b"HTTP/1.1 100")
    assert httpx.post(url, content=b"{}").status_code == 503
    connection.sendall(b"{")
    connection.close()
    while ("simtrail_refused_total", "gone") not in (told := samples(served)):
        pass

    assert told["simtrail_refused_total", "too_many_waiting"] == 1
    assert told["simtrail_refused_total", "gone"] == 1
    assert told["simtrail_deliveries_total", "refused", "main"] == 2
    assert told["simtrail_held_deliveries",] == told["simtrail_held_bytes",] == 0
    assert httpx.post(url, content=b"{}").status_code == 200


def test_what_waits_is_shown(receiver: Receiver, run: Callable[..., Served]) -> None:
    """While the log is held up, the deliveries in memory and their bytes."""
    served = run(receiver.app)
    receiver.tape.open.clear()
    connection = served.connect()
    connection.sendall(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}" % receiver.path.encode())
    while not receiver.tape.sizes:
        pass

    told = samples(served)
    receiver.tape.open.set()

    assert (told["simtrail_held_deliveries",], told["simtrail_held_bytes",]) == (1, 2)


@pytest.mark.parametrize("known", [True, False])
def test_the_projection_is_shown_where_it_is_known(
    receiver: Receiver,
    run: Callable[..., Served],
    clock: Clock,
    known: bool,  # noqa: FBT001
) -> None:
    """Position and lag; where they can't be found out, everything else is shown all the same."""

    def lag() -> Lag:
        if not known:
            msg = "no read model"
            raise ReadModelError(msg)
        return Lag(7, 3, 1.5)

    app: ASGIApp = create_app(receiver.sources, receiver.writer, clock=clock, not_json=not_json, lag=lag)

    told = samples(run(app))

    names = [f"simtrail_{name}" for name in ("projected_position", "projection_lag_events", "projection_lag_seconds")]
    assert [told.get((name,)) for name in names] == ([7, 3, 1.5] if known else [None] * 3)
    assert told["simtrail_writer_running",] == 1
