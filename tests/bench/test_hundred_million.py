"""The simulated queue of `bench/hundred_million.py`: what is known of it beforehand is what it gives."""

from __future__ import annotations

import random
import statistics

import pytest

from bench.hundred_million import LOADS, Times, poisson, simulate
from ingest.limits import GROUP_DELIVERIES

TIMES = Times(group_s=0.001, event_s=0.00001, receiver_s=0.0, server_s=0.0, fold_s=0.0, log_bytes=0.0, model_bytes=0.0)


@pytest.mark.parametrize("mean", [0.0, 0.3, 7.0, 400.0])
def test_arrivals_have_the_mean_and_the_variance_of_a_poisson_process(mean: float) -> None:
    """Both are the mean, in either way of drawing them."""
    chance = random.Random(1)  # noqa: S311 - a simulation
    drawn = [poisson(chance, mean) for _ in range(20_000)]
    assert statistics.mean(drawn) == pytest.approx(mean, rel=0.05, abs=0.01)
    assert statistics.pvariance(drawn) == pytest.approx(mean, rel=0.05, abs=0.02)
    assert min(drawn) >= 0


def test_an_idle_log_takes_each_delivery_as_it_comes() -> None:
    """One in a group, answered after one commit."""
    minute = simulate(1.0, 4, TIMES, 1_000)
    assert minute.group == pytest.approx(1, abs=0.05)
    assert minute.p50_ms == pytest.approx(1.01, abs=0.01)
    assert minute.held == pytest.approx(0.001, rel=0.2)


def test_a_busy_log_makes_groups_as_large_as_a_turn_is_long() -> None:
    """So many as come while all others have theirs: the fixed cost is shared, and the load is carried."""
    rate, receivers = 20_000, 2
    minute = simulate(rate, receivers, TIMES, 20)
    # A turn of all takes t = receivers * (g + e * rate * t / receivers), hence the group.
    turn_s = receivers * TIMES.group_s / (1 - TIMES.event_s * rate)
    assert minute.group == pytest.approx(rate / receivers * turn_s, rel=0.1)
    assert minute.held > 0.99
    assert minute.p99_ms < 3_000 * turn_s


def test_more_than_the_log_takes_makes_a_queue_without_an_end() -> None:
    """Groups are as large as they may be, and waits as long as the simulation."""
    minute = simulate(150_000, 2, TIMES, 5)
    assert minute.group > 0.9 * GROUP_DELIVERIES
    assert minute.p99_ms > 1_000


def test_the_loads_speak_of_a_hundred_million_cards() -> None:
    """The third is every card within one hour."""
    assert LOADS[2].mean_rate * LOADS[2].peak == pytest.approx(100_000_000 / 3_600)
