"""A request with a traceparent has a span of its own, whatever becomes of it; one without has none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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


@pytest.mark.parametrize("headers", [[], [("traceparent", "nonsense")]])
def test_without_a_valid_traceparent_there_is_no_span(
    traced: Api, tracing: RecordedTracing, headers: list[tuple[str, str]]
) -> None:
    assert traced.post("echo", b"hello", headers=headers).status == 200
    assert tracing.requests == []
