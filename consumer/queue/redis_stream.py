"""The work of a model on Redis: ``hr1_commit`` to end, ``hr1_renew`` to keep; `redis_claiming.py` claims."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from shared import keys
from shared.redis import functions, library
from shared.redis.client import ServerError, SyncLink, connect
from shared.redis.clock import RedisClock
from shared.settings import Settings
from shared.state import cards, desired_state, lanes

from . import switch_turn
from .interface import FUTURE_MS, Claim, Completion, Dead, Depth, Entry, StreamDown
from .redis_calls import RedisCalls
from .redis_claiming import RedisClaiming
from .redis_lanes import by_lane, depth, lane_limits
from .redis_records import RedisRecords
from .redis_terminations import TerminationsReader
from .token_bytes import TokenBytes

log = logging.getLogger(__name__)
MAIN = keys.DEFAULT_LANE


class RedisStream(RedisClaiming):
    """See :class:`consumer.queue.interface.WorkStream`.

    Args:
        settings: Redis address, lease and lane limit.
        model: whose work stream.
        worker: this consumer's name in the group.
    """

    def __init__(self, settings: Settings, model: str, worker: str) -> None:
        client = connect(settings.redis_address, settings.socket_timeout_s, settings.redis_ping_s, is_spared=True)
        # Reading, committing, beating, renewing, listening and emitting each have a thread, and a connection once used;
        # so has reading for lanes of kind ``batch``.
        self._links = tuple(SyncLink(client) for _ in range(7))
        reading, self._committing, self._beating, self._keeping, self._listening, emitting, beside = self._links
        calls = RedisCalls(client, model, settings.reply_expiry_ms(settings.max_timeout_ms))
        super().__init__(calls, reading, model, worker, settings, {MAIN: 1.0})
        self.batch = RedisClaiming(calls, beside, model, worker, settings, {})
        self.clock = RedisClock()
        self._client, self._work = client, keys.work(model, MAIN)
        self._token_bytes = TokenBytes()
        self._terminations = TerminationsReader(self._listening, model, settings.block_ms)
        self.records = RedisRecords(emitting, model, worker, settings, calls.loaded, client)
        self._found: list[bytes] = []
        self._has_loaded, self._may_load = False, True
        self._set_backs = 0

    def measure(self, entry: Entry, tokens: float) -> None:
        """See the interface."""
        self._token_bytes.measure(entry.lane, len(entry.message or b""), tokens)

    def charge(self, entry: Entry, cost: float) -> None:
        """See the interface."""
        if entry.charged and entry.lane in self.batch.lanes:
            self.batch.charge(entry, cost)
        else:
            super().charge(entry, cost)

    def begin_isolated(self, entry: Entry) -> bool:
        """See the interface."""
        begin = functions.begin(self._work_of(entry.lane), self._worker, entry.entry_id, entry.attempt)
        return bool(self._call(None, begin))

    def renew(self, claims: Sequence[Claim]) -> list[Claim]:
        """See the interface."""
        held: dict[str, list[bytes]] = {}
        for lane, entry_id in claims:
            held.setdefault(lane, []).append(entry_id)
        renewals = {lane: functions.renew(self._work_of(lane), self._worker, ids) for lane, ids in held.items()}
        answers = self._calls.call_each(self._keeping, renewals)
        return [(lane, entry_id) for lane, lost in answers.items() for entry_id in lost]

    def reap(self) -> int:
        """See the interface; dead long ago means four leases."""
        idle_ms = 4 * self._settings.lease_ms
        reaps = [functions.reap(self._work_of(lane), idle_ms) for lane in self._served()]
        return sum(int(self._call(self._keeping, reap)) for reap in reaps)

    def commit(self, completions: Sequence[Completion]) -> list[int]:
        """See the interface."""
        answers = self._calls.call_each(self._committing, self._calls.commits(completions))
        return self._calls.statuses(answers, (one.lane for one in completions))

    def dead_letter(self, dead: Sequence[Dead]) -> list[int]:
        """See the interface."""
        answers = {
            lane: self._call(None, functions.dead(self._work_of(lane), self._stream_ms, some))
            for lane, some in by_lane(dead, attrgetter("completion.lane")).items()
        }
        return self._calls.statuses(answers, (one.completion.lane for one in dead))

    def heartbeat(self, card: cards.Card, state: Mapping[str, str]) -> None:
        """See the interface."""
        self._keep_functions()
        settings = self._settings
        said = {**state, **lane_limits(settings, card), "token_bytes": self._token_bytes.published()}
        lease_ms, limit, fields = settings.lease_ms, settings.lane_limit, cards.to_hash(card)
        heartbeat = functions.heartbeat(self._work, self._worker, lease_ms, limit, said, fields)
        self._find_lanes()
        before_s = time.monotonic()
        now_ms, *_ = self._call(self._beating, heartbeat)
        self.clock.observe(now_ms, before_s, time.monotonic())
        if self._calls.was_demoted:  # what only reads would stay with a server that is a replica now
            self._calls.was_demoted = False
            self._listening.renew()
            self._client.connection_pool.disconnect(inuse_connections=False)
        if self.clock.set_backs > self._set_backs:
            self._make_lanes_anew()
        # The list of models lives in another hash slot, so it cannot be part of the function's step. A full server
        # refuses it; a consumer that could not start because of that could not empty the server either.
        with contextlib.suppress(StreamDown):
            self._guard(lambda: self._client.zadd(keys.MODELS, {self._model: now_ms}))
        self._keep_alive()

    def _keep_alive(self) -> None:
        """Look after the connections that nobody uses just now; where one is lost others will be."""
        if not all(link.keep_alive() for link in self._links):
            log.warning("A connection to Redis was lost while it was idle; reopening the idle ones.")
            for link in self._links:
                link.renew()

    def _find_lanes(self) -> None:
        found: Any = self._call(self._beating, functions.lanes(self._work))
        if not found and self._found:  # the server has lost its data: default would be there
            self._guard(lambda: self._client.hset(keys.lanes(self._model), items=self._found))
            found = self._call(self._beating, functions.lanes(self._work))
        self._found = found
        pairs = [*zip(found[::2], found[1::2], strict=True)]
        weights = {name: one.weight for name, one in lanes.from_pairs(pairs).items()}
        paused, batch = lanes.paused(pairs), lanes.batch_lanes(pairs) - {MAIN}
        of_now = {name: weight for name, weight in weights.items() if name not in batch}
        of_later = {name: weight for name, weight in weights.items() if name in batch}
        hurried = self._hurried() & of_later.keys() if of_later else frozenset()
        self.batch.hurries = bool(hurried)
        waiting = of_later.keys() - hurried if hurried else frozenset()  # what is urgent is not in them
        is_new = [self.batch.serve(of_later, paused | waiting), self.serve(of_now, paused)]
        if any(is_new):
            kinds = dict.fromkeys(of_later, " (batch)")
            said = [
                f"{name}{kinds.get(name, '')} {'paused' if name in paused else f'{one:g}'}"
                for name, one in weights.items()
            ]
            log.info("Lanes and their weights: %s.", ", ".join(said))

    def _hurried(self) -> frozenset[str]:
        """Return the batch lanes in which something is urgent, so that nothing in them may wait."""
        look = (("TIME",), ("ZRANGE", keys.hurried(self._model), 0, -1, "WITHSCORES"))
        clock, found = self._guard(lambda: self._beating.call_many(look))
        if isinstance(clock, ServerError) or isinstance(found, ServerError):
            return frozenset()  # a key of another type, or rights of before there was one
        now_ms, pairs = int(clock[0]) * 1000, zip(found[::2], found[1::2], strict=True)
        return frozenset(name.decode(errors="replace") for name, until_ms in pairs if float(until_ms) > now_ms)

    def _served(self) -> tuple[str, ...]:
        """Return all lanes, of whichever kind."""
        return (*self.lanes, *self.batch.lanes)

    def _make_lanes_anew(self) -> None:
        """Give what is in the lanes ids of now: with ids of before the clock was set back they would be dead letters.

        In ``default`` they count as added when they are read, so it is left as it is.
        """
        seen = self.clock.set_backs
        log.warning("Redis's clock was set back; recreating lanes whose newest id lies in the future.")
        for lane in self._served():
            if lane != MAIN:
                self._call(self._beating, functions.repair(self._work_of(lane), lanes.MOST_LIMIT, FUTURE_MS))
        self._set_backs = seen

    def _keep_functions(self) -> None:
        """Replace functions that an older release has left on the server, or has put there, where that is permitted."""
        if self._has_loaded:
            if not (self._may_load and self._guard(self._are_older)):
                return
            log.warning("A process of an older release has replaced the functions; loading them again.")
        try:
            self._guard(lambda: library.load(self._client))
        except StreamDown as error:
            if not isinstance(error.__cause__, ServerError):
                raise
            log.info("The functions were not loaded (%s); those on the server are used.", error)
            self._may_load = False
        self._has_loaded = True

    def _are_older(self) -> bool:
        try:
            return bool(self._beating.call(*functions.version(self._work)) < library.VERSION)
        except ServerError as error:
            if library.is_missing(error):
                return True
            raise

    def ask_time(self) -> None:
        """See the interface."""
        before_s = time.monotonic()
        seconds, microseconds = self._guard(lambda: self._client.time())
        self.clock.observe(int(seconds) * 1000 + int(microseconds) / 1000, before_s, time.monotonic())

    def leave(self) -> None:
        """See the interface."""
        for lane in self._served():
            self._call(self._beating, functions.leave(self._work_of(lane), self._worker))

    def terminations(self) -> list[Claim]:
        """See the interface; waits for at most ``settings.block_ms``."""
        news = self._guard(lambda: self._terminations.read(self._served()))
        if self._terminations.hears_of_hand_overs:
            self._terminations.hears_of_hand_overs = False
            self.heard_of_hand_overs = self.batch.heard_of_hand_overs = True
        return news

    def desired_precision(self) -> desired_state.DesiredPrecision | None:
        """See the interface."""
        key = keys.desired_state(self._model)
        found: Any = self._guard(lambda: self._client.hmget(key, [desired_state.PRECISION, desired_state.TOKEN]))
        return desired_state.from_fields(*found)

    def serving(self) -> desired_state.Serving:
        """See the interface."""
        found = self._guard(lambda: self._client.hget(keys.desired_state(self._model), desired_state.SERVING))
        return desired_state.serving_from(found)

    def take_turn(self) -> bool:
        """See the interface."""
        return self._guard(lambda: switch_turn.take(self._client, self._model, self._worker, self._settings.lease_ms))

    def end_turn(self) -> None:
        """See the interface."""
        self._guard(lambda: switch_turn.end(self._client, self._model, self._worker))

    def depth(self) -> dict[str, Depth]:
        """See the interface. XINFO's lag is not used: it is unknown whenever the last delivered entry is deleted."""
        served, now_ms = self._served(), self.clock.now_ms()
        return self._guard(lambda: {lane: depth(self._client, self._model, lane, now_ms) for lane in served})

    def close(self) -> None:
        """See the interface."""
        for link in self._links:
            link.close()
        self._client.close()
