"""Spans as OpenTelemetry records them: whose children they are, and what a batch links to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="the packages of the dependency group 'tracing' are not installed")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared.tracing.otlp import Otel, context_of
from shared.tracing.spans import TracedBatch, TracedRequest
from shared.wire.messages import Timing
from shared.wire.outcomes import INVALID_INPUT, MODEL_ERROR, OK, Outcome
from shared.wire.trace_context import parts

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, NOT_SAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"
ROUTE = "/v1/models/{model}/predict"


class Bench:
    """Tracing whose spans stay here."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.otel = Otel(provider)

    def spans(self) -> list[Any]:
        return list(self._exporter.get_finished_spans())


@pytest.fixture
def bench() -> Bench:
    return Bench()


def batch(*traceparents: str) -> TracedBatch:
    requests = [TracedRequest(f"r-{n}", one, "ok", 0.001, 0.002) for n, one in enumerate(traceparents)]
    return TracedBatch("echo", "fp32", 0.5, 8, "full", 0.25, 0.05, 0.01, requests)


def test_a_request_becomes_a_child_and_the_message_carries_it(bench: Bench) -> None:
    span = bench.otel.request(SAMPLED, ROUTE, "echo")
    found = parts(span.traceparent)
    assert found is not None
    trace, own, flags = found
    assert (trace, flags) == (TRACE, 1)
    assert own != SPAN
    span.answered(Timing(queue=1, wait=2, decode=3, run=4, batch=5))
    span.end("r-1", OK)
    [ended] = bench.spans()
    assert (ended.name, ended.kind.name) == (f"POST {ROUTE}", "SERVER")
    assert f"{ended.parent.span_id:016x}" == SPAN
    assert f"{ended.context.span_id:016x}" == own
    assert ended.attributes["headrace.request_id"] == "r-1"
    assert ended.attributes["headrace.inference_us"] == 4
    assert ended.attributes["http.response.status_code"] == 200


@pytest.mark.parametrize(("outcome", "status"), [(OK, "UNSET"), (INVALID_INPUT, "UNSET"), (MODEL_ERROR, "ERROR")])
def test_only_a_failure_of_the_service_is_an_error(bench: Bench, outcome: Outcome, status: str) -> None:
    bench.otel.request(SAMPLED, ROUTE, "echo").end("r", outcome)
    [ended] = bench.spans()
    assert ended.status.status_code.name == status


def test_what_the_caller_does_not_sample_is_not_recorded_and_stays_so(bench: Bench) -> None:
    span = bench.otel.request(NOT_SAMPLED, ROUTE, "echo")
    found = parts(span.traceparent)
    assert found is not None
    assert (found[0], found[2]) == (TRACE, 0)
    span.answered(Timing())
    span.end("r", OK)
    assert bench.spans() == []


def test_a_batch_is_one_span_with_a_link_for_each_sampled_request(bench: Bench) -> None:
    other = f"00-{'a' * 32}-{'b' * 16}-01"
    bench.otel.batch(batch(SAMPLED, NOT_SAMPLED, "not a traceparent", other))
    [ended] = bench.spans()
    assert (ended.name, ended.kind.name, ended.parent) == ("process echo", "CONSUMER", None)
    assert [f"{link.context.trace_id:032x}" for link in ended.links] == [TRACE, "a" * 32]
    assert [link.attributes["headrace.request_id"] for link in ended.links] == ["r-0", "r-3"]
    assert ended.attributes["headrace.batch_rows"] == 8
    assert ended.attributes["headrace.inference_us"] == 250_000
    assert ended.end_time - ended.start_time == 500_000_000


def test_a_batch_that_nobody_samples_is_no_span(bench: Bench) -> None:
    bench.otel.batch(batch(NOT_SAMPLED, ""))
    assert bench.spans() == []


def test_a_context_is_that_of_the_traceparent() -> None:
    context = context_of(SAMPLED)
    assert context is not None
    assert (f"{context.trace_id:032x}", f"{context.span_id:016x}") == (TRACE, SPAN)
    assert (context.is_remote, context.trace_flags.sampled) == (True, True)
    assert context_of("no") is None


def test_the_first_token_is_an_event_of_both_spans(bench: Bench) -> None:
    span = bench.otel.request(SAMPLED, ROUTE, "m")
    span.first_token()
    span.end("r-1", OK)
    bench.otel.batch(replace(batch(SAMPLED), first_token_s=0.1))
    bench.otel.batch(batch(SAMPLED))
    request, generation, other = bench.spans()
    assert [event.name for event in request.events] == ["headrace.first_token"]
    [event] = generation.events
    assert event.name == "headrace.first_token"
    assert abs(event.timestamp - generation.start_time - 100_000_000) < 1000
    assert other.events == ()
