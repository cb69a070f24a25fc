"""What a request holds while it lasts: a place, its client's share, and work under way; and how it is counted. No I/O.

What it asks of its model, and what it answers, is the business of ``exchange.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from producer_api.auth import Client
from producer_api.caching.equal_requests import spared
from producer_api.inference.codec import Head, Limits, Response
from producer_api.inference.context import AppContext
from producer_api.inference.errors import internal_error, refused_somehow
from producer_api.load.body_budget import IncomingBody
from producer_api.metrics import UNKNOWN
from producer_api.queue.admission import check_lane, check_open_lane, check_version, let_in
from producer_api.queue.interface import GiveUp, ModelState
from producer_api.streaming.events import EventStream
from shared.keys import DEFAULT_LANE
from shared.process.logs import about
from shared.state.cards import Card
from shared.tracing.spans import RequestSpan
from shared.wire.outcomes import CLIENT_CLOSED, INTERNAL, RequestError

log = logging.getLogger("headrace.http")


class Lifetime:
    """A request from its head to its end. It must end with a response or :meth:`abandon`, which free its place.

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
        "_cache_status",
        "_card",
        "_catalogue",
        "_client",
        "_context",
        "_explains",
        "_give_up",
        "_has_place",
        "_held_s",
        "_kind",
        "_media_type",
        "_replied_s",
        "_server_timing",
        "_span",
        "_state",
        "_stream",
        "_submitted_s",
        "_task",
        "closed",
        "head",
        "model",
        "outcome",
        "request_id",
        "started_s",
    )

    _cache_status: bytes
    _card: Card | None
    _client: Client | None
    _explains: bool
    _give_up: GiveUp | None
    _kind: str
    _media_type: str | None
    _replied_s: float | None
    _server_timing: bytes
    _state: ModelState
    _stream: EventStream | None
    _submitted_s: float | None
    _task: asyncio.Task[None] | None

    def __init__(self, context: AppContext, head: Head, span: RequestSpan | None = None) -> None:
        self.started_s = perf_counter()
        self._context, self.head, self._span = context, head, span
        self._catalogue = context.queue.catalogue()
        self.model, self.request_id = head.model, context.ids.next()
        self.outcome, self._held_s = INTERNAL, 0.0
        self._cache_status = self._server_timing = b""
        self._client = self._media_type = self._give_up = self._task = self._card = self._stream = None
        self._submitted_s = self._replied_s = None
        self._has_place = self._explains = self.closed = False

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
                elif head.lane is not DEFAULT_LANE:
                    check_open_lane(state, head.lane)
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

    def _limits(self) -> Limits:
        return self._context.limits if self.head.later is None else self._context.later_limits

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
        if self._server_timing:
            response.headers = (*response.headers, (b"server-timing", self._server_timing))
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
        model, code, lane, ended = self.model, self.outcome.code, self.head.lane, self._context.ended
        if model not in self._catalogue.models:
            model = UNKNOWN
        elif ended is not None:
            end: tuple[Any, ...] = (
                lane,
                self.request_id,
                code,
                self.started_s,
                self._submitted_s,
                self._replied_s,
                perf_counter(),
                self.head.traceparent,
            )
            if self._cache_status:
                end = (*end, spared(self._cache_status))
            ended.note(model, end)
        self._context.metrics.requests.counts[model, code, lane] += 1
