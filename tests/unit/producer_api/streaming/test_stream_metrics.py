"""What is recorded of an answer that is sent as it is made."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from producer_api.stream_metrics import StreamMetrics
from tests.fakes import RecordedSpan

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def value(registry: CollectorRegistry, name: str, model: str = "m") -> float | None:
    return registry.get_sample_value(f"headrace_stream_{name}", {"model": model})


def test_the_first_part_is_timed_from_the_request_and_each_other_from_the_one_before() -> None:
    registry = CollectorRegistry()
    meter = StreamMetrics(registry).begin("m", 10.0)
    assert not meter.has_begun
    meter.wrote(10.5)
    assert meter.has_begun
    meter.wrote(10.53)
    meter.wrote(10.6)
    assert value(registry, "time_to_first_token_seconds_sum") == pytest.approx(0.5)
    assert value(registry, "inter_frame_seconds_count") == 2
    assert value(registry, "inter_frame_seconds_sum") == pytest.approx(0.1)


def test_the_first_part_is_an_event_of_the_span_and_an_exemplar() -> None:
    registry = CollectorRegistry()
    metrics, span = StreamMetrics(registry), RecordedSpan(TRACEPARENT)
    meter = metrics.begin("m", 10.0, TRACEPARENT, span)
    meter.wrote(10.5)
    meter.wrote(10.6)
    assert span.first_tokens == 1
    exemplars = [
        sample.exemplar.labels
        for family in registry.collect()
        for sample in family.samples
        if sample.exemplar is not None
    ]
    assert exemplars == [{"trace_id": TRACE}]


def test_one_who_goes_on_has_had_the_beginning() -> None:
    registry = CollectorRegistry()
    span = RecordedSpan(TRACEPARENT)
    meter = StreamMetrics(registry).begin("m", 10.0, TRACEPARENT, span)
    meter.goes_on(10.1)
    meter.wrote(10.4)
    assert value(registry, "time_to_first_token_seconds_count") == span.first_tokens == 0
    assert value(registry, "inter_frame_seconds_sum") == pytest.approx(0.3)
