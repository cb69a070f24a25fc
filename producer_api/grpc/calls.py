"""One inference of a call: from its message to the response that an exchange comes to."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from time import perf_counter
from typing import Any

import msgspec

from producer_api.auth import Client
from producer_api.inference.codec import Response, head_of
from producer_api.inference.context import AppContext
from producer_api.inference.exchanges.exchange import Exchange
from producer_api.queue.admission import refusal
from shared.tracing.spans import RequestSpan, Tracing
from shared.wire.outcomes import SHUTTING_DOWN
from shared.wire.trace_context import sampled_trace_id

from .inference import DEADLINE, MODEL_INFER, ROUTE
from .message_cuts import names

Headers = Mapping[bytes, bytes]


class Ended(msgspec.Struct, frozen=True):
    """How an inference ended; ``exchange.outcome`` says it in one word."""

    exchange: Exchange
    response: Response


class Inferences:
    """Starts inferences, and ends those in progress when the front end stops.

    Args:
        tracing: where spans of calls with a traceparent go; None for nowhere.
    """

    def __init__(self, context: AppContext, tracing: Tracing | None) -> None:
        self._context, self._tracing = context, tracing
        self._live: dict[Exchange, asyncio.Future[Response]] = {}

    async def run(self, message: bytes, headers: Headers, client: Client | None, left_s: float | None) -> Ended:
        """Answer one ``ModelInferRequest``; a cancelled wait cancels the request.

        Args:
            headers: what the metadata of the call say, as far as it means something here.
            client: the holder of the API key, None if no key is required.
            left_s: seconds until the call's deadline; None for none.
        """
        if left_s is not None:
            headers = {**headers, DEADLINE: b"%d" % min(left_s * 1000, 1 << 40)}
        head = head_of(ROUTE, MODEL_INFER, names(message), b"", headers, client)
        span: RequestSpan | None = None
        if self._tracing is not None and head.traceparent is not None:
            span = self._tracing.request(head.traceparent, ROUTE, head.model)
            head = msgspec.structs.replace(head, traceparent=span.traceparent)
        exchange = Exchange(self._context, head, span)
        future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._live[exchange] = future
        try:
            exchange.start(message, partial(_deliver, future))
            del message
            response = await future
        finally:
            del self._live[exchange]
            exchange.abandon()  # nothing is left to do for one that has ended
            if span is not None:
                span.end(exchange.request_id, exchange.outcome)
            trace = None if head.traceparent is None else sampled_trace_id(head.traceparent)
            took_s = perf_counter() - exchange.started_s
            self._context.metrics.observe_request(ROUTE, exchange.outcome.status, took_s, trace)
        return Ended(exchange, response)

    def end_all(self) -> None:
        """End those in progress with ``SHUTTING_DOWN``."""
        for exchange, future in list(self._live.items()):
            if not future.done():
                exchange.stop()
                error = refusal(SHUTTING_DOWN, "The front end stopped before the answer came.")
                future.set_result(exchange.refuse(error))


def _deliver(future: asyncio.Future[Response], exchange: Exchange, response: Response) -> None:
    if not future.done():
        future.set_result(response)


def is_ok(ended: Ended) -> bool:
    """Say whether there is an answer."""
    return ended.response.status == 200


def text_of(ended: Ended) -> str:
    """Return the sentence of an error."""
    return ended.response.body.decode()


def trailing(ended: Ended) -> list[tuple[str, Any]]:
    """Return the metadata that follow an answer: the request's id, and when to come again if that may help."""
    found = [("x-request-id", ended.exchange.request_id)]
    for name, value in ended.response.headers:
        if name == b"retry-after":
            found += [("retry-after", value.decode()), ("grpc-retry-pushback-ms", value.decode() + "000")]
    return found
