"""One request, whatever brought it here and whatever dialect it speaks: the only path of a request. No I/O.

A transport makes an :class:`Exchange` of the head, starts it with the body, and sends the response that it is called
with. There are two: ``routes/predict.py``, an ASGI endpoint, and ``http/express_protocol.py``, which takes the common
request without ASGI.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter
from typing import Any, TypeVar

import msgspec

from producer_api.inference.codec import Decoded, Response
from producer_api.inference.encoding import size_of
from producer_api.inference.errors import from_fault, internal_error
from producer_api.inference.explained import server_timing, with_spans
from producer_api.inference.later.deferral import Deferral
from producer_api.inference.request_ids import fingerprint_in_steps, id_of_key
from producer_api.later.interface import LaterRequests
from producer_api.parsing.steps import LARGE_BYTES, Steps, at_once
from producer_api.queue.admission import check_start
from producer_api.queue.interface import Answer
from producer_api.streaming.events import EventStream
from producer_api.streaming.several import Several
from producer_api.streaming.time_left import time_left
from shared.state.cards import Card
from shared.wire.messages import Reply, Request
from shared.wire.outcomes import OK, Outcome, RequestError, malformed

from .lifetime import Lifetime, log
from .resuming import found_again, response_of, then

T = TypeVar("T")

Respond = Callable[["Exchange", Response], None]


class _NotDescribed(Exception):
    """The model that the body names has no card yet; its argument is the body."""


class Exchange(Lifetime):
    """One request and its response; ``lifetime.py`` has what it holds meanwhile."""

    __slots__ = ("_asked", "_respond")

    _asked: Any
    _respond: Respond

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
        self._submitted_s = perf_counter()
        if request.explain or self.head.explain:
            self._explains = True
            if not request.explain:
                request = msgspec.structs.replace(request, explain=True)
                decoded = msgspec.structs.replace(decoded, request=request)
        if decoded.reference is not None:
            bring = partial(
                self._context.large_bodies.brought, request, decoded.reference, self.head.client, self.head.lane
            )
            self._begin(bring, partial(self._brought, decoded))
            return
        if self.head.later is not None and self._context.later is not None:
            self._put_off(decoded, self._context.later)
            return
        if self._held_s:
            request = time_left(request, self._held_s)
        if decoded.streaming is not None and self._stream is None:
            meter = self._context.metrics.streams.begin(self.model, self.started_s, self.head.traceparent, self._span)
            self._stream = EventStream(decoded.streaming, self._opened, self._broken, meter)
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
        card = self._state.card
        is_plain = decoded.id_is_generated and not decoded.run_ms and not self._explains
        if is_plain and card is not None and card.cache is not None:
            self._submit_to_cache(request, card)
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

    def _submit_to_cache(self, request: Request, card: Card) -> None:
        """Ask for what an equal request may have been answered with. One of a client's own id is never answered so: it
        is asked for again under that id."""
        head = self.head
        give_up = self._context.equal_requests.begin(
            self._state, card, request, head.client, head.freshness, self._done, head.lane
        )
        if not self.closed:
            self._give_up = give_up

    def _opened(self, stream: EventStream) -> None:
        if not self.closed:
            self._respond(self, response_of(stream, self.request_id))

    def _broken(self, error: RequestError) -> None:
        """End a stream that cannot go on, whatever its model still says."""
        self.stop()
        self._fail(error)

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
        reply, media_type, self._cache_status = result.reply, self._media_type, result.cache_status
        self._replied_s = now_s = perf_counter()
        assert media_type is not None
        if reply.at_store is not None:
            read = partial(self._context.stored_replies.whole, self.model, self.head.lane, reply)
            self._begin(read, lambda whole: self._done(Answer(whole, cache_status=result.cache_status)))
            return
        try:
            if self._explains:
                reply = self._explained(reply, now_s)
            if self._span is not None:
                self._span.answered(reply.timing)
            if reply.fault is not None:
                raise from_fault(reply.fault, self.request_id)
            if self._stream is not None:
                self._stream.end(reply)
                self.outcome = OK
                self._close()
                return
            took_s, codec = now_s - self.started_s, self.head.codec
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

    def _explained(self, reply: Reply, now_s: float) -> Reply:
        """Return a reply that says where the time went until it came."""
        assert self._submitted_s is not None
        reply = with_spans(reply, self._submitted_s - self.started_s, now_s - self.started_s)
        self._server_timing = server_timing(reply)
        return reply

    def _finish(self, response: Response, outcome: Outcome = OK) -> None:
        self.outcome, response.request_id = outcome, self.request_id
        if self._cache_status:
            response.headers = (*response.headers, (b"cache-status", self._cache_status))
        if self._server_timing:
            response.headers = (*response.headers, (b"server-timing", self._server_timing))
        self._context.metrics.sent.observe(len(response.body))
        self._close()
        self._respond(self, response)

    def _fail(self, error: Exception) -> None:
        if self.closed:
            log.error("Sending a response failed.", exc_info=error, extra=self._about())
        elif self._stream is not None and self._stream.is_open:
            self.refuse(error)
            self._stream.fail(error if isinstance(error, RequestError) else internal_error())
        else:
            self._respond(self, self.refuse(error))
