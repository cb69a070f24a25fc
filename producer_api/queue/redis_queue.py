"""The queue on Redis [I/O]; see :class:`producer_api.queue.interface.Queue`."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from producer_api.background import forever
from producer_api.load.cold_room import ColdRoom
from shared.keys import DEFAULT_LANE, FRONT_END
from shared.process.logs import about
from shared.redis.advice import told
from shared.redis.client import Link, NotPrimary, RedisError, connect_async
from shared.settings import Settings
from shared.state.desired_state import Serving
from shared.wire.bodies import LEAST_BYTES, At, Owner
from shared.wire.fast import decode_reply
from shared.wire.messages import Reply, Request
from shared.wire.outcomes import INTERNAL, OVERLOADED, QUEUE_UNAVAILABLE, SHUTTING_DOWN, UNKNOWN_OUTCOME, RequestError
from shared.wire.trace_context import sampled_trace_id

from .admission import check_cold, check_gaps, check_lane, check_wait, find_model, no_room, refusal
from .admitter import Instruments
from .body_store import BodyStore
from .catalogue import CatalogueReader
from .channel import Channel
from .held import HeldRequests
from .interface import Answer, Catalogue, GiveUp, ModelState, Parts, Standing
from .lookup import Lookup
from .shared_wait import SharedWait

log = logging.getLogger(__name__)

SHORT_BYTES = 4096
"""A reply of so many bytes has fewer predictions and bytes of outputs than take long to encode."""

PATIENT_SHARE = 4
"""Requests of batch lanes hold one in so many of a front end's places: they may wait long, and others need the rest."""
PATIENT_RETRY_S = 10

REFRESH_S = 1.0
REFRESH_WHEN_AWAY_S = 0.25
REFRESH_WHEN_LOADING_S = 0.1
"""While a consumer loads: clients that wait for it should not wait for us, too."""


class QueueInstruments(Instruments, Protocol):
    """What the queue measures itself with."""

    @property
    def reply_wait(self) -> Any:
        """Histogram of seconds from submitting to the reply; ``of(model, lane)`` is a series of it."""

    @property
    def transport(self) -> Any:
        """Histogram series: that wait minus the consumer's own durations."""

    @property
    def bodies_resent(self) -> Any:
        """Counter of bodies that went through the queue after all."""

    def watch_bodies(self, used_bytes: Callable[[], int]) -> None:
        """Show what bodies in shared memory take."""

    def watch_held(self, counts: Callable[[], Mapping[str, int]], held_bytes: Callable[[], int]) -> None:
        """Show how many requests wait for a consumer of each model, and what the bodies take that wait here."""


class RedisQueue:
    """Admits through Redis functions and waits on reply streams, one channel per model and lane.

    Args:
        settings: Redis address, limits and the lease that all waits are scaled by.
        instruments: where durations and errors are counted.
        configured: models that the settings name: they count as loading until one of their consumers has reported.

    Attributes:
        instance: name of this process, under which it waits for replies.
    """

    def __init__(self, settings: Settings, instruments: QueueInstruments, configured: Iterable[str] = ()) -> None:
        self._settings, self._instruments, self._configured = settings, instruments, tuple(configured)
        self.instance = f"{FRONT_END}{secrets.token_hex(8)}"
        self._catalogue = Catalogue()
        self._channels: dict[tuple[str, str], Channel] = {}
        self._max_wait_s = settings.max_wait_ms / 1000 or math.inf
        self._bodies = BodyStore(self.instance, settings.shared_bodies_mb << 20)
        instruments.watch_bodies(lambda: self._bodies.used_bytes)
        self._room = ColdRoom(max(1, settings.max_in_flight // 2), settings.receiving_limit_bytes // 2)
        instruments.watch_held(self._room.counts, lambda: self._room.held_bytes)
        self._closed = self._was_demoted = False
        self._refresher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """See the interface."""
        settings = self._settings
        self._client = connect_async(
            settings.redis_address, settings.socket_timeout_s, settings.redis_ping_s, is_spared=True
        )
        self._catalogue_link = Link(self._client)
        self._lookup = Lookup(self._client, self._settings.socket_timeout_s)
        holds = settings.hold_while_cold == "on"
        self._reader = CatalogueReader(self._catalogue_link, settings.lease_ms, self._configured, holds=holds)
        self._held = HeldRequests(self._room)
        await self._refresh()
        self._refresher = asyncio.create_task(
            forever("Reading the list of models", self._refresh_forever, lambda: self._closed)
        )

    async def close(self) -> None:
        """See the interface."""
        self._closed = True  # see Channel.close
        if self._refresher is not None:
            self._refresher.cancel()
            await asyncio.gather(self._refresher, return_exceptions=True)
        self._held.close()
        for channel in self._channels.values():
            await channel.close()
        await self._lookup.close()
        await self._catalogue_link.close()
        await self._client.aclose()
        self._bodies.close()

    def catalogue(self) -> Catalogue:
        """See the interface."""
        return self._catalogue

    async def _refresh(self) -> None:
        asked_s = time.perf_counter()
        try:
            fresh = await self._reader.read()
            self._tell_backlogs(fresh, asked_s)
            # Consumers write again to a server that lost its data, within a heartbeat; until then a model is away.
            known = self._catalogue.models
            away = {name: ModelState(name, state.card, lanes=state.lanes) for name, state in known.items()}
            self._catalogue = Catalogue({**away, **fresh.models}, redis_ok=True, memory_full=fresh.memory_full)
            for (model, lane), channel in self._channels.items():
                channel.set_limit(self._catalogue.models[model].lanes.get(lane))
                state = self._catalogue.models[model]
                channel.set_bytes(state.bytes.get(lane), state.lengths.get(lane, 0))
            await self._close_channels_of_removed_lanes()
            for name, state in fresh.models.items():
                if state.workers:
                    self._room.served(name)
                elif state.cold is not None and state.cold.is_coming:
                    self._room.heeded(name)
            self._held.look(self._catalogue)
            if self._was_demoted:
                self._connect_anew()
        except (RedisError, OSError) as error:
            if self._catalogue.redis_ok:
                log.warning("Redis does not answer: %s", told(error))
            self._instruments.redis_errors.inc()
            self._catalogue = Catalogue(self._catalogue.models, redis_ok=False)
            self._was_demoted = self._was_demoted or isinstance(error, NotPrimary)
        except Exception:  # whatever Redis contains, the next snapshot must be taken
            log.exception("The list of models cannot be read.")

    async def _close_channels_of_removed_lanes(self) -> None:
        """Close those without a request: each reads two streams, on connections of its own."""
        for model, lane in tuple(self._channels):
            is_there = lane == DEFAULT_LANE or lane in self._catalogue.models[model].lanes
            if not is_there and self._channels[model, lane].is_idle:
                await self._channels.pop((model, lane)).close()

    def _connect_anew(self) -> None:
        """Leave a server that is a replica now, with everything: what only reads would stay there without an error."""
        self._was_demoted = False
        self._lookup.connect_anew()
        for channel in self._channels.values():
            channel.connect_anew()

    def _tell_backlogs(self, fresh: Catalogue, asked_s: float) -> None:
        now_s, before = time.perf_counter(), self._catalogue.models
        for (model, lane), channel in self._channels.items():
            states = (before.get(model), fresh.models.get(model))
            length = None if states[1] is None else states[1].lengths.get(lane)
            if length is not None:
                channel.backlog.seen(length, asked_s)
            if any(state is not None and state.serving is Serving.PAUSED for state in states):
                channel.backlog.paused(now_s)

    async def _refresh_forever(self) -> None:
        while not self._closed:
            await asyncio.sleep(self._pause_s())
            away = not self._catalogue.redis_ok
            await self._refresh()
            if away and self._catalogue.redis_ok:
                log.info("Redis answers.")

    def _pause_s(self) -> float:
        if not self._catalogue.redis_ok:
            return REFRESH_WHEN_AWAY_S
        return REFRESH_WHEN_LOADING_S if self._reader.expects else REFRESH_S

    def _channel(self, state: ModelState, lane: str) -> Channel:
        channel = self._channels.get((state.name, lane))
        if channel is None:
            waits = self._instruments.reply_wait.of(state.name, lane)
            channel = Channel(self._client, self._settings, state.name, self.instance, self._instruments, waits, lane)
            channel.set_limit(state.lanes.get(lane))
            channel.set_bytes(state.bytes.get(lane), state.lengths.get(lane, 0))
            channel.start()
            self._channels[state.name, lane] = channel
        return channel

    def begin(
        self,
        state: ModelState,
        request: Request,
        *,
        id_is_generated: bool,
        done: Callable[[Answer | RequestError], None],
        fingerprint: str = "",
        lane: str = DEFAULT_LANE,
        run_ms: int = 0,
        parts: Parts | None = None,
    ) -> GiveUp:
        """See the interface."""
        if self._closed:
            raise refusal(SHUTTING_DOWN, "The front end is shutting down.", request.id)
        if state.cold is not None:
            return self._begin_cold(state, request, id_is_generated, done, fingerprint, lane, run_ms, parts)
        channel, service = self._channel(state, lane), state.service
        if service is not None and service.unit_rate:
            service = channel.service_for(service)
        backlog, waits = channel.backlog, channel.waits
        begun_s, ahead = time.perf_counter(), backlog.length
        backlog.service = service
        if state.batch_lanes and lane in state.batch_lanes:
            self._check_patient(channel, request, ahead)
            service = None  # what answers take there says nothing of what they would take without waiting for gaps
        elif service is not None and ahead >= service.wave:
            limit_s = min(request.ttl_ms / 1000, self._max_wait_s)
            check_wait(backlog, service, limit_s, begun_s, own_s=service.batch_s if run_ms else 0.0)

        def ended(result: bytes | RequestError) -> None:
            waited_s = time.perf_counter() - begun_s
            end = result if isinstance(result, RequestError) else self._answer(request, result, waited_s, waits)
            if service is not None and id_is_generated and not run_ms:  # others may join a wait that began before
                if not isinstance(end, RequestError):
                    if end.reply.fault is None:  # bad input has no turn to wait for
                        backlog.answered(service, ahead, waited_s, begun_s)
                elif end.outcome is UNKNOWN_OUTCOME:
                    backlog.answered(service, ahead, waited_s, begun_s, or_longer=True)
            done(end)

        at = self._shared_place(state, request, channel, lane) if id_is_generated and not run_ms else None
        if at is not None:
            return SharedWait(channel, self._bodies, request, at, ended, self._instruments.bodies_resent.inc).give_up
        return channel.begin(
            request,
            id_is_generated=id_is_generated,
            done=ended,
            fingerprint=fingerprint,
            run_ms=run_ms,
            parts=parts,
        ).give_up

    def _check_patient(self, channel: Channel, request: Request, ahead: int) -> None:
        """Refuse a request of a batch lane that cannot be answered in time, or whose like hold too many places here.

        Raises:
            RequestError: ``WAIT_TOO_LONG``, ``OVERLOADED``.
        """
        service, most = channel.backlog.service, max(1, self._settings.max_in_flight // PATIENT_SHARE)
        if service is not None:
            check_gaps(service, ahead, min(request.ttl_ms / 1000, self._max_wait_s))
        models = self._catalogue.models
        held = sum(one.waiting for (name, lane), one in self._channels.items() if lane in models[name].batch_lanes)
        if held >= most:
            message = (
                f"{held} clients wait here for answers from batch lanes, as many as may: use Prefer: respond-async."
            )
            raise refusal(OVERLOADED, message, request.id, PATIENT_RETRY_S)

    def _begin_cold(
        self,
        state: ModelState,
        request: Request,
        id_is_generated: bool,
        done: Callable[[Answer | RequestError], None],
        fingerprint: str,
        lane: str,
        run_ms: int,
        parts: Parts | None,
    ) -> GiveUp:
        """Admit what is to wait for a consumer to live: from there on the queue has it, like everything else."""
        assert state.cold is not None
        channel = self._channel(state, lane)
        backlog, begun_s = channel.backlog, time.perf_counter()
        wait_s = state.cold.wait_s(max(backlog.length, state.lengths.get(lane, 0)), backlog.slowness)
        limit_s = min(request.ttl_ms / 1000, self._max_wait_s)
        check_cold(state, self._room, wait_s, limit_s, begun_s)
        place = self._room.enter(state.name)
        if place is None:
            raise no_room(state, self._room, wait_s)

        def ended(result: bytes | RequestError) -> None:
            place.leave()
            if not isinstance(result, RequestError):
                done(self._answer(request, result, time.perf_counter() - begun_s, channel.waits))
                return
            if result.outcome is UNKNOWN_OUTCOME:  # where no consumer has come, nothing else would remove it
                wait.withdraw()
            done(result)

        def gave_up() -> None:
            place.leave()
            wait.give_up()

        try:
            wait = channel.begin(
                request,
                id_is_generated=id_is_generated,
                done=ended,
                fingerprint=fingerprint,
                run_ms=run_ms,
                parts=parts,
            )
        except BaseException:
            place.leave()
            raise
        return gave_up

    def await_card(
        self,
        state: ModelState,
        size_bytes: int,
        limit_s: float,
        go_on: Callable[[], None],
        refused: Callable[[RequestError], None],
    ) -> GiveUp:
        """See the interface."""
        if self._closed:
            raise refusal(SHUTTING_DOWN, "The front end is shutting down.")
        assert state.cold is not None
        wait_s, limit_s = state.cold.wait_s(0, 1.0), min(limit_s, self._max_wait_s)
        check_cold(state, self._room, wait_s, limit_s, time.perf_counter())
        place = self._room.enter(state.name, size_bytes)
        if place is None:
            raise no_room(state, self._room, wait_s)
        return self._held.hold(state.name, place, limit_s, go_on, refused)

    def _shared_place(self, state: ModelState, request: Request, channel: Channel, lane: str) -> At | None:
        """Keep the body in shared memory, if all of the model's consumers read it there. Only where the id is ours:
        a client that can ask again with its own id needs a request that is complete without this process."""
        body = request.body
        if body is None or len(body) < LEAST_BYTES or not state.bodies or state.bodies != self._bodies.identity:
            return None
        # A lane that is nearly full of bytes is asked what it takes, as for every large body.
        if not channel.account.surely_takes(len(body)):
            return None
        return self._bodies.put(body, Owner(state.name, lane, request.id))

    async def find(self, model: str, request_id: str, lane: str = DEFAULT_LANE) -> Reply | Standing:
        """See the interface."""
        name = self._place(model, request_id, lane)
        return await self._lookup.find(name, lane, request_id)

    async def cancel(self, model: str, request_id: str, lane: str = DEFAULT_LANE) -> Standing:
        """See the interface."""
        name = self._place(model, request_id, lane)
        return await self._lookup.cancel(name, lane, request_id)

    def _place(self, model: str, request_id: str, lane: str) -> str:
        """Return the name of the model that has the request, if it has such a lane."""
        state = find_model(self._catalogue, model, request_id)
        if not self._catalogue.redis_ok:
            raise refusal(QUEUE_UNAVAILABLE, "Redis does not answer.")
        if lane != DEFAULT_LANE:
            check_lane(state, lane)
        return state.name

    def _answer(self, request: Request, message: bytes, waited_s: float, waits: Any) -> Answer | RequestError:
        try:
            reply = decode_reply(message)
            timing = reply.timing
            ran_s = (timing.queue + timing.wait + timing.run) / 1e6
        except Exception as error:  # whatever a consumer sent, it must not end the task that reads all replies
            log.error("A consumer's reply cannot be read: %r", error, extra=about(request.id, request.traceparent))
            return RequestError(INTERNAL, "The reply cannot be read.", request_id=request.id)
        trace = None if request.traceparent is None else sampled_trace_id(request.traceparent)
        if trace is None:
            waits.observe(waited_s)
            self._instruments.transport.observe(waited_s - ran_s)
        else:
            waits.observe_traced(waited_s, trace, time.time())
            self._instruments.transport.observe_traced(waited_s - ran_s, trace, time.time())
        return Answer(reply, len(message) <= SHORT_BYTES)
