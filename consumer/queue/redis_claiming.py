"""Claiming the entries of some of a model's lanes on Redis: XREADGROUP, ``hr1_claimed`` and ``hr1_reclaim`` [I/O].

A consumer has two of these, for ordinary lanes and for those of kind ``batch``, on two threads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from shared import keys
from shared.redis import functions
from shared.redis.client import ServerError, SyncLink
from shared.settings import Settings
from shared.wire.reply_portion import Portion

from .fair_share import FairShare
from .interface import NO_ROOM, Completion, Entry, StreamDown, StreamGone
from .lane_costs import LaneCosts
from .redis_calls import RedisCalls, status_of
from .redis_lanes import LaneReader, by_lane, entries, milliseconds

log = logging.getLogger(__name__)


class RedisClaiming:
    """See :class:`consumer.queue.interface.Claiming`.

    Args:
        link: entries are read on it.
        worker: this consumer's name in the group.
        weights: of the lanes that are read until :meth:`serve` names others.

    Attributes:
        hurries: see the interface; set with each heartbeat.
    """

    def __init__(
        self,
        calls: RedisCalls,
        link: SyncLink,
        model: str,
        worker: str,
        settings: Settings,
        weights: Mapping[str, float],
    ) -> None:
        self._calls, self._reading, self._model, self._worker, self._settings = calls, link, model, worker, settings
        self._guard, self._call, self._work_of = calls.guard, calls.call, calls.work_of
        self._stream_ms = settings.reply_expiry_ms(settings.max_timeout_ms)
        self._costs = LaneCosts()
        self._fair_share = FairShare(weights, self._costs)
        self._works = {lane: self._work_of(lane) for lane in weights}
        self._lanes = LaneReader(link, model, worker, settings.block_ms)
        self._claimed_after: dict[str, bytes] = {}
        self._portion = Portion()
        self._scanned = 0
        self.heard_of_hand_overs = self.hurries = False

    @property
    def lanes(self) -> tuple[str, ...]:
        """The lanes that are read."""
        return tuple(self._fair_share.weights)

    def serve(self, weights: Mapping[str, float], paused: frozenset[str]) -> bool:
        """Read these lanes from now on; returns whether that is a change."""
        paused &= weights.keys()
        if weights == self._fair_share.weights and paused == self._fair_share.paused:
            return False
        self._works |= {lane: self._work_of(lane) for lane in weights}
        self._fair_share = FairShare(weights, self._costs, paused)
        return True

    def read(self, max_entries: int, *, wait: bool = True) -> list[Entry]:
        """See the interface; waits for at most ``settings.block_ms``."""
        if self._claimed_after:
            return self._read_claimed(max_entries)
        fair_share = self._fair_share
        try:
            self._guard(lambda: self._reading.send(*self._reads(fair_share, max_entries, wait)))
            return self._guard(lambda: self._receive_read(fair_share, max_entries, wait))
        except StreamDown:
            self._note_lost_answer(fair_share)
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
            self._note_lost_answer(fair_share)
            raise

    def charge(self, entry: Entry, cost: float) -> None:
        """See the interface."""
        self._costs.charge(entry.lane, cost, entry.charged)

    def _note_lost_answer(self, fair_share: FairShare) -> None:
        """Read again what this worker holds: in the lanes that were read, which may be others by now, and in these."""
        self._claimed_after = dict.fromkeys([*fair_share.weights, *self._fair_share.weights], b"0-0")

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
        work = self._works[fair_share.first]
        return (("XREADGROUP", "GROUP", keys.GROUP, self._worker, *count, "STREAMS", work, b">"),)

    def _receive_read(self, fair_share: FairShare, max_entries: int, wait: bool = True) -> list[Entry]:
        if fair_share.is_alone:
            return entries(self._reading.receive(), fair_share.first)
        return self._lanes.take(fair_share, max_entries, wait)

    def commit_and_read(
        self, completions: Sequence[Completion], committed: Callable[[], None], max_entries: int, *, wait: bool = True
    ) -> list[Entry]:
        """See the interface."""
        if self._claimed_after:
            return self.read(max_entries, wait=wait)
        link, fair_share = self._reading, self._fair_share
        commits = self._calls.commits(completions).values()
        try:
            self._guard(lambda: link.send(*commits, *self._reads(fair_share, max_entries, wait)))
            answers = self._guard(lambda: link.receive_many(len(commits)))
            refused = [answer for answer in answers if isinstance(answer, ServerError)]
            if refused:
                log.warning("Committing together with reading failed (%s).", refused[0])
            else:
                statuses = [status_of(status) for answer in answers for status in answer]
                if NO_ROOM not in statuses:  # else all are committed again, which says which have no room
                    committed()
            return self._guard(lambda: self._receive_read(fair_share, max_entries, wait))
        except StreamDown:
            self._note_lost_answer(fair_share)
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

    def end_answered(self, completions: Sequence[Completion]) -> list[bool]:
        """See the interface."""
        answers = {
            lane: self._call(self._reading, functions.answered(self._work_of(lane), self._stream_ms, some))
            for lane, some in by_lane(completions, attrgetter("lane")).items()
        }
        return [status == 1 for status in self._calls.statuses(answers, (one.lane for one in completions))]

    def hears_of_hand_overs(self) -> bool:
        """See the interface."""
        heard, self.heard_of_hand_overs = self.heard_of_hand_overs, False
        return heard
