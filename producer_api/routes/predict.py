"""POST /v1/models/{model}/predict: decode, submit, wait, respond.

A plain ASGI callable: building Request and Response objects would cost more than everything else here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from time import perf_counter

from starlette.types import Receive, Scope, Send

from producer_api import body as bodies
from producer_api.admission import admit, refusal
from producer_api.decoding import Limits, decode
from producer_api.encoding import encode_reply
from producer_api.errors import from_fault, send_error
from producer_api.ids import RequestIds
from producer_api.metrics import UNKNOWN, ApiMetrics
from producer_api.negotiation import body_type, choose, traceparent
from producer_api.queue import Queue
from shared.cards import Card
from shared.outcomes import (
    CLIENT_CLOSED,
    INTERNAL,
    NO_WORKER,
    OK,
    REQUEST_TIMEOUT,
    SHUTTING_DOWN,
    UNSUPPORTED_MEDIA_TYPE,
    RequestError,
)
from shared.settings import Settings

PATH = "/v1/models/{model}/predict"

_log = logging.getLogger("headrace.http")


class Predict:
    """The endpoint; one instance serves all requests.

    Attributes:
        body_timeout_s: seconds a client has for sending its body.
    """

    def __init__(self, settings: Settings, queue: Queue, metrics: ApiMetrics) -> None:
        self._queue, self._metrics = queue, metrics
        self._ids = RequestIds()
        self._limits = Limits(settings.default_timeout_ms, settings.max_timeout_ms)
        self._max_body_bytes = settings.max_body_bytes
        self._max_in_flight = settings.max_in_flight
        self.body_timeout_s = bodies.BODY_TIMEOUT_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever it is."""
        started_s = perf_counter()
        metrics, model = self._metrics, scope["path_params"]["model"]
        catalogue = self._queue.catalogue()
        headers = _header_map(scope["headers"])
        request_id = self._ids.next()
        outcome, unread = INTERNAL, True
        metrics.in_flight += 1
        try:
            media_type = choose(headers.get(b"accept", b""))
            card = admit(catalogue, model, metrics.in_flight - 1, self._max_in_flight).card
            if card is None:
                raise refusal(NO_WORKER, f"No worker has described model {model!r} yet.")
            kind = _body_kind(headers, card)
            body = await bodies.read(receive, bodies.declared_bytes(headers), self._max_body_bytes, self.body_timeout_s)
            unread = False
            metrics.received.observe(len(body))
            decoded = decode(kind, body, scope["query_string"], card, self._limits, request_id, _trace(headers))
            request_id = decoded.request.id
            del body
            answer = await self._queue.submit(model, decoded.request, id_is_ours=decoded.id_is_ours)
            if answer.reply.fault is not None:
                raise from_fault(answer.reply.fault, request_id)
            payload = encode_reply(answer.reply, perf_counter() - started_s, media_type)
            outcome = OK
            metrics.sent.observe(len(payload))
            await _send_ok(send, payload, media_type, request_id)
        except RequestError as error:
            outcome = error.outcome
            if error.request_id is None:
                error.request_id = request_id
            await _refuse(receive, send, error, headers, unread)
        except bodies.Disconnected:
            outcome = CLIENT_CLOSED
        except asyncio.CancelledError:  # the server does this to what has not ended when its time for stopping is over
            outcome = SHUTTING_DOWN
            end = refusal(SHUTTING_DOWN, "The front end stopped before the answer came.", request_id)
            await send_error(send, end, [(b"connection", b"close")])
        except Exception:
            _log.exception("A request for %s failed.", model[:64])
            fault = RequestError(INTERNAL, "Something went wrong here; it has been logged.", request_id=request_id)
            await _refuse(receive, send, fault, headers, unread)
        finally:
            metrics.in_flight -= 1
            metrics.requests.counts[model if model in catalogue.models else UNKNOWN, outcome.code] += 1


def _header_map(headers: list[tuple[bytes, bytes]]) -> Mapping[bytes, bytes]:
    found = dict(headers)
    if len(found) != len(headers) and b"accept" in found:
        found[b"accept"] = b",".join(value for name, value in headers if name == b"accept")
    return found


def _body_kind(headers: Mapping[bytes, bytes], card: Card) -> str:
    encoding = headers.get(b"content-encoding")
    if encoding is not None and encoding.strip().lower() not in (b"", b"identity"):
        raise RequestError(UNSUPPORTED_MEDIA_TYPE, "Bodies are taken uncompressed only.", field="Content-Encoding")
    return body_type(headers.get(b"content-type"), card.content_types)


def _trace(headers: Mapping[bytes, bytes]) -> str | None:
    header = headers.get(b"traceparent")
    return None if header is None else traceparent(header)


async def _send_ok(send: Send, payload: bytes, media_type: str, request_id: str) -> None:
    headers = [
        (b"content-type", media_type.encode()),
        (b"content-length", str(len(payload)).encode()),
        (b"x-request-id", request_id.encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": payload})


async def _refuse(
    receive: Receive, send: Send, error: RequestError, headers: Mapping[bytes, bytes], unread: bool
) -> None:
    if error.outcome is REQUEST_TIMEOUT:
        await send_error(send, error, [(b"connection", b"close")])
    elif unread:
        await bodies.refuse_unread(receive, send, error, headers)
    else:
        await send_error(send, error)
