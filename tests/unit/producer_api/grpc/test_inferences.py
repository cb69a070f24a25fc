"""One inference of a call over a queue in memory: what it passes on, what it returns, how it is ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from prometheus_client.registry import CollectorRegistry

from producer_api.grpc.calls import Ended, Inferences, is_ok, text_of, trailing
from producer_api.grpc.schema import message_class
from producer_api.inference.context import AppContext
from producer_api.load.answer_budget import AnswerBudget
from producer_api.load.body_budget import BodyBudget
from producer_api.load.in_flight import InFlight
from producer_api.metrics import ApiMetrics
from shared.settings import Settings
from shared.wire.outcomes import OVERLOADED, SHUTTING_DOWN
from tests.fakes import ECHO, InMemoryQueue, RecordedTracing, echo
from tests.helpers import eventually_async

T = TypeVar("T")

PARENT = f"00-{'a' * 32}-{'b' * 16}-01"
MESSAGE: bytes = message_class("ModelInferRequest")(
    model_name="echo",
    inputs=[{"name": ECHO.inputs[0].name, "datatype": "UINT8", "shape": [1, 2]}],
    raw_input_contents=[b"hi"],
).SerializeToString()


def with_inferences(use: Callable[[Inferences, InMemoryQueue, RecordedTracing, InFlight], Awaitable[T]]) -> T:
    """Run something on a loop with everything that it needs."""

    async def run() -> T:
        queue, tracing, settings, in_flight = InMemoryQueue(), RecordedTracing(), Settings(), InFlight(10)
        queue.serve("echo", ECHO, echo)
        budgets = BodyBudget(1 << 20), AnswerBudget(1 << 20, 30.0)
        metrics = ApiMetrics(CollectorRegistry(), "0", None, in_flight, *budgets)
        await queue.start()
        try:
            context = AppContext(settings, queue, metrics, budgets[0], in_flight)
            return await use(Inferences(context, tracing), queue, tracing, in_flight)
        finally:
            await queue.close()

    return asyncio.run(run())


def test_a_traceparent_makes_a_span_whose_own_goes_with_the_message() -> None:
    async def use(inferences: Inferences, queue: InMemoryQueue, tracing: RecordedTracing, _: InFlight) -> Ended:
        ended = await inferences.run(MESSAGE, {b"traceparent": PARENT.encode()}, None, None)
        [span] = tracing.requests
        assert span.parent == PARENT
        assert queue.submitted[-1].traceparent == span.traceparent != PARENT
        assert span.ended == (ended.exchange.request_id, "ok")
        await inferences.run(MESSAGE, {}, None, None)
        assert len(tracing.requests) == 1
        return ended

    ended = with_inferences(use)
    assert is_ok(ended)
    assert message_class("ModelInferResponse").FromString(ended.response.body).raw_output_contents == [b"hi"]
    assert trailing(ended) == [("x-request-id", ended.exchange.request_id)]


def test_the_deadline_of_the_call_is_how_long_the_answer_may_take() -> None:
    async def use(inferences: Inferences, queue: InMemoryQueue, *_: object) -> list[int]:
        for left_s in (None, 1.5, 10_000.0, 0.0):
            await inferences.run(MESSAGE, {}, None, left_s)
        return [one.ttl_ms for one in queue.submitted]

    settings = Settings()
    assert with_inferences(use) == [settings.default_timeout_ms, 1500, settings.max_timeout_ms, 1]


def test_a_refusal_that_passes_says_when_to_come_again() -> None:
    async def use(inferences: Inferences, _: InMemoryQueue, __: RecordedTracing, in_flight: InFlight) -> Ended:
        for _place in range(10):
            in_flight.enter()
        return await inferences.run(MESSAGE, {}, None, None)

    ended = with_inferences(use)
    assert ended.exchange.outcome is OVERLOADED
    assert text_of(ended) == "This front end already has 10 requests waiting."
    assert trailing(ended)[1:] == [("retry-after", "1"), ("grpc-retry-pushback-ms", "1000")]


def test_a_cancelled_wait_gives_its_place_back_and_takes_the_request_out_of_the_queue() -> None:
    async def use(inferences: Inferences, queue: InMemoryQueue, __: RecordedTracing, in_flight: InFlight) -> None:
        queue.hold()
        task = asyncio.ensure_future(inferences.run(MESSAGE, {}, None, None))
        await eventually_async(lambda: in_flight.count == 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert in_flight.count == 0

    with_inferences(use)


def test_all_can_be_ended_with_a_sentence() -> None:
    async def use(inferences: Inferences, queue: InMemoryQueue, __: RecordedTracing, in_flight: InFlight) -> Ended:
        queue.hold()
        task = asyncio.ensure_future(inferences.run(MESSAGE, {}, None, None))
        await eventually_async(lambda: in_flight.count == 1)
        inferences.end_all()
        ended = await task
        assert in_flight.count == 0
        return ended

    ended = with_inferences(use)
    assert text_of(ended) == "The front end stopped before the answer came."
    assert ended.exchange.outcome is SHUTTING_DOWN
