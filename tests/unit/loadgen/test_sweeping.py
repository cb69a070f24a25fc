"""The search for the highest rate within a target, on a service of a known capacity."""

from __future__ import annotations

import msgspec
import pytest

from loadgen.budgets import GateSettings
from loadgen.results.ledger import TIMEOUT
from loadgen.results.sweepfile import Point
from loadgen.sweeping import LatencyTarget, next_rate, point_of
from tests.unit.loadgen.runs import good_run, make_ledger, make_run

TARGET = LatencyTarget(mean_ms=None, p95_ms=500.0)
RULES = GateSettings()


def tried(rate: float, capacity: float) -> Point:
    return msgspec.structs.replace(point_of(good_run(), 50.0, TARGET, RULES), rate_per_s=rate, within=rate <= capacity)


@pytest.mark.parametrize("capacity", [0.7, 4.9, 5.0, 33.0, 800.0, 70_000.0])
def test_the_search_ends_just_below_the_capacity(capacity: float) -> None:
    points: list[Point] = []
    while (rate := next_rate(points, 5.0)) is not None:
        points.append(tried(rate, capacity))
    best = max(point.rate_per_s for point in points if point.within)
    assert capacity / 1.05 <= best <= capacity
    assert len(points) <= 24


def test_the_search_gives_up_on_a_service_that_never_is_within() -> None:
    points: list[Point] = []
    while (rate := next_rate(points, 5.0)) is not None:
        points.append(tried(rate, 0.0))
    assert 3 <= len(points) <= 24


def test_what_a_point_says_of_its_run() -> None:
    point = point_of(good_run(), 50.0, TARGET, RULES)
    assert (point.fit, point.within, point.scheduled, point.failed) == (True, True, 1000, 0)
    failing = point_of(make_run(make_ledger([10.0] * 100, TIMEOUT, failures=1)), 50.0, TARGET, RULES)
    assert (failing.fit, failing.failed) == (False, 1)
    assert not point_of(make_run(make_ledger([10.0] * 100, TIMEOUT, failures=10)), 50.0, TARGET, RULES).within
    assert not point_of(good_run(), 60.0, TARGET, RULES).fit  # the rate was not reached
    assert point_of(good_run(), 50.0, LatencyTarget(None, None), RULES).within is None
    assert not point_of(good_run(), 50.0, LatencyTarget(mean_ms=99.0, p95_ms=None), RULES).within


@pytest.mark.parametrize(
    ("share", "lag_ms", "fit"),
    [
        (0.8, 100.0, True),
        (0.0, 0.0, True),
        (0.81, 0.0, False),
        (0.1, 101.0, False),
        (None, 0.0, False),
        (0.1, None, False),
    ],
)
def test_a_rate_at_which_the_generator_was_the_limit_is_not_the_services(
    share: float | None, lag_ms: float | None, fit: bool
) -> None:
    run = good_run()
    lag = msgspec.structs.replace(run.validity.pacing_lag, p99_ms=lag_ms)
    validity = msgspec.structs.replace(run.validity, generator_cpu_share=share, pacing_lag=lag)
    point = point_of(msgspec.structs.replace(run, validity=validity), 50.0, TARGET, RULES)
    assert (point.fit, point.within) == (fit, True)
    assert next_rate([point], 5.0) == (100.0 if fit else 25.0)  # the search goes back from a point that is none
