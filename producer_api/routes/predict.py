"""POST to a path of a dialect as an ASGI endpoint: read the body, and send the response that the exchange comes to.

A plain ASGI callable: building Request and Response objects would cost more than everything else here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

import msgspec
from starlette.types import Receive, Scope, Send

from producer_api.http import body as bodies
from producer_api.http import responses
from producer_api.http.guarded_protocol import ON_GONE
from producer_api.http.middleware import TRACE
from producer_api.inference.codec import Codec, Response, head_of
from producer_api.inference.context import AppContext
from producer_api.inference.exchanges.exchange import Exchange
from producer_api.queue.admission import refusal
from shared.tracing.spans import RequestSpan, Tracing
from shared.wire.outcomes import SHUTTING_DOWN
from shared.wire.trace_context import sampled_trace_id


class Predict:
    """The endpoint of one route; one instance serves all of its requests.

    Attributes:
        body_timeout_s: seconds a client has for sending its body.
    """

    def __init__(self, context: AppContext, route: str, codec: Codec, tracing: Tracing | None = None) -> None:
        self._context, self._route, self._codec, self._tracing = context, route, codec, tracing
        self.body_timeout_s = bodies.BODY_TIMEOUT_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever it is."""
        headers = _header_map(scope["headers"])
        head = head_of(
            self._route, self._codec, scope["path_params"], scope["query_string"], headers, scope.get("api_client")
        )
        span: RequestSpan | None = None
        if self._tracing is not None and head.traceparent is not None:
            span = self._tracing.request(head.traceparent, self._route, head.model)
            head = msgspec.structs.replace(head, traceparent=span.traceparent)
        if head.traceparent is not None:
            scope[TRACE] = sampled_trace_id(head.traceparent)
        exchange, is_unread, response = Exchange(self._context, head, span), True, None
        try:
            exchange.enter()
            length, limit = bodies.declared_bytes(headers), self._context.max_body_bytes
            body = await bodies.read(receive, length, limit, exchange.arriving, self.body_timeout_s)
            is_unread = False
            future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
            scope[ON_GONE] = partial(_leave, exchange, asyncio.current_task())
            exchange.start(body, partial(_deliver, future))
            del body
            response = await future
            if response.events is not None:
                await responses.send(send, response)
                return
        except bodies.Disconnected:
            exchange.abandon()
            return
        except asyncio.CancelledError:
            if exchange.closed:  # the client is gone
                return
            # The server does this to what has not ended when its time for stopping is over.
            exchange.stop()
            if response is not None:
                exchange.abandon()
                return
            response = exchange.refuse(refusal(SHUTTING_DOWN, "The front end stopped before the answer came."))
        except Exception as error:
            response = exchange.refuse(error)
        finally:
            scope.pop(ON_GONE, None)
            if span is not None and exchange.closed:
                span.end(exchange.request_id, exchange.outcome)
        if is_unread:
            await bodies.send_unread(send, response, headers)
        else:
            await responses.send(send, response)


def _deliver(future: asyncio.Future[Response], exchange: Exchange, response: Response) -> None:
    if not future.done():
        future.set_result(response)


def _leave(exchange: Exchange, task: asyncio.Task[None] | None) -> None:
    """See to it that waiting ends, and the request with it, when the client goes away."""
    exchange.abandon()
    if task is not None:
        task.cancel()


def _header_map(headers: list[tuple[bytes, bytes]]) -> Mapping[bytes, bytes]:
    found = dict(headers)
    if len(found) != len(headers):
        for listed in (b"accept", b"prefer"):
            if listed in found:
                found[listed] = b",".join(value for name, value in headers if name == listed)
        if sum(name == b"traceparent" for name, _ in headers) > 1:  # two are none: Trace Context, section 3.2.1
            del found[b"traceparent"]
    return found
