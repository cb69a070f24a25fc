"""POST /v1/models/{model}/predict as an ASGI endpoint: read the body, submit, wait, respond.

A plain ASGI callable: building Request and Response objects would cost more than everything else here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace

from starlette.types import Receive, Scope, Send

from producer_api.http import body as bodies
from producer_api.http.guarded_protocol import ON_GONE
from producer_api.http.middleware import TRACE
from producer_api.inference.encoding import size_of
from producer_api.inference.errors import send_error
from producer_api.inference.exchange import PATH, AppContext, Exchange, head_of
from producer_api.parsing.steps import LARGE_BYTES
from producer_api.queue.admission import refusal
from producer_api.queue.interface import submit
from shared.tracing.spans import RequestSpan, Tracing
from shared.wire.outcomes import CLIENT_CLOSED, INTERNAL, REQUEST_TIMEOUT, SHUTTING_DOWN, RequestError
from shared.wire.trace_context import sampled_trace_id

__all__ = ["PATH", "Predict"]

_log = logging.getLogger("headrace.http")


class Predict:
    """The endpoint; one instance serves all requests.

    Attributes:
        body_timeout_s: seconds a client has for sending its body.
    """

    def __init__(self, context: AppContext, tracing: Tracing | None = None) -> None:
        self._context, self._tracing = context, tracing
        self.body_timeout_s = bodies.BODY_TIMEOUT_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever it is."""
        context, headers, client = self._context, _header_map(scope["headers"]), scope.get("api_client")
        head = head_of(scope["path_params"]["model"], scope["query_string"], headers, client)
        span: RequestSpan | None = None
        if self._tracing is not None and head.traceparent is not None:
            span = self._tracing.request(head.traceparent, PATH, head.model)
            head = replace(head, traceparent=span.traceparent)
        if head.traceparent is not None:
            scope[TRACE] = sampled_trace_id(head.traceparent)
        exchange = Exchange(context, head)
        unread = True
        try:
            exchange.enter()
            declared = bodies.declared_bytes(headers)
            body = await bodies.read(receive, declared, context.max_body_bytes, exchange.arriving, self.body_timeout_s)
            unread = False
            exchange.enter_again()
            self._watch(scope, exchange)
            if len(body) > LARGE_BYTES:
                decoded = await context.turns.take(exchange.decode_in_steps(body), len(body))
            else:
                decoded = exchange.decode(body)
            del body
            answer = await submit(
                context.queue,
                exchange.state,
                decoded.request,
                id_is_generated=decoded.id_is_generated,
                fingerprint=decoded.fingerprint,
                lane=exchange.head.lane,
            )
            if span is not None:
                span.answered(answer.reply.timing)
            if exchange.is_large(answer):
                payload = await context.turns.take(exchange.payload_in_steps(answer), size_of(answer.reply))
            else:
                payload = exchange.payload(answer)
            del scope[ON_GONE]
            exchange.close()  # its place goes to the next when the answer is made, not when it is read
            del answer, decoded
            await _send_ok(send, payload, exchange)
        except RequestError as error:
            await _refuse(send, exchange, error, headers, unread)
        except bodies.Disconnected:
            exchange.outcome = CLIENT_CLOSED
        except asyncio.CancelledError:
            if exchange.outcome is CLIENT_CLOSED:
                return
            # The server does this to what has not ended when its time for stopping is over.
            end = exchange.failed(refusal(SHUTTING_DOWN, "The front end stopped before the answer came."))
            await send_error(send, end, [(b"connection", b"close")])
        except Exception:
            _log.exception("A request for %s failed.", exchange.head.model[:64], extra=exchange.about())
            fault = RequestError(INTERNAL, "Something went wrong here; it has been logged.")
            await _refuse(send, exchange, fault, headers, unread)
        finally:
            scope.pop(ON_GONE, None)
            if not exchange.closed:
                exchange.close()
            if span is not None:
                span.end(exchange.request_id, exchange.outcome)

    def _watch(self, scope: Scope, exchange: Exchange) -> None:
        """See to it that waiting ends, and the request with it, when the client goes away."""
        task = asyncio.current_task()

        def gone() -> None:
            exchange.outcome = CLIENT_CLOSED
            if task is not None:
                task.cancel()

        scope[ON_GONE] = gone


def _header_map(headers: list[tuple[bytes, bytes]]) -> Mapping[bytes, bytes]:
    found = dict(headers)
    if len(found) != len(headers):
        if b"accept" in found:
            found[b"accept"] = b",".join(value for name, value in headers if name == b"accept")
        if sum(name == b"traceparent" for name, _ in headers) > 1:  # two are none: Trace Context, section 3.2.1
            del found[b"traceparent"]
    return found


async def _send_ok(send: Send, payload: bytes, exchange: Exchange) -> None:
    headers = [
        (b"content-type", exchange.media_type.encode()),
        (b"content-length", str(len(payload)).encode()),
        (b"x-request-id", exchange.request_id.encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": payload})


async def _refuse(
    send: Send, exchange: Exchange, error: RequestError, headers: Mapping[bytes, bytes], unread: bool
) -> None:
    exchange.failed(error)
    exchange.close()  # until the client takes the answer may be a while, in which the request takes no place
    error.__traceback__ = None  # its frames hold what has come of the body
    if error.outcome is REQUEST_TIMEOUT:
        await send_error(send, error, [(b"connection", b"close")])
    elif unread:
        await bodies.refuse_unread(send, error, headers)
    else:
        await send_error(send, error)
