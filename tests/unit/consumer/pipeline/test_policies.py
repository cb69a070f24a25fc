"""The batching policies on a virtual clock, with the real batcher and cost model: whole days of them."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.batching.batcher import CloseReason
from tests import simulation as sim
from tests.helpers import first

WINDOWS = tuple(sim.Policy(window_ms) for window_ms in (0.0, 1.0, 5.0, 20.0))
LOADS = (0.1, 0.3, 0.5, 0.7, 0.9, 0.95)
SHORT, LONG = 2000, 6000
SEEDS = (1, 2, 3)


@cache
def figures(device: sim.Device, policy: sim.Policy, load: float, consumers: int, requests: int) -> tuple[float, float]:
    """Mean and p99 in seconds: each the middle one of several days."""
    days = [sim.open_day(device, policy, load, requests, consumers=consumers, seed=seed) for seed in SEEDS]
    means = sorted(day.mean_s for day in days)
    tails = sorted(day.quantile_s(0.99) for day in days)
    return means[len(SEEDS) // 2], tails[len(SEEDS) // 2]


@pytest.mark.parametrize("requests", [SHORT, pytest.param(LONG, marks=pytest.mark.soak)])
@pytest.mark.parametrize("consumers", [1, 2])
@pytest.mark.parametrize("load", first(3, sorted(LOADS, key=(0.95, 0.3, 0.7, *LOADS).index)))
@pytest.mark.parametrize("device", sim.DEVICES, ids=lambda device: device.name)
def test_adaptive_is_as_good_as_the_best_window(device: sim.Device, load: float, consumers: int, requests: int) -> None:
    mean_s, p99_s = figures(device, sim.ADAPTIVE, load, consumers, requests)
    best_p99_s = min(figures(device, window, load, consumers, requests)[1] for window in WINDOWS)
    best_mean_s = min(figures(device, window, load, consumers, requests)[0] for window in WINDOWS)
    assert p99_s <= 1.1 * best_p99_s
    assert mean_s <= 1.05 * best_mean_s
    if load <= 0.1:  # where a fixed window only delays
        assert mean_s < figures(device, WINDOWS[2], load, consumers, requests)[0]


@pytest.mark.parametrize("travel_ms", [0.5, 1.0])
@pytest.mark.parametrize("clients", [4, 16, 32])
def test_adaptive_brings_returning_clients_together(clients: int, travel_ms: float) -> None:
    """A device that never waits splits them into two groups that take turns, and does half the work."""
    greedy = sim.closed_day(sim.GPU, WINDOWS[0], clients, travel_ms / 1000, 4.0)
    adaptive = sim.closed_day(sim.GPU, sim.ADAPTIVE, clients, travel_ms / 1000, 4.0)
    assert adaptive.rate_per_s > 1.3 * greedy.rate_per_s
    assert adaptive.mean_s < 0.8 * greedy.mean_s


@pytest.mark.parametrize("device", [sim.CPU, sim.ECHO], ids=lambda device: device.name)
@pytest.mark.parametrize("clients", [4, 32])
def test_adaptive_never_waits_where_rows_are_what_costs(device: sim.Device, clients: int) -> None:
    greedy = sim.closed_day(device, WINDOWS[0], clients, device.run_s(1) / 4, 1000 * device.run_s(1))
    adaptive = sim.closed_day(device, sim.ADAPTIVE, clients, device.run_s(1) / 4, 1000 * device.run_s(1))
    assert adaptive.rate_per_s >= 0.99 * greedy.rate_per_s
    assert adaptive.quantile_s(0.99) <= 1.05 * greedy.quantile_s(0.99)


@pytest.mark.parametrize("size", [4, 16, 32])
def test_adaptive_waits_for_the_rest_of_a_burst(size: int) -> None:
    greedy = sim.burst_day(sim.GPU, WINDOWS[0], size, 0.1, 300)
    adaptive = sim.burst_day(sim.GPU, sim.ADAPTIVE, size, 0.1, 300)
    assert adaptive.mean_s < 0.85 * greedy.mean_s
    assert adaptive.quantile_s(0.99) < 1.05 * greedy.quantile_s(0.99)


devices = st.builds(
    sim.Device,
    st.just("any"),
    st.floats(1e-6, 0.01),
    st.floats(1e-6, 0.05),
    st.integers(1, 32),
    noise=st.floats(0.0, 0.3),
    stalls=st.floats(0.0, 0.1),
)
policies = st.builds(sim.Policy, st.sampled_from((0.0, 0.5, 5.0, 50.0)), st.booleans())


@settings(max_examples=150, deadline=None)
@given(devices, policies, st.floats(0.05, 3.0), st.integers(1, 4), st.integers(0, 1000), st.booleans())
def test_whatever_comes_nothing_is_lost_or_late_or_out_of_order(
    device: sim.Device, policy: sim.Policy, load: float, consumers: int, seed: int, hasty: bool
) -> None:
    rate_per_s = load * device.capacity_per_s * consumers
    ttl_s = 3 * device.run_s(device.max_rows) if hasty else 1e9
    jobs = list(sim.poisson(rate_per_s, 300, seed, ttl_s))
    day = sim.Simulation(device, policy, consumers=consumers, seed=seed).run(jobs)
    started = [name for one in day.started for name, _ in one]
    expired = [name for name, _ in day.expired]
    assert sorted(started + expired) == list(range(300))
    for one in day.started:
        assert all(earlier < later for (earlier, _), (later, _) in pairwise(one))
        assert all(start_s < jobs[name].deadline_s for name, start_s in one)
    assert all(found_s >= jobs[name].deadline_s for name, found_s in day.expired)
    assert day.largest <= device.max_rows


@settings(max_examples=60, deadline=None)
@given(devices, st.sampled_from((0.0, 0.5, 5.0, 50.0)), st.integers(0, 1000))
def test_an_idle_device_holds_nobody_back_longer_than_the_window_or_half_the_fixed_cost(
    device: sim.Device, window_ms: float, seed: int
) -> None:
    waits_s: list[float] = []

    class Watched(sim.Simulation):
        def _start(self, consumer: sim.Consumer, jobs: list[sim.Job], now_s: float) -> None:
            ready_s = max(consumer.free_s, min(job.arrived_s for job in jobs))
            waits_s.append(now_s - ready_s - min(window_ms / 1000, consumer.cost.fixed_s / 2 * 1.5))
            super()._start(consumer, jobs, now_s)

    policy = sim.Policy(window_ms, adaptive=True)
    Watched(device, policy, seed=seed).run(sim.poisson(0.3 * device.capacity_per_s, 200, seed))
    assert max(waits_s) <= 1e-9


def test_deadlines_cut_a_wait_short() -> None:
    """A burst worth waiting for, whose first request has no time for that."""
    ttl_s = sim.GPU.run_s(8) + 0.0004
    day = sim.burst_day(sim.GPU, sim.ADAPTIVE, 8, 0.05, 100, ttl_s=ttl_s)
    assert day.reasons[CloseReason.DEADLINE] > 0
    assert [name for name, _ in day.expired if name % 8 == 0] == []


def test_a_day_can_be_replayed() -> None:
    assert sim.open_day(sim.GPU, sim.ADAPTIVE, 0.5, 500) == sim.open_day(sim.GPU, sim.ADAPTIVE, 0.5, 500)
