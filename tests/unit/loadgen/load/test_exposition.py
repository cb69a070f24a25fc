"""Reading metrics, against what the real Prometheus client writes."""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from loadgen.load.exposition import REQUESTS, counter_total, histogram_deltas, parse_exposition


def test_counters_and_histograms_of_the_real_client() -> None:
    registry = CollectorRegistry()
    requests = Counter("headrace_requests", "Requests.", ("model", "outcome"), registry=registry)
    sizes = Histogram("headrace_batch_size", "Rows.", ("model",), buckets=(1, 2, 4), registry=registry)
    odd = 'a"b\\c\nd'
    requests.labels("imagenet", "ok").inc(3)
    requests.labels("imagenet", "expired").inc(2)
    requests.labels("echo", "ok").inc(100)
    sizes.labels(odd).observe(2)
    before = parse_exposition(generate_latest(registry).decode())
    requests.labels("imagenet", "ok").inc(10)
    for size in (1, 3, 9):
        sizes.labels(odd).observe(size)
    after = parse_exposition(generate_latest(registry).decode())

    assert counter_total(before, REQUESTS, "imagenet") == 5
    assert counter_total(after, REQUESTS, "imagenet") == 15
    assert counter_total(after, REQUESTS, "other") == 0
    assert counter_total({}, REQUESTS, "imagenet") is None
    (delta,) = histogram_deltas(before, after)
    assert (delta.name, dict(delta.labels)) == ("headrace_batch_size", {"model": odd})
    assert (delta.count, delta.total) == (3, 13)
    assert delta.buckets == ((1, 1), (2, 1), (4, 2), (math.inf, 3))
    assert histogram_deltas(after, after) == []
    assert histogram_deltas(after, before) == []  # a restarted process


def test_what_is_no_sample_is_passed_over() -> None:
    text = '# HELP x y\nx 1\nbroken{ 2\nx{a="1"} NaN\ny +Inf\nz{a="1"} 2.5 1700000000\n<html>\n'
    assert parse_exposition(text) == {("x", ()): 1.0, ("z", (("a", "1"),)): 2.5}


def test_a_bucket_whose_edge_is_no_number_is_passed_over() -> None:
    good = 'x_bucket{le="1"} 1\nx_bucket{le="+Inf"} 2\nx_count 2\nx_sum 3\n'
    odd = "".join(f'x_bucket{{le="{edge}"}} 1\n' for edge in ("", "wide", "nan", "-Inf"))
    (delta,) = histogram_deltas({}, parse_exposition(good + odd))
    assert delta.buckets == ((1, 1), (math.inf, 2))


def test_a_histogram_without_a_largest_bucket_is_none() -> None:
    text = 'summary{quantile="0.5"} 1\nsummary_count 2\nsummary_sum 3\ncut_bucket{le="1"} 1\ncut_count 1\n'
    assert histogram_deltas({}, parse_exposition(text)) == []
