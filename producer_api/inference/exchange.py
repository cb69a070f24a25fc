"""One request, whatever brought it here and whatever dialect it speaks: the only path of a request. No I/O.

A transport makes an :class:`Exchange` of the head, starts it with the body, and sends the response that it is called
with. There are two: ``routes/predict.py``, an ASGI endpoint, and ``http/express_protocol.py``, which takes the common
request without ASGI.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import Any, TypeVar

import msgspec

from producer_api.auth import Client
from producer_api.later.interface import LaterRequests
from producer_api.load.body_budget import IncomingBody
from producer_api.metrics import UNKNOWN
from producer_api.parsing.steps import LARGE_BYTES, Steps, at_once
from producer_api.queue.admission import check_lane, check_start, check_version, let_in
from producer_api.queue.interface import Answer, GiveUp, ModelState
from producer_api.streaming.events import EventStream
from producer_api.streaming.several import Several
from producer_api.streaming.time_left import time_left
from shared.process.logs import about
from shared.state.cards import Card
from shared.tracing.spans import RequestSpan
from shared.wire.messages import Request
from shared.wire.outcomes import CLIENT_CLOSED, INTERNAL, OK, Outcome, RequestError, malformed

from .codec import Decoded, Head, Limits, Response
from .context import AppContext
from .encoding import size_of
from .errors import from_fault, internal_error, refused_somehow
from .later.deferral import Deferral
from .request_ids import fingerprint_in_steps, id_of_key
from .resuming import found_again, response_of, then

log = logging.getLogger("headrace.http")

T = TypeVar("T")

Respond = Callable[["Exchange", Response], None]


class _NotDescribed(Exception):
    """The model that the body names has no card yet; its argument is the body."""


class Exchange:
    """One request and its response. It must end with a response or :meth:`abandon`, which count it and free its place.

    Args:
        span: of a request that belongs to a trace.

    Attributes:
        model: its name, empty until the body has named it.
        request_id: made up, or the client's own once the body has been read.
        started_s: when it began, by ``perf_counter``.
        outcome: how it ended, for the metrics.
        closed: it has ended.
    """

    __slots__ = (
        "_asked",
        "_card",
        "_catalogue",
        "_client",
        "_context",
        "_give_up",
        "_has_place",
        "_held_s",
        "_kind",
        "_media_type",
        "_respond",
        "_span",
        "_state",
        "_stream",
        "_task",
        "closed",
        "head",
        "model",
        "outcome",
        "request_id",
        "started_s",
    )

    _asked: Any
    _card: Card | None
    _client: Client | None
    _give_up: GiveUp | None
    _kind: str
    _media_type: str | None
    _respond: Respond
    _state: ModelState
    _stream: EventStream | None
    _task: asyncio.Task[None] | None

    def __init__(self, context: AppContext, head: Head, span: RequestSpan | None = None) -> None:
        self.started_s = perf_counter()
        self._context, self.head, self._span = context, head, span
        self._catalogue = context.queue.catalogue()
        self.model, self.request_id = head.model, context.ids.next()
        self.outcome, self._held_s = INTERNAL, 0.0
        self._client = self._media_type = self._give_up = self._task = self._card = self._stream = None
        self._has_place = self.closed = False

    def enter(self) -> None:
        """Check all that can be checked before the body is there.

        Raises:
            RequestError: the request is refused.
        """
        head = self.head
        if head.client is not None:
            head.client.enter()
            self._client = head.client
        self._media_type = head.codec.answer_type(head)
        self._admit()

    def _admit(self) -> None:
        """Let it in: to a place, and to its model once that is known."""
        head, state = self.head, None
        if self.model:
            state = let_in(self._catalogue, self.model, self.request_id)
        if not self._has_place:
            self._context.in_flight.enter()
            self._has_place = True
        if state is not None:
            self._card, self._state = state.card, state
            if state.card is not None:  # else it is held, and admitted again when there is one
                if head.client is not None:
                    check_lane(state, head.lane)
                if head.version:
                    check_version(state, head.version)
                self._kind = head.codec.body_kind(head, state.card)

    def _admit_anew(self) -> None:
        """Let it in as if it came now: time has passed, and the model may be gone."""
        self._catalogue = self._context.queue.catalogue()
        self._admit()

    @contextmanager
    def arriving(self) -> Iterator[IncomingBody]:
        """Receive the body in pieces. Meanwhile the request has no place; it is admitted again when it starts."""
        context = self._context
        incoming = context.body_budget.begin()
        context.in_flight.leave()
        self._has_place = False
        try:
            yield incoming
        finally:
            incoming.end()

    def start(self, body: bytes, respond: Respond) -> None:
        """Ask the model. Never raises.

        Args:
            respond: called once with the response, perhaps before this returns; not called after :meth:`abandon`.
        """
        self._respond, head, context = respond, self.head, self._context
        try:
            if self._media_type is None:
                self.enter()
            elif not self._has_place:
                self._admit_anew()
            card = self._card
            if card is None and self.model:
                self._hold(body)
                return
            context.metrics.received.observe(len(body))
            decoded: Decoded | Steps[Decoded]
            if card is not None and head.model and head.idempotency_key is None:
                decoded = head.codec.decode(self._kind, body, head, card, self._limits(), self.request_id)
            else:
                steps = self._decode_in_steps(body)
                is_long = len(body) > LARGE_BYTES or head.content_encoding is not None
                decoded = steps if is_long else at_once(steps)
            if isinstance(decoded, Decoded):
                self._submit(decoded)
            else:
                self._task = asyncio.create_task(self._decode(decoded, len(body)))
        except _NotDescribed:
            self._hold(body)
        except Exception as error:
            self._fail(error)

    def _hold(self, body: bytes) -> None:
        """Wait until the model's card is known, and start again then. Never raises."""
        since_s, head = perf_counter(), self.head

        def go_on() -> None:
            self._held_s += perf_counter() - since_s
            self._give_up, self._has_place = None, False
            self._context.in_flight.leave()  # it enters again, as what has just come
            self.start(body, self._respond)

        try:
            limit_s = head.codec.timeout_ms(head, body, self._limits()) / 1000 - self._held_s
            self._give_up = self._context.queue.await_card(self._state, len(body), limit_s, go_on, self._fail)
        except Exception as error:
            self._fail(error)

    def _limits(self) -> Limits:
        return self._context.limits if self.head.later is None else self._context.later_limits

    def _decode_in_steps(self, body: bytes) -> Steps[Decoded]:
        """Decode a request whose body names the model, or that came with an idempotency key."""
        head, codec, key = self.head, self.head.codec, self.head.idempotency_key
        if not self.model:
            self.model = yield from codec.model_name(head, body)
            self._admit()
        card = self._card
        if card is None:
            raise _NotDescribed(body)
        if key is not None:
            self.request_id = id_of_key(key, b"" if head.client is None else head.client.key.digest)
        made = codec.decode(self._kind, body, head, card, self._limits(), self.request_id)
        decoded = made if isinstance(made, Decoded) else (yield from made)
        if key is None:
            return decoded
        self.request_id = decoded.request.id
        if not decoded.id_is_generated:
            raise malformed("A request has an id or an Idempotency-Key, not both.", "Idempotency-Key")
        fingerprint = yield from fingerprint_in_steps(self._kind, head.query, body)
        return msgspec.structs.replace(decoded, id_is_generated=False, fingerprint=fingerprint)

    def _begin(self, work: Callable[[], Awaitable[T]], go_on: Callable[[T], None]) -> None:
        self._task = asyncio.create_task(then(work, go_on, self._fail))

    def _brought(self, decoded: Decoded, request: Request) -> None:
        """Submit a request whose body lay elsewhere and is in the result store now."""
        self._admit_anew()
        self._submit(msgspec.structs.replace(decoded, request=request, reference=None))

    async def _decode(self, steps: Steps[Decoded], size_bytes: int) -> None:
        """Decode what takes long; others are served meanwhile."""
        try:
            if self.head.content_encoding is not None:
                size_bytes = self._context.most_inflated_bytes(size_bytes)
            decoded = await self._context.step_runner.run(steps, size_bytes)
            if not self.closed:  # somebody still waits
                self._admit_anew()
                self._submit(decoded)
        except _NotDescribed as held:
            self._hold(held.args[0])
        except Exception as error:
            self._fail(error)

    def _submit(self, decoded: Decoded) -> None:
        request = decoded.request
        self.request_id, self._asked = request.id, decoded.asked
        if decoded.reference is not None:
            bring = partial(self._context.large_bodies.brought, request, decoded.reference, self.head.client)
            self._begin(bring, partial(self._brought, decoded))
            return
        if self.head.later is not None and self._context.later is not None:
            self._put_off(decoded, self._context.later)
            return
        if self._held_s:
            request = time_left(request, self._held_s)
        if decoded.streaming is not None and self._stream is None:
            self._stream = EventStream(decoded.streaming, self._opened, self._fail)
            if decoded.streaming.after is not None:
                find = partial(found_again, self._context.queue, self.model, self.request_id, self.head.lane)
                self._begin(find, lambda _: self._submit(decoded))
                return
        if decoded.pieces:
            whole = partial(self._context.stored_replies.whole, self.model, self.head.lane)
            requests, of_lane = (request, *decoded.pieces), (self._context.queue, self._state, self.head.lane)
            pieces = Several(*of_lane, requests, decoded.sizes, whole, self._done, decoded.id_is_generated)
            self._give_up = pieces.begin()
            return
        give_up = self._context.queue.begin(
            self._state,
            request,
            id_is_generated=decoded.id_is_generated,
            done=self._done,
            fingerprint=decoded.fingerprint,
            lane=self.head.lane,
            run_ms=decoded.run_ms,
            parts=self._stream,
        )
        if not self.closed:
            self._give_up = give_up

    def _opened(self, stream: EventStream) -> None:
        if not self.closed:
            self._respond(self, response_of(stream, self.request_id))

    def _put_off(self, decoded: Decoded, later: LaterRequests) -> None:
        """Have it answered later."""
        assert self._media_type is not None
        cold = self._state.cold
        if cold is not None:
            check_start(self._state, cold.in_s, decoded.request.ttl_ms / 1000)
        asked = self.head.later.webhook if self.head.later is not None else None
        hook = "" if asked is None else self._context.hooks.read(*asked).encode()
        made = (self._context, self.head, self._state, decoded, self._media_type, hook)
        deferral = Deferral(*made, self._finish, self._fail)
        deferral.begin(later)
        if not self.closed:
            self._give_up = deferral.stop

    def _done(self, result: Answer | RequestError) -> None:
        """Respond to what the queue says."""
        if isinstance(result, RequestError):
            self._fail(result)
            return
        reply, media_type = result.reply, self._media_type
        assert media_type is not None
        if reply.at_store is not None:
            read = partial(self._context.stored_replies.whole, self.model, self.head.lane, reply)
            self._begin(read, lambda whole: self._done(Answer(whole)))
            return
        try:
            if self._span is not None:
                self._span.answered(reply.timing)
            if reply.fault is not None:
                raise from_fault(reply.fault, self.request_id)
            if self._stream is not None:
                self._stream.end(reply)
                self.outcome = OK
                self._close()
                return
            took_s, codec = perf_counter() - self.started_s, self.head.codec
            if codec.is_counted:
                self._context.statistics.succeeded(self.model, codec.rows(self._asked), reply.timing, took_s)
            made = codec.encode(reply, media_type, took_s, self._asked, is_short=result.is_short)
            if not isinstance(made, Response):
                self._begin(partial(self._context.step_runner.run, made, size_of(reply)), self._finish)
                return
        except Exception as error:
            self._fail(error)
        else:
            self._finish(made)

    def _finish(self, response: Response, outcome: Outcome = OK) -> None:
        self.outcome, response.request_id = outcome, self.request_id
        self._context.metrics.sent.observe(len(response.body))
        self._close()
        self._respond(self, response)

    def _fail(self, error: Exception) -> None:
        if self.closed:
            log.error("Sending a response failed.", exc_info=error, extra=self._about())
        elif self._stream is not None and self._stream.is_open:
            self.stop()
            self.refuse(error)
            self._stream.fail(error if isinstance(error, RequestError) else internal_error())
        else:
            self._respond(self, self.refuse(error))

    def refuse(self, error: Exception) -> Response:
        """End with an error, and return the response that says so; what is no ``RequestError`` is logged."""
        if not isinstance(error, RequestError):
            log.error("A request for %s failed.", self.model[:64], exc_info=error, extra=self._about())
            error = internal_error()
        self.outcome = error.outcome
        if error.request_id is None:
            error.request_id = self.request_id
        if self.head.codec.is_counted and self.model in self._catalogue.models:
            self._context.statistics.failed(self.model, perf_counter() - self.started_s)
        error.__traceback__ = None  # its frames hold what has come of the body
        response = refused_somehow(error, self.head.codec, self._about())
        self._close()
        return response

    def _about(self) -> dict[str, str]:
        """Return what a log line about it carries besides its words."""
        return about(self.request_id, self.head.traceparent)

    def stop(self) -> None:
        """Cancel what is in progress: the transport no longer waits for a response."""
        if self._give_up is not None:
            self._give_up()
        if self._task is not None:
            self._task.cancel()

    def abandon(self) -> None:
        """End it because the client is gone."""
        if not self.closed:
            self.stop()
            self.outcome = CLIENT_CLOSED
            self._close()

    def _close(self) -> None:
        """Count it. Its place goes to the next when the response is made, not when it is read."""
        self.closed, self._give_up = True, None
        if self._has_place:
            self._context.in_flight.leave()
        if self._client is not None:
            self._client.leave()
        known = self.model if self.model in self._catalogue.models else UNKNOWN
        self._context.metrics.requests.counts[known, self.outcome.code] += 1
