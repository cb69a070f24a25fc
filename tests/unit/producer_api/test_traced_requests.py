"""A request with a traceparent has a span of its own, whatever becomes of it; one without has none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.fakes import RecordedTracing
from tests.unit.producer_api.asgi import Api

PARENT = f"00-{'a' * 32}-{'b' * 16}-01"
HEADERS = [("traceparent", PARENT)]


@pytest.fixture
def tracing() -> RecordedTracing:
    return RecordedTracing()


@pytest.fixture
def traced(tracing: RecordedTracing) -> Iterator[Api]:
    with Api(tracing=tracing) as started:
        yield started


def test_the_message_carries_the_span_and_the_span_the_answer(traced: Api, tracing: RecordedTracing) -> None:
    answer = traced.post("echo", b"hello", headers=HEADERS)
    [span] = tracing.requests
    assert span.parent == PARENT
    assert traced.queue.submitted[-1].traceparent == span.traceparent != PARENT
    assert span.ended == (answer.json["id"], "ok")
    assert span.timing is not None


@pytest.mark.parametrize(
    ("model", "body", "status", "code"),
    [("nobody", b"x", 404, "unknown_model"), ("imagenet", b"x", 422, "invalid_input")],
)
def test_a_refusal_ends_the_span_too(
    traced: Api, tracing: RecordedTracing, model: str, body: bytes, status: int, code: str
) -> None:
    answer = traced.post(model, body, headers=HEADERS)
    assert answer.status == status
    [span] = tracing.requests
    assert (span.ended, span.timing) == ((answer.error["id"], code), None)


@pytest.mark.parametrize(("flags", "shown"), [("01", True), ("00", False)])
def test_a_sampled_trace_is_an_exemplar_of_its_latency(flags: str, shown: bool) -> None:
    with Api() as api:
        assert api.post("echo", b"hello").status == 200
        assert api.post("nobody", b"x", headers=[("traceparent", PARENT[:-2] + flags)]).status == 404
        answer = api.get("/metrics", headers=[("Accept", "application/openmetrics-text; version=1.0.0")])
        plain = api.get("/metrics")
    assert answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert answer.headers["vary"] == plain.headers["vary"] == "Accept"
    families = text_string_to_metric_families(answer.body.decode())  # type: ignore[no-untyped-call]
    found = [
        (sample.labels["code"], sample.exemplar.labels)
        for family in families
        for sample in family.samples
        if sample.exemplar is not None
    ]
    assert found == ([("4xx", {"trace_id": "a" * 32})] if shown else [])
    assert b"trace_id" not in plain.body


@pytest.mark.parametrize("headers", [[], [("traceparent", "nonsense")]])
def test_without_a_valid_traceparent_there_is_no_span(
    traced: Api, tracing: RecordedTracing, headers: list[tuple[str, str]]
) -> None:
    assert traced.post("echo", b"hello", headers=headers).status == 200
    assert tracing.requests == []
