"""The work of a model on Redis: XREADGROUP to claim, ``hr1_commit`` to end, ``hr1_reclaim`` to recover."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, TypeVar

from shared import keys
from shared.redis import functions, library
from shared.redis.advice import told
from shared.redis.client import RedisError, ServerError, SyncLink, connect, is_demoted
from shared.redis.clock import RedisClock
from shared.settings import Settings
from shared.state import cards, desired_state, lanes
from shared.wire.reply_portion import Portion

from . import switch_turn
from .fair_share import FairShare
from .interface import FUTURE_MS, NO_ROOM, Claim, Completion, Dead, Depth, Entry, StreamDown, StreamGone
from .lane_costs import LaneCosts
from .redis_lanes import LaneReader, by_lane, depth, entries, lane_limits, milliseconds
from .redis_records import RedisRecords
from .redis_terminations import TerminationsReader
from .token_bytes import TokenBytes

log = logging.getLogger(__name__)
T = TypeVar("T")
MAIN = keys.DEFAULT_LANE


class RedisStream:
    """See :class:`consumer.queue.interface.WorkStream`.

    Args:
        settings: Redis address, lease and lane limit.
        model: whose work stream.
        worker: this consumer's name in the group.
    """

    def __init__(self, settings: Settings, model: str, worker: str) -> None:
        self.clock = RedisClock()
        self._settings = settings
        self._model, self._worker = model, worker
        self._work = keys.work(model, MAIN)
        self._stream_ms = settings.reply_expiry_ms(settings.max_timeout_ms)
        # Reading, committing, beating, renewing, listening and emitting each have a thread, and a connection once used.
        self._client = connect(settings.redis_address, settings.socket_timeout_s, settings.redis_ping_s, is_spared=True)
        self._links = tuple(SyncLink(self._client) for _ in range(6))
        self._reading, self._committing, self._beating, self._keeping, self._listening, emitting = self._links
        self._costs, self._token_bytes = LaneCosts(), TokenBytes()
        self._fair_share = FairShare({MAIN: 1.0}, self._costs)
        self._lanes = LaneReader(self._reading, model, worker, settings.block_ms)
        self._terminations = TerminationsReader(self._listening, model, settings.block_ms)
        self.records = RedisRecords(emitting, model, worker, settings, self._loaded, self._client)
        self._claimed_after: dict[str, bytes] = {}
        self._portion = Portion()
        self._found: list[bytes] = []
        self._scanned = 0
        self._has_loaded, self._may_load = False, True
        self._set_backs = 0
        self._was_demoted = False

    def read(self, max_entries: int, *, wait: bool = True) -> list[Entry]:
        """See the interface; waits for at most ``settings.block_ms``."""
        if self._claimed_after:
            return self._read_claimed(max_entries)
        fair_share = self._fair_share
        try:
            self._guard(lambda: self._reading.send(*self._reads(fair_share, max_entries, wait)))
            return self._guard(lambda: self._receive_read(fair_share, max_entries, wait))
        except StreamDown:
            self._note_lost_answer()
            raise

    def has_several_lanes(self) -> bool:
        """See the interface."""
        return len(self._fair_share.weights) > 1

    def read_priority(self, most: float, present: Mapping[str, float]) -> list[Entry]:
        """See the interface."""
        fair_share = self._fair_share
        if self._claimed_after or fair_share.is_alone:
            return []
        try:
            self._guard(lambda: self._reading.send(*self._lanes.look(tuple(fair_share.weights))))
            return self._guard(lambda: self._lanes.take_priority(fair_share, most, present))
        except StreamDown:
            self._note_lost_answer()
            raise

    def measure(self, entry: Entry, tokens: float) -> None:
        """See the interface."""
        self._token_bytes.measure(entry.lane, len(entry.message or b""), tokens)

    def charge(self, entry: Entry, cost: float) -> None:
        """See the interface."""
        self._costs.charge(entry.lane, cost, entry.charged)

    def _note_lost_answer(self) -> None:
        self._claimed_after = dict.fromkeys(self._fair_share.weights, b"0-0")

    def _read_claimed(self, max_entries: int) -> list[Entry]:
        """Read again what this worker holds: the server may have claimed entries for it whose answer was lost."""
        (lane, after), count = next(iter(self._claimed_after.items())), self._portion.of(max_entries)
        try:
            last, *rows = self._call(self._reading, functions.claimed(self._work_of(lane), self._worker, after, count))
        except StreamGone:
            del self._claimed_after[lane]  # with the group, what was claimed is forgotten
            raise
        except StreamDown:
            self._portion.lost(count)
            raise
        self._portion.came()
        if last:
            self._claimed_after[lane] = last
        else:
            del self._claimed_after[lane]
        return self._taken(rows, lane)

    def _taken(self, rows: Iterable[Any], lane: str) -> list[Entry]:
        return [Entry(entry, milliseconds(entry), message, seen + 1, lane) for entry, seen, message, *_ in rows]

    def _reads(self, fair_share: FairShare, max_entries: int, wait: bool = True) -> Sequence[tuple[Any, ...]]:
        """Return the commands of one read, whose answers :meth:`_receive_read` receives."""
        if not fair_share.is_alone:
            return self._lanes.look(tuple(fair_share.weights))
        count = ("COUNT", max_entries, *(("BLOCK", self._settings.block_ms) if wait else ()))
        return (("XREADGROUP", "GROUP", keys.GROUP, self._worker, *count, "STREAMS", self._work, b">"),)

    def _receive_read(self, fair_share: FairShare, max_entries: int, wait: bool = True) -> list[Entry]:
        if fair_share.is_alone:
            return entries(self._reading.receive(), MAIN)
        return self._lanes.take(fair_share, max_entries, wait)

    def commit_and_read(
        self, completions: Sequence[Completion], committed: Callable[[], None], max_entries: int
    ) -> list[Entry]:
        """See the interface."""
        if self._claimed_after:
            return self.read(max_entries)
        link, fair_share = self._reading, self._fair_share
        commits = self._commits(completions).values()
        try:
            self._guard(lambda: link.send(*commits, *self._reads(fair_share, max_entries)))
            answers = self._guard(lambda: link.receive_many(len(commits)))
            refused = [answer for answer in answers if isinstance(answer, ServerError)]
            if refused:
                log.warning("Committing together with reading failed (%s).", refused[0])
            else:
                statuses = [self._status(status) for answer in answers for status in answer]
                if NO_ROOM not in statuses:  # else all are committed again, which says which have no room
                    committed()
            return self._guard(lambda: self._receive_read(fair_share, max_entries))
        except StreamDown:
            self._note_lost_answer()
            raise

    def reclaim(self, max_entries: int) -> list[Entry]:
        """See the interface; lanes take turns in being looked at first."""
        served = [lane for lane in self._fair_share.weights if lane not in self._fair_share.paused]
        for _ in served:
            self._scanned = (self._scanned + 1) % len(served)
            lane = served[self._scanned]
            # Should the answer be lost, these are taken over once more; read with the others they would not run alone.
            reclaim = functions.reclaim(self._work_of(lane), self._worker, self._settings.lease_ms, max_entries)
            rows = self._call(self._reading, reclaim)
            if rows:
                return self._taken(rows, lane)
        return []

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
        answers = self._call_each(self._keeping, renewals)
        return [(lane, entry_id) for lane, lost in answers.items() for entry_id in lost]

    def reap(self) -> int:
        """See the interface; dead long ago means four leases."""
        idle_ms = 4 * self._settings.lease_ms
        reaps = [functions.reap(self._work_of(lane), idle_ms) for lane in self._fair_share.weights]
        return sum(int(self._call(self._keeping, reap)) for reap in reaps)

    def commit(self, completions: Sequence[Completion]) -> list[int]:
        """See the interface."""
        answers = self._call_each(self._committing, self._commits(completions))
        return self._statuses(answers, (one.lane for one in completions))

    def _commits(self, completions: Sequence[Completion]) -> dict[str, functions.Command]:
        found = by_lane(completions, attrgetter("lane"))
        return {lane: functions.commit(self._work_of(lane), self._stream_ms, some) for lane, some in found.items()}

    def _statuses(self, answers: Mapping[str, Iterable[Any]], lanes: Iterable[str]) -> list[int]:
        """Put what was answered for each lane in the order of the items, of which these are the lanes."""
        statuses = {lane: iter(answer) for lane, answer in answers.items()}
        return [self._status(next(statuses[lane], 0)) for lane in lanes]

    def _status(self, status: Any) -> int:
        if isinstance(status, int):
            return status
        if status == b"full":
            return NO_ROOM
        log.error("Redis refused to commit a reply: %s", status.decode(errors="replace"))
        return -1

    def end_answered(self, completions: Sequence[Completion]) -> list[bool]:
        """See the interface."""
        answers = {
            lane: self._call(self._reading, functions.answered(self._work_of(lane), self._stream_ms, some))
            for lane, some in by_lane(completions, attrgetter("lane")).items()
        }
        return [status == 1 for status in self._statuses(answers, (one.lane for one in completions))]

    def dead_letter(self, dead: Sequence[Dead]) -> list[int]:
        """See the interface."""
        answers = {
            lane: self._call(None, functions.dead(self._work_of(lane), self._stream_ms, some))
            for lane, some in by_lane(dead, attrgetter("completion.lane")).items()
        }
        return self._statuses(answers, (one.completion.lane for one in dead))

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
        if self._was_demoted:  # what only reads would stay with a server that is a replica now
            self._was_demoted = False
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
        paused = lanes.paused(pairs) & weights.keys()
        if weights != self._fair_share.weights or paused != self._fair_share.paused:
            said = [f"{name} {'paused' if name in paused else f'{one:g}'}" for name, one in weights.items()]
            log.info("Lanes and their weights: %s.", ", ".join(said))
            self._fair_share = FairShare(weights, self._costs, paused)

    def _make_lanes_anew(self) -> None:
        """Give what is in the lanes ids of now: with ids of before the clock was set back they would be dead letters.

        In ``default`` they count as added when they are read, so it is left as it is.
        """
        seen = self.clock.set_backs
        log.warning("Redis's clock was set back; recreating lanes whose newest id lies in the future.")
        for lane in self._fair_share.weights:
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
        for lane in self._fair_share.weights:
            self._call(self._beating, functions.leave(self._work_of(lane), self._worker))

    def terminations(self) -> list[Claim]:
        """See the interface; waits for at most ``settings.block_ms``."""
        return self._guard(lambda: self._terminations.read(tuple(self._fair_share.weights)))

    def hears_of_hand_overs(self) -> bool:
        """See the interface."""
        heard, self._terminations.hears_of_hand_overs = self._terminations.hears_of_hand_overs, False
        return heard

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
        served, now_ms = self._fair_share.weights, self.clock.now_ms()
        return self._guard(lambda: {lane: depth(self._client, self._model, lane, now_ms) for lane in served})

    def close(self) -> None:
        """See the interface."""
        for link in self._links:
            link.close()
        self._client.close()

    def _work_of(self, lane: str) -> str:
        return self._work if lane == MAIN else keys.work(self._model, lane)

    def _call(self, link: SyncLink | None, command: functions.Command) -> Any:
        """Call a function, on any connection when ``link`` is None; load the functions where they are missing."""
        send = self._client.execute_command if link is None else link.call
        return self._loaded(lambda: send(*command))

    def _call_each(self, link: SyncLink, commands: Mapping[str, functions.Command]) -> dict[str, Sequence[Any]]:
        """Call a function for several lanes in one round trip; return the answers by lane.

        A lane that is gone answers nothing; that must not keep the others from being answered.
        """
        if len(commands) == 1:
            ((lane, command),) = commands.items()
            return {lane: self._call(link, command)}

        def call() -> dict[str, Sequence[Any]]:
            answers = dict(zip(commands, link.call_many(tuple(commands.values())), strict=True))
            for lane, answer in answers.items():
                if isinstance(answer, ServerError):
                    if not str(answer).startswith("NOGROUP"):
                        raise answer
                    answers[lane] = ()
            return answers

        return self._loaded(call)

    def _loaded(self, call: Callable[[], T]) -> T:
        return self._guard(lambda: library.call_loaded(self._client, call))

    def _guard(self, step: Callable[[], T]) -> T:
        try:
            return step()
        except RedisError as error:
            self._was_demoted = self._was_demoted or is_demoted(error)
            if isinstance(error, ServerError) and str(error).startswith(("NOGROUP", "UNBLOCKED")):
                raise StreamGone(str(error)) from error
            raise StreamDown(told(error)) from error
