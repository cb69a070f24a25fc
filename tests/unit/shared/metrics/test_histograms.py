"""The cheap histogram says what prometheus_client's own says."""

from __future__ import annotations

from collections.abc import Sequence

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as text_string_to_openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from shared.metrics.histograms import BATCH_SIZE_BUCKETS, LATENCY_BUCKETS_S, PAYLOAD_BUCKETS_BYTES, Histogram

LADDERS = {"latency": LATENCY_BUCKETS_S, "sizes": BATCH_SIZE_BUCKETS, "payload": PAYLOAD_BUCKETS_BYTES}
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(registry: CollectorRegistry) -> Samples:
    """Every sample but the time of creation."""
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in families
        for one in family.samples
        if not one.name.endswith("_created")
    }


def both(bounds: Sequence[float], observed: dict[str, list[float]]) -> tuple[Samples, Samples]:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    cheap = Histogram("x_seconds", "Help.", bounds, ours, ("model",))
    reference = prometheus_client.Histogram("x_seconds", "Help.", ("model",), registry=theirs, buckets=bounds)
    for model, values in observed.items():
        children = cheap.labels(model), reference.labels(model)
        for value in values:
            for child in children:
                child.observe(value)
    return samples(ours), samples(theirs)


@pytest.mark.parametrize("bounds", LADDERS.values(), ids=LADDERS.keys())
def test_values_on_between_and_beyond_the_edges_count_alike(bounds: Sequence[float]) -> None:
    values = [0.0, *bounds, *(edge * 1.5 for edge in bounds), *(edge * 0.999 for edge in bounds), 1e12]
    ours, theirs = both(bounds, {"a": values, "b": values[:3], "empty": []})
    assert ours == pytest.approx(theirs)


@given(st.dictionaries(st.text("abc", min_size=1, max_size=2), st.lists(st.floats(0, 100), max_size=20), max_size=3))
def test_any_observations_count_alike(observed: dict[str, list[float]]) -> None:
    ours, theirs = both(LATENCY_BUCKETS_S, observed)
    assert ours == pytest.approx(theirs)


def test_a_negative_duration_counts_as_none() -> None:
    registry = CollectorRegistry()
    series = Histogram("x", "Help.", (1.0, 2.0), registry).labels()
    series.observe(-5.0)
    assert series.counts == [1, 0, 0]
    assert series.total == 0.0


def exemplars(registry: CollectorRegistry) -> dict[str, tuple[str, float, float | None]]:
    """Trace, value and time by bucket, as an OpenMetrics scrape shows them."""
    found = {}
    text = openmetrics.generate_latest(registry).decode()  # type: ignore[no-untyped-call]
    for family in text_string_to_openmetrics_families(text):  # type: ignore[no-untyped-call]
        for sample in family.samples:
            if sample.exemplar is not None:
                one = sample.exemplar
                found[sample.labels["le"]] = (one.labels["trace_id"], one.value, one.timestamp and float(one.timestamp))
    return found


def test_a_bucket_shows_the_latest_traced_value_in_it() -> None:
    registry = CollectorRegistry()
    series = Histogram("x_seconds", "Help.", (1.0, 2.0), registry).labels()
    for value, trace, at_s in ((0.5, "a", 1.0), (0.7, "b", 2.5), (-1.0, "c", 3.0), (2.0, "d", 4.0), (9.0, "e", 5.0)):
        series.observe_traced(value, trace, at_s)
        series.observe(value)
    assert exemplars(registry) == {"1.0": ("c", 0.0, 3.0), "2.0": ("d", 2.0, 4.0), "+Inf": ("e", 9.0, 5.0)}
    assert series.counts == [6, 2, 2]


@given(st.lists(st.tuples(st.floats(-1, 100), st.booleans()), max_size=30))
def test_traced_values_count_like_others(values: list[tuple[float, bool]]) -> None:
    plain, mixed = CollectorRegistry(), CollectorRegistry()
    for registry in (plain, mixed):
        series = Histogram("x_seconds", "Help.", LATENCY_BUCKETS_S, registry).labels()
        for value, traced in values:
            if traced and registry is mixed:
                series.observe_traced(value, "a" * 32, 1.0)
            else:
                series.observe(value)
    assert samples(mixed) == samples(plain)
    assert bool(exemplars(mixed)) == any(traced for _, traced in values)
    assert exemplars(plain) == {}


def test_the_same_labels_give_the_same_series() -> None:
    histogram = Histogram("x", "Help.", (1.0,), CollectorRegistry(), ("a", "b"))
    assert histogram.labels("1", "2") is histogram.labels("1", "2")
    assert histogram.labels("1", "2") is not histogram.labels("2", "1")


def test_a_wrong_number_of_labels_is_refused() -> None:
    histogram = Histogram("x", "Help.", (1.0,), CollectorRegistry(), ("a",))
    for values in ((), ("1", "2")):
        with pytest.raises(ValueError, match="x takes 1 labels"):
            histogram.labels(*values)


@pytest.mark.parametrize("bounds", LADDERS.values(), ids=LADDERS.keys())
def test_ladders_ascend(bounds: Sequence[float]) -> None:
    assert list(bounds) == sorted(set(bounds))
    assert bounds[0] > 0
