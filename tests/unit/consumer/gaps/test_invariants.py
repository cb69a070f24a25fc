"""What holds on any day, on a virtual clock with the real batcher, backlog and cost model."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.batching.load import Load
from tests.perf.gaps.simulation import BULK_NAMES, Shared, Shift, Task, ordinary, sent_at, shared_day
from tests.simulation import ADAPTIVE, CPU, GPU, Device, Policy

AT_ONCE = Policy(0.0)
devices = st.sampled_from([replace(CPU, max_rows=8), replace(GPU, max_rows=8), replace(CPU, noise=0.3)])
moments = st.lists(st.floats(0.0, 0.6), max_size=40).map(sorted)


@st.composite
def bulks(draw: st.DrawFn, *, has_urgent: bool) -> list[Task]:
    found = []
    for number, sent_s in enumerate(draw(moments)):
        size = draw(st.sampled_from([1, 1, 1, 3, 12]))
        ttl_s = draw(st.sampled_from([1e9, 0.3])) if has_urgent else 1e9
        is_urgent = has_urgent and draw(st.booleans())
        load = Load(size, size, 1)
        found.append(Task(BULK_NAMES + number, sent_s, sent_s + ttl_s, load=load, is_urgent=is_urgent, is_later=True))
    return found


def overtaken(shift: Shift, name: int) -> tuple[int, int]:
    """How many batches of the batch lane, and of others, began on its device between being ready and its own."""
    own = next(run for run in shift.runs if name in run.ordinary)
    between = [
        run for run in shift.runs if run.consumer == own.consumer and shift.ready_s[name] < run.begun_s < own.begun_s
    ]
    later = sum(run.is_of_batch_lane for run in between)
    return later, len(between) - later


def check_all_ran_once(shift: Shift, names: set[int]) -> None:
    ran = Counter(name for run in shift.runs for name in (*run.ordinary, *run.later))
    assert set(ran.values()) <= {1}
    assert set(ran) | set(shift.expired) == names
    assert not set(ran) & set(shift.expired)


@settings(max_examples=60, deadline=None)
@given(devices, moments, bulks(has_urgent=False), st.integers(1, 3))
def test_nothing_is_lost_and_no_ordinary_request_is_overtaken(
    device: Device, times_s: list[float], bulk: list[Task], consumers: int
) -> None:
    shift = Shared(device, sent_at(times_s), bulk, policy=AT_ONCE, consumers=consumers).run()
    check_all_ran_once(shift, {*range(len(times_s)), *(task.name for task in bulk)})
    # Ready while a batch of the batch lane runs it waits for that one, and none begins before it.
    assert all(overtaken(shift, name)[0] == 0 for name in range(len(times_s)))
    assert shift.idle_in_vain == 0


@settings(max_examples=60, deadline=None)
@given(devices, moments, bulks(has_urgent=True), st.integers(1, 2))
def test_urgent_requests_take_no_more_than_every_other_turn(
    device: Device, times_s: list[float], bulk: list[Task], consumers: int
) -> None:
    shift = Shared(device, sent_at(times_s), bulk, policy=AT_ONCE, consumers=consumers).run()
    check_all_ran_once(shift, {*range(len(times_s)), *(task.name for task in bulk)})
    for name in range(len(times_s)):
        later, others = overtaken(shift, name)
        assert later <= others + 1
    assert shift.idle_in_vain == 0


@pytest.mark.parametrize(("device", "lasts_s"), [(CPU, 60.0), (GPU, 6.0)])
@pytest.mark.parametrize("load", [0.25, 0.5, 0.75])
def test_the_device_is_busy_and_ordinary_requests_wait_a_batch_longer(
    device: Device, lasts_s: float, load: float
) -> None:
    alone = shared_day(device, load, lasts_s, has_bulk=False)
    beside = shared_day(device, load, lasts_s, has_bulk=True)
    own_s = [run.ended_s - run.begun_s for run in beside.runs if run.is_of_batch_lane]
    longest_s = max(own_s, default=device.run_s(device.max_rows))
    assert beside.busy > 0.95
    assert beside.quantile_s(0.99) <= alone.quantile_s(0.99) + longest_s
    assert beside.later_per_s >= 0.9 * device.capacity_per_s * (1 - alone.busy)
    assert len(beside.latencies_s) >= 0.99 * len(alone.latencies_s)


def test_an_urgent_flood_costs_ordinary_requests_one_batch() -> None:
    alone = shared_day(CPU, 0.5, 60.0, has_bulk=False)
    bulk = (Task(BULK_NAMES + number, 0.0, is_urgent=True, is_later=True) for number in range(100_000))
    shared = Shared(CPU, ordinary(0.5 * CPU.capacity_per_s, 60.0), bulk, policy=ADAPTIVE, lasts_s=60.0)
    flooded = shared.run()
    longest_s = max(run.ended_s - run.begun_s for run in flooded.runs if run.is_of_batch_lane)
    assert math.isfinite(longest_s)
    assert flooded.quantile_s(0.99) <= alone.quantile_s(0.99) + longest_s
    assert flooded.busy > 0.95
