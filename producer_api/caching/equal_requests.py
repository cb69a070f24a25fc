"""Equal requests of a model whose card allows it: one inference for all that come at the same time, and its answer for
those that come later. No I/O: the queue does that.

What is kept is in the memory of this process: a hit costs a digest and a look into a dict, and no other front end need
agree. So each front end asks its consumers once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping
from enum import StrEnum
from functools import partial

import msgspec

from producer_api.auth import Client
from producer_api.queue.interface import Answer, GiveUp, ModelState, Queue
from shared.state.cards import CacheSettings, Card
from shared.wire import request_log
from shared.wire.messages import Reply, Request, Timing
from shared.wire.outcomes import RequestError

from .flight import Done, Flight, Waiter
from .freshness import ANY, Freshness
from .key import Identity, KnownBodies, bytes_of, key_of
from .result_cache import ResultCache

LOOKED_AT = 4
"""Least used answers that are looked at with each new one: what is too old goes, before it takes room for long."""


class Found(StrEnum):
    """What became of a request that might have had an answer already.

    Attributes:
        HIT: it was answered with what was here.
        JOINED: it got the answer of an equal one that was under way.
        MISS: it went into the queue, and its answer may serve others.
        PASSED: it went into the queue by itself: its client said so, or its input is too large to be looked up.
    """

    HIT = "hit"
    JOINED = "joined"
    MISS = "miss"
    PASSED = "passed"


class OfModel:
    """What is known of one model.

    Args:
        card: one that has settings of a cache.

    Attributes:
        card: the latest.
        answers: those that were given by the version and precision of the card.
        hits, joined, misses, passed: requests by what became of them; numbers, since each request counts.
    """

    def __init__(self, card: Card, settings: CacheSettings) -> None:
        self.card, self.settings, self.identity = card, settings, Identity(card.version, card.precision)
        self.answers, self.known = ResultCache(settings.limit_bytes), KnownBodies()
        self.flights: dict[tuple[Hashable, str], Flight] = {}
        self.hits = self.joined = self.misses = self.passed = 0

    @property
    def counts(self) -> Mapping[Found, int]:
        """Requests by what became of them."""
        return dict(zip(Found, (self.hits, self.joined, self.misses, self.passed), strict=True))

    def is_now(self, card: Card, settings: CacheSettings) -> None:
        """Take in what a later card says: answers of another version are forgotten."""
        self.card = card
        if settings != self.settings:
            self.settings = settings
            self.answers.set_limit(settings.limit_bytes)
        identity = Identity(card.version, card.precision)
        if identity != self.identity:
            self.identity = identity
            self.answers.clear()
            self.flights.clear()  # those that wait get their answer, and nobody joins them any more


def _nothing() -> None:
    """Be called."""


class EqualRequests:
    """Stands in front of a queue for models with a cache.

    Args:
        clock: seconds of a clock that never goes back.
    """

    def __init__(self, queue: Queue, clock: Callable[[], float]) -> None:
        self._queue, self._clock = queue, clock
        self._of: dict[str, OfModel] = {}

    def models(self) -> Mapping[str, OfModel]:
        """Return what is known of each model, by its name."""
        return self._of

    def begin(
        self,
        state: ModelState,
        card: Card,
        request: Request,
        client: Client | None,
        freshness: Freshness,
        done: Callable[[Answer | RequestError], None],
        lane: str,
    ) -> GiveUp:
        """Answer a request, from here or by way of the queue; see :meth:`producer_api.queue.interface.Queue.begin`.

        Args:
            card: the model's, which has settings of a cache.
            client: who asks; None where no key is required.
            freshness: which answers it takes.
            done: may be called before this returns.
        """
        model = self._of.get(state.name)
        if model is None or model.card is not card:
            model = self._now(state.name, card)
        settings = model.settings
        tenant = client.key.digest if client is not None and settings.scope == "key" else b""
        key = key_of(request, tenant, model.known) if freshness.may_store else None
        if key is None:
            return self._pass(model, state, request, done, lane)
        if freshness.may_read:
            now_s, ttl_s = self._clock(), settings.ttl_s
            entry = model.answers.get(key, now_s, ttl_s if freshness is ANY else min(ttl_s, freshness.max_age_s))
            if entry is not None:
                model.hits += 1
                reply = msgspec.structs.replace(entry.reply, id=request.id)
                done(Answer(reply, entry.is_short, b"headrace; hit; ttl=%d" % int(entry.stored_s + ttl_s - now_s)))
                return _nothing
            flight = model.flights.get((key, lane))
            if flight is not None:
                return self._join(model, flight, request, done)
        return self._ask(model, key, state, request, done, lane)

    def _now(self, name: str, card: Card) -> OfModel:
        """Return what is known of a model whose card is a new one."""
        assert card.cache is not None
        model = self._of.get(name)
        if model is None:
            model = self._of[name] = OfModel(card, card.cache)
        else:
            model.is_now(card, card.cache)
        return model

    def _pass(self, model: OfModel, state: ModelState, request: Request, done: Done, lane: str) -> GiveUp:
        model.passed += 1
        told = partial(_tell, done, b"headrace; fwd=bypass")
        return self._queue.begin(state, request, id_is_generated=True, done=told, lane=lane)

    def _join(self, model: OfModel, flight: Flight, request: Request, done: Done) -> GiveUp:
        model.joined += 1
        loop = asyncio.get_running_loop()
        ttl_s = request.ttl_ms / 1000
        waiter = Waiter(request, self._clock() + ttl_s, _nobody)
        timer = loop.call_later(ttl_s, flight.time_out, waiter)

        def ended(result: Answer | RequestError) -> None:
            timer.cancel()
            _tell(done, b"headrace; fwd=miss; collapsed", result)

        def gave_up() -> None:
            timer.cancel()
            flight.leave(waiter)

        waiter.done = ended
        flight.join(waiter)
        return gave_up

    def _ask(self, model: OfModel, key: Hashable, state: ModelState, request: Request, done: Done, lane: str) -> GiveUp:
        """Put it into the queue. Equal ones join it, unless one that asked for something fresh was there before."""
        model.misses += 1
        place, identity = (key, lane), model.identity

        def launch(request: Request, done: Done) -> GiveUp:
            return self._queue.begin(state, request, id_is_generated=True, done=done, lane=lane)

        def is_over(flight: Flight) -> None:
            if model.flights.get(place) is flight:
                del model.flights[place]

        def landed(answer: Answer) -> Answer | None:
            return self._keep(model, key, identity, answer)

        flight = Flight(launch, self._clock, landed, is_over)
        model.flights.setdefault(place, flight)
        waiter = Waiter(request, self._clock() + request.ttl_ms / 1000, partial(_tell, done, b"headrace; fwd=miss"))
        flight.begin(waiter)
        return partial(flight.leave, waiter)

    def _keep(self, model: OfModel, key: Hashable, identity: Identity, answer: Answer) -> Answer | None:
        """Keep what a model answered, if it may serve others, and return it for those who wait; None for nothing."""
        reply = answer.reply
        if reply.at_store is not None:  # it is fetched there once, and then it is gone
            return None
        made_by = Identity(reply.model.version, reply.model.precision)
        if reply.fault is None and made_by == identity == model.identity:
            now_s = self._clock()
            model.answers.drop_older(now_s, model.settings.ttl_s, LOOKED_AT)
            # No consumer has any part in what is answered with it, so its durations are 0.
            kept = msgspec.structs.replace(reply, timing=Timing(), attempt=1)
            model.answers.put(key, kept, bytes_of(key) + _data_bytes(reply), now_s, is_short=answer.is_short)
        return answer


def _nobody(_: Answer | RequestError) -> None:
    """Be called."""


def _tell(done: Done, status: bytes, result: Answer | RequestError) -> None:
    """Say in an answer what the cache had to do with it (RFC 9211)."""
    done(msgspec.structs.replace(result, cache_status=status) if isinstance(result, Answer) else result)


def spared(status: bytes) -> str | None:
    """Return what the request log says of an answer with this ``Cache-Status``; None where its request was run."""
    if status.startswith(b"headrace; hit"):
        return request_log.HIT
    return request_log.JOINED if status.endswith(b"; collapsed") else None


def _data_bytes(reply: Reply) -> int:
    """Return about what a reply takes in memory."""
    predictions = sum(120 + len(one.label) for one in reply.predictions or ())
    outputs = sum(200 + len(one.data) for one in reply.outputs or ())
    return predictions + outputs + sum(map(len, reply.warnings))
