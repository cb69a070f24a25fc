"""Equal requests of a model whose card allows it: one inference for all that come at the same time, and its answer for
those that come later. No I/O: the queue does that.

What is kept is in the memory of this process: a hit costs a digest and a look into a dict, and no other front end need
agree. So each front end asks its consumers once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import partial

import msgspec

from producer_api.auth import Client
from producer_api.queue.interface import Answer, GiveUp, ModelState, Queue
from shared.state.cards import CacheSettings
from shared.wire import request_log
from shared.wire.messages import Reply, Request, Timing
from shared.wire.outcomes import RequestError

from .flight import Done, Flight, Waiter
from .freshness import Freshness
from .key import Identity, key_of
from .result_cache import Entry, ResultCache

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

    Attributes:
        answers: those that were given.
        counts: requests by what became of them.
    """

    def __init__(self, settings: CacheSettings) -> None:
        self.settings, self.identity = settings, Identity("", "")
        self.answers = ResultCache(settings.limit_bytes)
        self.flights: dict[tuple[bytes, str], Flight] = {}
        self.counts: Counter[Found] = Counter(dict.fromkeys(Found, 0))

    def is_now(self, settings: CacheSettings, identity: Identity) -> None:
        """Take in what the model's card says: answers of another version are forgotten."""
        if settings != self.settings:
            self.settings = settings
            self.answers.set_limit(settings.limit_bytes)
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
        settings: CacheSettings,
        request: Request,
        client: Client | None,
        freshness: Freshness,
        done: Callable[[Answer | RequestError], None],
        lane: str,
    ) -> GiveUp:
        """Answer a request, from here or by way of the queue; see :meth:`producer_api.queue.interface.Queue.begin`.

        Args:
            state: the model, which has a card.
            settings: its card's.
            client: who asks; None where no key is required.
            freshness: which answers it takes.
            done: may be called before this returns.
        """
        assert state.card is not None
        model = self._of.get(state.name)
        if model is None:
            model = self._of[state.name] = OfModel(settings)
        model.is_now(settings, Identity(state.card.version, state.card.precision))
        tenant = client.key.digest if client is not None and settings.scope == "key" else b""
        key = key_of(request, model.identity, tenant) if freshness.may_store or freshness.may_read else None
        if key is None:
            return self._pass(model, state, request, done, lane)
        if freshness.may_read:
            now_s = self._clock()
            entry = model.answers.get(key, now_s, min(settings.ttl_s, freshness.max_age_s))
            if entry is not None:
                model.counts[Found.HIT] += 1
                done(_hit(entry, request.id, now_s, settings.ttl_s))
                return _nothing
            flight = model.flights.get((key, lane))
            if flight is not None:
                return self._join(model, flight, request, done)
        return self._ask(model, key, state, request, done, lane)

    def _pass(self, model: OfModel, state: ModelState, request: Request, done: Done, lane: str) -> GiveUp:
        model.counts[Found.PASSED] += 1
        told = partial(_tell, done, b"headrace; fwd=bypass")
        return self._queue.begin(state, request, id_is_generated=True, done=told, lane=lane)

    def _join(self, model: OfModel, flight: Flight, request: Request, done: Done) -> GiveUp:
        model.counts[Found.JOINED] += 1
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

    def _ask(self, model: OfModel, key: bytes, state: ModelState, request: Request, done: Done, lane: str) -> GiveUp:
        """Put it into the queue. Equal ones join it, unless one that asked for something fresh was there before."""
        model.counts[Found.MISS] += 1
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

    def _keep(self, model: OfModel, key: bytes, identity: Identity, answer: Answer) -> Answer | None:
        """Keep what a model answered, if it may serve others, and return it for those who wait; None for nothing."""
        reply = answer.reply
        if reply.at_store is not None:  # it is fetched there once, and then it is gone
            return None
        made_by = Identity(reply.model.version, reply.model.precision)
        if reply.fault is None and made_by == identity == model.identity:
            now_s = self._clock()
            model.answers.drop_older(now_s, model.settings.ttl_s, LOOKED_AT)
            model.answers.put(key, reply, _data_bytes(reply), now_s, is_short=answer.is_short)
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


def _hit(entry: Entry, request_id: str, now_s: float, ttl_s: float) -> Answer:
    """Make the answer to another request of what was kept. No consumer had any part in it, so its durations are 0."""
    age_s = now_s - entry.stored_s
    reply = msgspec.structs.replace(entry.reply, id=request_id, timing=Timing(), attempt=1)
    return Answer(reply, entry.is_short, b"headrace; hit; ttl=%d" % (ttl_s - age_s))


def _data_bytes(reply: Reply) -> int:
    """Return about what a reply takes in memory."""
    predictions = sum(120 + len(one.label) for one in reply.predictions or ())
    outputs = sum(200 + len(one.data) for one in reply.outputs or ())
    return predictions + outputs + sum(map(len, reply.warnings))
