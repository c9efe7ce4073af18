"""`/metrics`: the receiver's figures in OpenMetrics' text format, for Prometheus and whatever reads it.

No label holds anything that a sender says: a source's name is one that the operator gave.
"""

from __future__ import annotations

from collections import Counter
from importlib import metadata
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from schema.errors import SimtrailError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.requests import Request

    from ingest.body import Room
    from ingest.counts import Counts, Distribution
    from ingest.readiness import Lag
    from ingest.writer import Writer


VERSION = metadata.version("simtrail")


class Metrics(Collector):
    """Reads the figures when it is asked, so that they cost the deliveries nothing."""

    def __init__(self, counts: Counts, room: Room, writer: Writer, lag: Callable[[], Lag] | None) -> None:
        self._counts = counts
        self._room = room
        self._writer = writer
        self._lag = lag
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    async def answer(self, _request: Request) -> Response:
        """Answer; called by Starlette."""
        content = await run_in_threadpool(generate_latest, self._registry)
        return Response(content, headers={"content-type": CONTENT_TYPE_LATEST, "cache-control": "no-store"})

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus-client."""
        yield InfoMetricFamily("simtrail", "This simtrail.", {"version": VERSION})
        yield from self._deliveries()
        yield _histogram("simtrail_commit_seconds", "How long the commit of a group took.", self._counts.commit_s)
        yield _histogram("simtrail_group_deliveries", "Deliveries that shared one commit.", self._counts.group)
        failed = CounterMetricFamily("simtrail_failed_commits", "Groups whose commit failed.")
        failed.add_metric([], self._counts.failed_commits)
        yield failed
        yield GaugeMetricFamily(
            "simtrail_held_deliveries", "Deliveries read or waiting for their commit.", self._room.deliveries
        )
        yield GaugeMetricFamily("simtrail_held_bytes", "Bytes of their bodies in memory.", self._room.bytes)
        yield GaugeMetricFamily(
            "simtrail_writer_running",
            "1 while the writer runs; 0 once the receiver must be started again.",
            self._writer.failure is None,
        )
        yield from self._projection()

    def _deliveries(self) -> Iterator[Metric]:
        # Copied in one step each: the loop goes on counting.
        recorded, refused = self._counts.recorded.copy(), self._counts.refused.copy()
        deliveries = CounterMetricFamily(
            "simtrail_deliveries",
            "Deliveries by source and outcome; the source is empty where it was not known.",
            labels=["source", "outcome"],
        )
        by_source: Counter[str] = Counter()
        by_cause: Counter[str] = Counter()
        for (source, cause), count in refused.items():
            by_source[source] += count
            by_cause[cause] += count
        for source, count in recorded.items():
            deliveries.add_metric([source, "recorded"], count)
        for source, count in by_source.items():
            deliveries.add_metric([source, "refused"], count)
        yield deliveries
        yield _counter("simtrail_refused", "Requests that were refused.", "cause", by_cause)
        yield _counter("simtrail_recorded_bytes", "Bytes recorded.", "source", self._counts.recorded_bytes.copy())
        yield _counter(
            "simtrail_not_json",
            "Deliveries that were recorded and answered 400, since they are not JSON.",
            "source",
            self._counts.not_json.copy(),
        )

    def _projection(self) -> Iterator[Metric]:
        try:
            lag = self._lag() if self._lag else None
        except SimtrailError:  # It is not there or can't be read: `/readyz` says why.
            lag = None
        if lag is not None:
            yield GaugeMetricFamily(
                "simtrail_projected_position", "The position that the read model stands for.", lag.projected
            )
            yield GaugeMetricFamily(
                "simtrail_projection_lag_events", "Events that the read model has not read.", lag.events
            )
            yield GaugeMetricFamily(
                "simtrail_projection_lag_seconds", "The age of the oldest event that it has not read.", lag.seconds
            )


def _counter(name: str, text: str, label: str, counts: Counter[str]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family


def _histogram(name: str, text: str, distribution: Distribution) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, text)
    ends = [*(str(float(end)) for end in distribution.ends), "+Inf"]
    buckets = list(zip(ends, accumulate(distribution.counts), strict=True))
    family.add_metric([], buckets, distribution.sum)
    return family
