"""A model's work in memory. It keeps the same promises as that on Redis; ``tests/contract`` holds both to them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from consumer.queue.fair_share import FairShare
from consumer.queue.interface import (
    NO_ROOM,
    Claim,
    Completion,
    Dead,
    Depth,
    Emission,
    Emitted,
    Entry,
    Record,
    StreamDown,
    StreamGone,
)
from consumer.queue.lane_costs import LaneCosts
from shared.keys import DEFAULT_LANE
from shared.limits import HINT_LIMIT_BYTES, REPLY_STREAM_CAP
from shared.redis.clock import RedisClock
from shared.settings import Settings
from shared.state.cards import Card, to_hash
from shared.state.desired_state import DesiredPrecision, Serving

EntryKey = tuple[int, int]


def _wall_ms() -> float:
    return time.time() * 1000.0


@dataclass(slots=True)
class _Lease:
    consumer: str
    since_ms: float
    deliveries: int = 1


@dataclass(slots=True)
class _Group:
    delivered: EntryKey = (0, 0)
    pending: dict[EntryKey, _Lease] = field(default_factory=dict)
    consumers: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Stream:
    entries: dict[EntryKey, dict[bytes, bytes]] = field(default_factory=dict)
    last: EntryKey = (0, 0)
    group: _Group | None = None


class InMemoryLane:
    """What the server holds for one lane; every consumer's :class:`InMemoryStream` looks at the same one.

    The lane ``default`` also holds what belongs to the whole model, and knows the others.

    Args:
        now_ms: the server's clock.

    Attributes:
        down: while true the server answers nobody.
        limit_bytes: what the stored replies may take.
        lost_answers: how many of the next commits take effect although their answer is lost.
    """

    def __init__(self, now_ms: Callable[[], float] = _wall_ms) -> None:
        self.now_ms = now_ms
        self.changed = threading.Condition()
        self.down = False
        self.lost_answers = 0
        self.limit_bytes = 1 << 50
        self.commits = 0
        self.stream: _Stream | None = None
        self.replies: dict[str, tuple[bytes, float]] = {}
        self.hints: dict[str, list[tuple[str, bytes | None]]] = {}
        self.workers: dict[str, float] = {}
        self.worker_fields: dict[str, dict[str, str]] = {}
        self.card: dict[str, bytes] = {}
        self.dead: list[tuple[str, int, bytes]] = []
        self.last_seen_ms: dict[str, float] = {}
        self.desired_precision: DesiredPrecision | None = None
        self.serving = Serving.OPEN
        self.turn: tuple[str, float] = ("", 0.0)
        self.cancelled: list[bytes] = []
        self.records: dict[str, tuple[bytes, list[bytes], float]] = {}
        self.frames: list[tuple[str, bytes]] = []
        self.hand_overs = 0
        self.others: dict[str, tuple[InMemoryLane, float]] = {}
        self.of_kind_batch: set[str] = set()

    def create(self, name: str, weight: float = 1.0, *, is_batch: bool = False) -> InMemoryLane:
        """Give the model another lane, perhaps of kind ``batch``; the next heartbeat sets it up."""
        if is_batch:
            self.of_kind_batch.add(name)
        lane = InMemoryLane(self.now_ms)
        lane.changed = self.changed
        self.others[name] = (lane, weight)
        return lane

    def add(self, fields: Mapping[bytes, bytes]) -> bytes | None:
        """XADD NOMKSTREAM: returns the new entry's id, None when there is no stream."""
        with self.changed:
            if self.stream is None:
                return None
            now_ms, (last_ms, last_number) = int(self.now_ms()), self.stream.last
            key = (now_ms, 0) if now_ms > last_ms else (last_ms, last_number + 1)
            self.stream.last = key
            self.stream.entries[key] = dict(fields)
            self.changed.notify_all()
            return _text(key)

    def delete(self, entry_id: bytes) -> None:
        """XDEL: the entry goes, whoever holds it."""
        with self.changed:
            if self.stream is not None:
                self.stream.entries.pop(_key(entry_id), None)

    def cancel(self, entry_id: bytes) -> None:
        """Take an entry away, whoever holds it, and tell the consumers."""
        with self.changed:
            if self.stream is not None:
                self.stream.entries.pop(_key(entry_id), None)
                if self.stream.group is not None:
                    self.stream.group.pending.pop(_key(entry_id), None)
            self.cancelled.append(entry_id)
            self.changed.notify_all()

    def reply(self, request_id: str) -> bytes | None:
        """The stored reply, unless it has expired."""
        with self.changed:
            return self._reply(request_id)

    def _reply(self, request_id: str) -> bytes | None:
        reply, expires_ms = self.replies.get(request_id, (None, 0.0))
        return reply if expires_ms > self.now_ms() else None

    def flush(self) -> None:
        """Forget everything, as FLUSHALL does."""
        with self.changed:
            self.stream = None
            for store in (self.replies, self.hints, self.workers, self.worker_fields, self.card):
                store.clear()
            self.changed.notify_all()

    def lose_group(self) -> None:
        """XGROUP DESTROY: the entries stay, who held them is forgotten."""
        with self.changed:
            if self.stream is not None:
                self.stream.group = None
            self.changed.notify_all()

    def make(self) -> None:
        """Make stream and group where they are missing; the lock must be held."""
        if self.stream is None:
            self.stream = _Stream()
        if self.stream.group is None:
            self.stream.group = _Group()

    def takes(self, count_bytes: int) -> bool:
        """Say whether a large reply has room: a first one always has."""
        stored = sum(len(reply) for reply, expires_ms in self.replies.values() if expires_ms > self.now_ms())
        return stored == 0 or stored + count_bytes <= self.limit_bytes

    def end(self, completion: Completion) -> int:
        """What ``hr1_commit`` does for one item; the lock must be held."""
        status, visible = 0, False
        if completion.expiry_ms and len(completion.reply) >= HINT_LIMIT_BYTES and not self.takes(len(completion.reply)):
            return NO_ROOM
        group = self.stream.group if self.stream is not None else None
        if group is not None and group.pending.pop(_key(completion.entry_id), None) is not None:
            status = 1
            if completion.expiry_ms == 0 or not completion.request_id:
                visible = True
            elif self._reply(completion.request_id) is not None:
                status = 2
            else:
                self.replies[completion.request_id] = (completion.reply, self.now_ms() + completion.expiry_ms)
                visible = True
            assert self.stream is not None
            self.stream.entries.pop(_key(completion.entry_id), None)
        if completion.reply_to:
            hints = self.hints.setdefault(completion.reply_to, [])
            told = completion.reply if visible and len(completion.reply) < HINT_LIMIT_BYTES else None
            hints.append((completion.request_id, told))
            del hints[:-REPLY_STREAM_CAP]
        return status


class InMemoryStream:
    """See :class:`consumer.queue.interface.WorkStream`.

    Args:
        lane: the model's lane ``default``.
    """

    def __init__(self, lane: InMemoryLane, settings: Settings, worker: str, *, is_batch: bool = False) -> None:
        self.clock = RedisClock()
        self.closed = False
        self._lane, self._settings, self._worker = lane, settings, worker
        self._lanes = {DEFAULT_LANE: lane}
        self.lanes: tuple[str, ...] = () if is_batch else (DEFAULT_LANE,)
        self.hurries = False
        if not is_batch:
            self.batch = InMemoryStream(lane, settings, worker, is_batch=True)
        self._costs = LaneCosts()
        self.measured: list[tuple[str, float]] = []
        self._fair_share = FairShare({DEFAULT_LANE: 1.0}, self._costs)
        self._heard: dict[str, int] = {}
        self._heard_hand_overs = 0
        self.records = InMemoryRecords(self)

    def _answering(self) -> None:
        if self._lane.down:
            raise StreamDown("The server does not answer.")

    def _group(self, lane: str = DEFAULT_LANE) -> tuple[_Stream, _Group]:
        stream = self._lanes[lane].stream if lane in self._lanes else None
        if stream is None or stream.group is None:
            raise StreamGone("NOGROUP There is no such stream or group.")
        return stream, stream.group

    def read(self, max_entries: int, *, wait: bool = True) -> list[Entry]:
        """See the interface."""
        with self._lane.changed:
            give_up_s = time.monotonic() + (self._settings.block_ms / 1000 if wait else 0.0)
            while True:
                self._answering()
                fresh = {lane: self._fresh(lane) for lane in self.lanes}
                left_s = give_up_s - time.monotonic()
                if any(fresh.values()) or left_s <= 0:
                    break
                self._lane.changed.wait(left_s)
            shares = self._fair_share.share(
                max_entries, {lane: len(keys) for lane, keys in fresh.items()}, time.monotonic()
            )
            return [entry for lane, count in shares.items() for entry in self._claim(lane, fresh[lane][:count])]

    def has_several_lanes(self) -> bool:
        """See the interface."""
        return len(self.lanes) > 1

    def measure(self, entry: Entry, tokens: float) -> None:
        """See the interface."""
        self.measured.append((entry.lane, tokens))

    def charge(self, entry: Entry, cost: float) -> None:
        """See the interface."""
        self._costs.charge(entry.lane, cost, entry.charged)

    def read_priority(self, most: float, present: Mapping[str, float]) -> list[Entry]:
        """See the interface."""
        with self._lane.changed:
            self._answering()
            fresh = {lane: self._fresh(lane) for lane in self.lanes}
            counts = {lane: len(keys) for lane, keys in fresh.items()}
            shares = self._fair_share.priority_share(most, counts, present, time.monotonic())
            return [entry for lane, count in shares.items() for entry in self._claim(lane, fresh[lane][:count])]

    def _fresh(self, lane: str) -> list[EntryKey]:
        stream, group = self._group(lane)
        group.consumers.add(self._worker)
        self._lane.last_seen_ms[self._worker] = self._lane.now_ms()
        return [key for key in stream.entries if key > group.delivered]

    def _claim(self, lane: str, fresh: Sequence[EntryKey]) -> list[Entry]:
        stream, group = self._group(lane)
        charged = self._fair_share.expected(lane) if self.has_several_lanes() else 0.0
        now_ms = self._lane.now_ms()
        for key in fresh:
            group.pending[key] = _Lease(self._worker, now_ms)
            group.delivered = key
        return [self._entry(stream, key, 1, lane, charged) for key in fresh]

    def _entry(self, stream: _Stream, key: EntryKey, attempt: int, lane: str, charged: float = 0.0) -> Entry:
        return Entry(_text(key), key[0], stream.entries[key].get(b"m"), attempt, lane, charged)

    def reclaim(self, max_entries: int) -> list[Entry]:
        """See the interface."""
        with self._lane.changed:
            self._answering()
            for lane in self.lanes:
                if claimed := self._reclaim(max_entries, lane):
                    return claimed
            return []

    def _reclaim(self, max_entries: int, lane: str) -> list[Entry]:
        stream, group = self._group(lane)
        now_ms = self._lane.now_ms()
        idle = [key for key, held in group.pending.items() if now_ms - held.since_ms >= self._settings.lease_ms]
        claimed: list[Entry] = []
        for key in sorted(idle)[:max_entries]:
            if key not in stream.entries:
                del group.pending[key]
                continue
            held = group.pending[key]
            held.consumer, held.since_ms = self._worker, now_ms
            group.consumers.add(self._worker)
            claimed.append(self._entry(stream, key, held.deliveries + 1, lane))
        return claimed

    def terminations(self) -> list[Claim]:
        """See the interface."""
        with self._lane.changed:
            self._answering()
            self._lane.changed.wait_for(self._news, self._settings.block_ms / 1000)
            news = self._news()
            self._heard = {name: len(lane.cancelled) for name, lane in self._lanes.items()}
            return news

    def _news(self) -> list[Claim]:
        heard = self._heard
        return [(name, one) for name, lane in self._lanes.items() for one in lane.cancelled[heard.get(name, 0) :]]

    def begin_isolated(self, entry: Entry) -> bool:
        """See the interface."""
        with self._lane.changed:
            self._answering()
            held = self._group(entry.lane)[1].pending.get(_key(entry.entry_id))
            if held is None or held.consumer != self._worker:
                return False
            held.since_ms, held.deliveries = self._lane.now_ms(), entry.attempt
            return True

    def renew(self, claims: Sequence[Claim]) -> list[Claim]:
        """See the interface."""
        with self._lane.changed:
            self._answering()
            lost = []
            for lane, entry_id in claims:
                held = self._group(lane)[1].pending.get(_key(entry_id))
                if held is None or held.consumer != self._worker:
                    lost.append((lane, entry_id))
                else:
                    held.since_ms = self._lane.now_ms()
            return lost

    def reap(self) -> int:
        """See the interface."""
        with self._lane.changed:
            self._answering()
            return sum(self._reap(self._group(lane)[1]) for lane in self._lanes)

    def _reap(self, group: _Group) -> int:
        busy = {held.consumer for held in group.pending.values()} | set(self._lane.workers)
        longest_ms = self._lane.now_ms() - 4 * self._settings.lease_ms
        gone = {name for name in group.consumers - busy if self._lane.last_seen_ms.get(name, 0.0) < longest_ms}
        group.consumers -= gone
        return len(gone)

    def commit(self, completions: Sequence[Completion]) -> list[int]:
        """See the interface."""
        with self._lane.changed:
            self._answering()
            self._lane.commits += 1
            statuses = [self._lanes[item.lane].end(item) for item in completions]
            self._lane.changed.notify_all()
            if self._lane.lost_answers:
                self._lane.lost_answers -= 1
                raise StreamDown("The answer was lost.")
            return statuses

    def commit_and_read(
        self, completions: Sequence[Completion], committed: Callable[[], None], max_entries: int, *, wait: bool = True
    ) -> list[Entry]:
        """See the interface."""
        if NO_ROOM not in self.commit(completions):
            committed()
        return self.read(max_entries, wait=wait)

    def end_answered(self, completions: Sequence[Completion]) -> list[bool]:
        """See the interface."""
        with self._lane.changed:
            self._answering()
            lanes = [self._lanes.get(one.lane) for one in completions]
            known = [
                lane is not None and lane._reply(one.request_id) is not None
                for lane, one in zip(lanes, completions, strict=True)
            ]
            for one in (one for one, is_known in zip(completions, known, strict=True) if is_known):
                self._lanes[one.lane].end(replace(one, expiry_ms=1))
            return known

    def dead_letter(self, dead: Sequence[Dead]) -> list[int]:
        """See the interface."""
        with self._lane.changed:
            self._answering()
            statuses = []
            for one in dead:
                lane, entry_id = self._lanes[one.completion.lane], one.completion.entry_id
                stream = lane.stream
                message = stream.entries.get(_key(entry_id), {}).get(b"m", b"") if stream is not None else b""
                statuses.append(lane.end(one.completion))
                if statuses[-1]:
                    lane.dead.append((one.reason, one.crashes, message))
            return statuses

    def heartbeat(self, card: Card, state: Mapping[str, str]) -> None:
        """See the interface."""
        with self._lane.changed:
            self._answering()
            before_s, now_ms = time.monotonic(), self._lane.now_ms()
            self._lanes = {DEFAULT_LANE: self._lane, **{name: lane for name, (lane, _) in self._lane.others.items()}}
            weights = {DEFAULT_LANE: 1.0, **{name: weight for name, (_, weight) in self._lane.others.items()}}
            of_batch = self._lane.of_kind_batch
            self.batch._lanes = self._lanes
            self.batch._serve({name: weight for name, weight in weights.items() if name in of_batch})
            self._serve({name: weight for name, weight in weights.items() if name not in of_batch})
            for lane in self._lanes.values():
                lane.make()
            self._lane.workers[self._worker] = now_ms
            for worker, seen_ms in list(self._lane.workers.items()):
                if seen_ms <= now_ms - self._settings.lease_ms:
                    del self._lane.workers[worker]
            self._lane.worker_fields[self._worker] = dict(state)
            self._lane.card.update(to_hash(card))
            self.clock.observe(now_ms, before_s, time.monotonic())

    def _serve(self, weights: Mapping[str, float]) -> None:
        if weights != self._fair_share.weights:
            self._fair_share, self.lanes = FairShare(weights, self._costs), tuple(weights)

    def ask_time(self) -> None:
        """See the interface."""
        with self._lane.changed:
            self._answering()
            now_s = time.monotonic()
            self.clock.observe(self._lane.now_ms(), now_s, now_s)

    def leave(self) -> None:
        """See the interface."""
        with self._lane.changed:
            self._answering()
            self._lane.workers.pop(self._worker, None)
            self._lane.worker_fields.pop(self._worker, None)
            for lane in self._lanes.values():
                group = lane.stream.group if lane.stream is not None else None
                if group is not None and all(held.consumer != self._worker for held in group.pending.values()):
                    group.consumers.discard(self._worker)

    def hears_of_hand_overs(self) -> bool:
        """See the interface."""
        with self._lane.changed:
            heard, self._heard_hand_overs = (
                self._heard_hand_overs,
                sum(lane.hand_overs for lane in self._lanes.values()),
            )
            return heard != self._heard_hand_overs

    def desired_precision(self) -> DesiredPrecision | None:
        """See the interface."""
        with self._lane.changed:
            self._answering()
            return self._lane.desired_precision

    def serving(self) -> Serving:
        """See the interface."""
        with self._lane.changed:
            self._answering()
            return self._lane.serving

    def take_turn(self) -> bool:
        """See the interface."""
        with self._lane.changed:
            self._answering()
            (holder, until_ms), now_ms = self._lane.turn, self._lane.now_ms()
            if now_ms < until_ms and holder != self._worker:
                return False
            self._lane.turn = (self._worker, now_ms + self._settings.lease_ms)
            return True

    def end_turn(self) -> None:
        """See the interface."""
        with self._lane.changed:
            self._answering()
            if self._lane.turn[0] == self._worker:
                self._lane.turn = ("", 0.0)

    def depth(self) -> dict[str, Depth]:
        """See the interface."""
        with self._lane.changed:
            self._answering()
            return {lane: self._depth(lane) for lane in self._lanes}

    def _depth(self, lane: str) -> Depth:
        stream, group = self._group(lane)
        now_ms = self._lane.now_ms()
        oldest_ms = next(iter(stream.entries), (now_ms, 0))[0]
        pending = len(group.pending)
        age_s = max(0.0, (now_ms - oldest_ms) / 1000)
        return Depth(max(0, len(stream.entries) - pending), pending, age_s)

    def close(self) -> None:
        """See the interface."""
        self.closed = True


def _text(key: EntryKey) -> bytes:
    return b"%d-%d" % key


def _key(entry_id: bytes) -> EntryKey:
    milliseconds, _, number = entry_id.partition(b"-")
    return int(milliseconds), int(number or 0)


class InMemoryRecords:
    """See :class:`consumer.queue.interface.Records`."""

    def __init__(self, stream: InMemoryStream) -> None:
        self._stream = stream

    def emit(self, frames: Sequence[Emission]) -> list[Emitted]:
        """See the interface."""
        with self._stream._lane.changed:
            self._stream._answering()
            return [self._emit(one) for one in frames]

    def _emit(self, one: Emission) -> Emitted:
        stream = self._stream
        if one.lane not in stream._lanes:
            return Emitted.LOST
        lane = stream._lanes[one.lane]
        held = stream._group(one.lane)[1].pending.get(_key(one.entry_id))
        if held is None or held.consumer != stream._worker:
            return Emitted.LOST
        entry_id, written, _ = lane.records.get(one.request_id, (b"", [], 0.0))
        if one.seq == 0:
            assert lane.stream is not None
            if written and entry_id == one.entry_id:
                return Emitted.REPEATED
            if lane._reply(one.request_id) or (written and _key(entry_id) in lane.stream.entries):
                return Emitted.TAKEN
            written = []
            lane.records[one.request_id] = (one.entry_id, written, lane.now_ms())
        elif len(written) != one.seq:
            return Emitted.REPEATED if len(written) > one.seq else Emitted.GONE
        written.append(one.frame)
        if one.reply_to:
            lane.frames.append((one.reply_to, one.frame))
        return Emitted.WRITTEN

    def record(self, claim: Claim, request_id: str) -> Record | None:
        """See the interface."""
        with self._stream._lane.changed:
            self._stream._answering()
            entry_id, written, began_ms = self._stream._lanes[claim[0]].records.get(request_id, (b"", [], 0.0))
            return Record(list(written), int(began_ms)) if entry_id == claim[1] else None

    def hand_over(self, claims: Sequence[Claim]) -> int:
        """See the interface."""
        with self._stream._lane.changed:
            self._stream._answering()
            count = 0
            for lane, entry_id in claims:
                held = self._stream._group(lane)[1].pending.get(_key(entry_id))
                if held is not None and held.consumer == self._stream._worker:
                    held.since_ms, held.deliveries = float("-inf"), 1
                    self._stream._lanes[lane].hand_overs += 1
                    count += 1
            return count
