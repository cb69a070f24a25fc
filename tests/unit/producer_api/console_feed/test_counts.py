"""Counted requests: differences, sums, quantiles and what came in time."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from statistics import quantiles

import pytest

from producer_api.console.feed.caches import CacheCounts, CacheWindow
from producer_api.console.feed.counts import Counts, added, goodput, grown, quantiles_ms, share_within, taken
from producer_api.console.feed.window import Window
from shared.metrics.histograms import LATENCY_BUCKETS_S, Series
from shared.metrics.waits import WAIT_BOUNDS_S


def test_every_edge_that_is_exported_is_one_of_the_finer_ones() -> None:
    assert set(LATENCY_BUCKETS_S) <= set(WAIT_BOUNDS_S)
    assert list(WAIT_BOUNDS_S) == sorted(set(WAIT_BOUNDS_S))
    assert all(high / low < 1.45 for low, high in pairwise(WAIT_BOUNDS_S))


def test_outcomes_are_answers_errors_or_neither() -> None:
    outcomes = {
        ("m", "ok", "a"): 5,
        ("m", "model_error", "a"): 2,
        ("m", "lane_full", "a"): 1,
        ("m", "malformed", "a"): 4,
    }
    found = taken(outcomes.items(), {("m", "a"): [0, 3, 0, 4]})
    assert found == {("m", "a"): Counts(ended=12, ok=5, errors=3, waits={1: 3, 3: 4})}


def test_what_has_not_grown_is_left_out() -> None:
    old = taken({("m", "ok", "a"): 5, ("m", "ok", "b"): 1}.items(), {("m", "a"): [5], ("m", "b"): [1]})
    new = taken({("m", "ok", "a"): 7, ("m", "ok", "b"): 1}.items(), {("m", "a"): [7], ("m", "b"): [1]})
    assert grown(new, old, None) == {("m", "a"): Counts(ended=2, ok=2, good=2, waits={0: 2})}


def test_good_are_answers_within_the_objective() -> None:
    series = Series(WAIT_BOUNDS_S)
    series.observe_many(0.004, 30)
    series.observe_many(0.2, 10)
    new = taken(
        {("m", "ok", "a"): 40, ("m", "expired", "a"): 10, ("m", "malformed", "a"): 7}.items(),
        {("m", "a"): series.counts},
    )
    [one] = grown(new, {}, 0.05).values()
    assert one.good == pytest.approx(30)
    assert goodput(one) == pytest.approx(0.6)
    assert goodput(Counts(ended=7)) is None


def test_quantiles_come_within_a_bucket_of_those_of_the_values() -> None:
    random, series = Random(7), Series(WAIT_BOUNDS_S)
    values = [random.lognormvariate(-4, 1) for _ in range(5000)]
    for value in values:
        series.observe(value)
    cuts = quantiles(values, n=100)
    waits = dict(enumerate(series.counts))
    for share, exact_s in ((0.5, cuts[49]), (0.95, cuts[94]), (0.99, cuts[98])):
        [found_ms] = quantiles_ms(waits, (share,))
        assert found_ms == pytest.approx(1000 * exact_s, rel=0.27)


def test_quantiles_of_nothing_and_of_what_lies_beyond_the_last_edge() -> None:
    assert quantiles_ms({}, (0.5, 0.9)) == [None, None]
    assert quantiles_ms({len(WAIT_BOUNDS_S): 3}, (0.5, 0.99)) == [600_000, 600_000]
    assert quantiles_ms({0: 2}, (0.5, 1.0)) == [0.0625, 0.125]


def test_the_share_within_a_limit_is_interpolated() -> None:
    assert share_within({}, 1.0) == 1.0
    assert share_within({0: 1, len(WAIT_BOUNDS_S): 1}, 1.0) == 0.5
    low, high = WAIT_BOUNDS_S[10], WAIT_BOUNDS_S[11]
    assert share_within({11: 4}, (low + high) / 2) == pytest.approx(0.5)


def test_sums() -> None:
    total = added([Counts(3, 2, 1, 2, {0: 1, 4: 1}), Counts(1, 1, 0, 1, {4: 1})])
    assert total == Counts(4, 3, 1, 3, {0: 1, 4: 2})
    assert not added([])


def test_a_window_spans_about_ten_seconds_however_often_it_is_fed() -> None:
    window = Window(None)
    assert window.lately() == (0.0, {})
    for second in range(0, 101, 2):
        window.note(second, {("m", "a"): Counts(ended=10 * second)})
    span_s, counts = window.lately()
    assert span_s == 10
    assert counts["m", "a"].ended == 100
    sparse = Window(None)
    for second in (0, 10, 20, 21):
        sparse.note(second, {("m", "a"): Counts(ended=second)})
    assert sparse.lately()[0] == 11


def test_caches_tell_what_they_did_lately() -> None:
    window = CacheWindow()
    assert window.lately() == {}
    for second in range(0, 31, 2):
        window.note(second, {"m": CacheCounts(3 * second, second, 7, 100, 1000)})
    [(name, one)] = window.lately().items()
    assert (name, one.hit_ratio, one.hits_rate, one.entries, one.bytes, one.bytes_limit) == (
        "m",
        0.75,
        3.0,
        7,
        100,
        1000,
    )
    window.note(60, {"m": CacheCounts(90, 30, 7, 100, 1000)})
    window.note(80, {"m": CacheCounts(90, 30, 7, 100, 1000), "new": CacheCounts(1, 0, 1, 1, 9)})
    assert window.lately()["m"].hit_ratio is None
    assert window.lately()["new"].hit_ratio == 1.0
