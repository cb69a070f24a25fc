"""Drives one batch: from its parts in the store into the lane, and from there into parts of results [I/O].

Whatever ends this process, another driver goes on from what Redis and the store hold. An item has its result when the
part with it is stored and its record says so, in one step that only the latest driver can take; only then is its reply
deleted. What had been put into the lane by then is found there, or its reply is.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter

from producer_api.parsing.bulk_schemas import State
from producer_api.queue.interface import Catalogue, ModelState
from shared.redis.advice import told
from shared.redis.client import OutOfMemory, RedisError
from shared.results.store import StoreError, StoreMissing
from shared.state.desired_state import Serving

from . import parts
from .deadlines.hurry import Deadline, UrgentBatches
from .lane import MOST_BYTES_PER_CALL, MOST_PER_CALL, BatchLane, Turn
from .parts import PartDamaged
from .receiving import PART_BYTES, PART_ITEMS
from .record import Record
from .registry import Claim, LeaseLost, Registry
from .run import Flight, Run
from .saver import Saver
from .store_room import StoreRoom, items_folder
from .window import MOST_BYTES, Window, lane_share, token_share

log = logging.getLogger(__name__)

BLOCK_MS = 200
IDLE_S = 0.02
RETRY_S = 0.25
RENEW_S = 1.0
SWEEP_S = 1.0
MOST_PER_SWEEP = 64
RESERVED = 8192
"""So many items beyond the last that was put into the lane may be put there before the record says more."""

MOST_PART_BYTES = 1 << 31
"""An item is in one part, whatever its size."""


class Driver:
    """One batch that this process drives.

    Args:
        record: as it was when the batch was claimed.
        lane_limit: that of lanes without one of their own.
        lease_ms: how long nothing need be heard of this driver until another one goes on.
        urgent: those that this front end drives.
    """

    def __init__(
        self,
        room: StoreRoom,
        registry: Registry,
        lane: BatchLane,
        claim: Claim,
        record: Record,
        catalogue: Callable[[], Catalogue],
        lane_limit: int,
        lease_ms: int,
        urgent: UrgentBatches,
    ) -> None:
        self._room, self._registry, self._lane, self._claim, self._record = room, registry, lane, claim, record
        self._catalogue, self._lane_limit = catalogue, lane_limit
        self._folder = items_folder(claim.model, claim.lane, claim.id)
        self._window = Window()
        self._starts: deque[int] = deque()
        self._answered: list[int] = []
        self._uncertain_below = record.reserved
        self._reserved = record.reserved
        self._last_taken = record.reserved - 1
        self._found: dict[int, bytes] = {}
        self._loading: asyncio.Task[None] | None = None
        self._saving: asyncio.Task[None] | None = None
        self._renew_at_s = self._sweep_at_s = 0.0
        self._is_stopping = False
        self._waits_for = ""
        self._saver = Saver(room, registry, claim, record, lease_ms)
        self._deadline = Deadline(registry, claim, record, urgent)

    def stop(self) -> None:
        """Store what has been answered, and let another front end go on."""
        self._is_stopping = True

    async def drive(self) -> None:
        """Drive the batch to its end, or until it is another's."""
        try:
            await self._begin()
            await self._loop()
            await self._store_the_rest()
            if self._is_stopping and not self._run.is_done:
                await self._saver.release()
            else:
                await self._end(State.COMPLETED if self._run.is_done else State.CANCELLED)
        except LeaseLost:
            log.info("Batch %s is driven by another front end.", self._claim.id)
        except (PartDamaged, StoreMissing) as error:
            await self._give_up(f"Its items cannot be read: {error}")
        finally:
            self._deadline.end()
            for task in (self._loading, self._saving):
                if task is not None:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
            await self._lane.close()

    async def _begin(self) -> None:
        """Find out what is done, and what an earlier driver has put into the lane."""
        claim = self._claim
        listed = await self._registry.parts(claim.model, claim.lane, claim.id)
        done = [index for entry in listed for index in entry.indexes]
        self._run = Run(self._record.total, done)
        self._saver.done = self._run.done
        await self._deadline.start(self._run.done)
        starts = [int(name) for name in await self._room.names(self._folder) if name.isdigit()]
        for start, end in zip(starts, [*starts[1:], self._record.total], strict=True):
            if any(self._run.needs(index) for index in range(start, min(end, self._record.total))):
                self._starts.append(start)
        if not self._starts and not self._run.is_done:
            raise StoreMissing("they are gone from the result store")
        if self._uncertain_below:
            log.info("Batch %s goes on: %d of %d items have results.", claim.id, self._run.done, self._run.total)
            self._found = await self._lane.entries()
        self._reserved = max(self._reserved, RESERVED)
        await self._saver.save((), {"state": State.RUNNING, "reserved": self._reserved})

    async def _loop(self) -> None:
        run = self._run
        while not (run.is_done or self._is_stopping or self._saver.state is State.CANCELLING):
            now_s = perf_counter()
            self._tend(now_s)
            flights, limit = self._next(now_s)
            answered, self._answered = self._answered[:MOST_PER_CALL], self._answered[MOST_PER_CALL:]
            block_ms = BLOCK_MS if run.in_flight else 0
            if not (flights or answered or block_ms):
                await asyncio.sleep(IDLE_S)
                continue
            try:
                message = self._deadline.message
                turn = await self._lane.turn(flights, answered, limit, block_ms, message=message)
                await self._take(turn)
                if perf_counter() >= self._sweep_at_s:
                    await self._sweep()
            except OutOfMemory:
                run.put_back([one for one in flights if not one.entry])
                self._window.full(perf_counter())
            except (RedisError, OSError) as error:
                log.debug("Batch %s: %s", self._claim.id, told(error))
                self._answered += answered
                await self._find_again()

    def _tend(self, now_s: float) -> None:
        """Have answers stored, the lease renewed and more items read; raises what came of that."""
        if self._saving is not None and self._saving.done():
            self._saving.result()
            self._saving = None
        if self._saving is None and (self._run.has_part(now_s) or now_s >= self._renew_at_s):
            self._renew_at_s = now_s + RENEW_S
            answers = self._run.cut(now_s) if self._run.has_part(now_s) else []
            self._saving = asyncio.create_task(self._save(answers))
        if self._loading is not None and self._loading.done():
            self._loading.result()
            self._loading = None
        run = self._run
        if self._loading is None and self._starts and len(run.waiting) < PART_ITEMS and run.waiting_bytes < PART_BYTES:
            self._loading = asyncio.create_task(self._load(self._starts.popleft()))
        record = self._record
        if self._deadline.is_over(now_s):
            raise PartDamaged(f"it took longer than {(record.ends_by_ms - record.receiving_ms) / 3_600_000:g} hours")

    async def _save(self, answers: Sequence[parts.Record]) -> None:
        reserved = max(self._reserved, self._last_taken + 1 + RESERVED)
        fields: dict[str, str | int] = {
            "in_flight": len(self._run.in_flight),
            "rate": f"{self._window.rate:.2f}",
            "reserved": reserved,
            **self._deadline.field,
        }
        if self._waits_for and not self._saver.reason:
            fields["reason"] = self._waits_for
        await self._deadline.tell()
        self._answered += await self._saver.save(answers, fields)
        self._reserved = reserved

    async def _load(self, start: int) -> None:
        """Read a part of what came in, and find out what has become of items that may be in the lane."""
        while True:
            try:
                data = await self._room.get(f"{self._folder}/{start:06d}", MOST_PART_BYTES)
                records = list(parts.decode(data))
                uncertain = [one.number for one in records if one.number < self._uncertain_below]
                uncertain = [index for index in uncertain if self._run.needs(index)]
                replies = await self._lane.replies(uncertain) if uncertain else []
                break
            except StoreMissing:
                raise
            except (StoreError, RedisError, OSError) as error:
                log.debug("Batch %s waits for its items: %s", self._claim.id, error)
                await asyncio.sleep(RETRY_S)
        now_s = perf_counter()
        self._run.load(records, now_s, dict(replies))
        if uncertain and self._found:
            self._run.adopt(((index, self._found[index]) for index in uncertain if index in self._found), now_s)

    def _next(self, now_s: float) -> tuple[list[Flight], int]:
        """Return what to add to the lane now, and up to which length of it."""
        state, run, window = self._state(), self._run, self._window
        self._look_at_deadline(state, now_s)
        if state is None or run.is_clogged or not window.is_open(now_s):
            return [], 0
        limit = state.lanes.get(self._claim.lane) or self._lane_limit
        if self._deadline.waits():
            self._waits_for = "Another batch of its lane is urgent."
            return [], lane_share(limit)
        room = window.size(state.service, limit) - len(run.in_flight)
        most_bytes = min(MOST_BYTES, token_share(state.bytes.get(self._claim.lane)))
        bytes_left = min(MOST_BYTES_PER_CALL, most_bytes - run.in_flight_bytes)
        if room <= 0 or bytes_left <= 0:
            return [], lane_share(limit)
        flights = run.take(min(room, MOST_PER_CALL), bytes_left, self._reserved, now_s)
        if flights:
            self._last_taken = max(self._last_taken, flights[-1].record.number)
        return flights, lane_share(limit)

    def _look_at_deadline(self, state: ModelState | None, now_s: float) -> None:
        is_batch_lane = state is not None and self._claim.lane in state.batch_lanes
        service, run = None if state is None else state.service, self._run
        if self._deadline.look(now_s, run.done, run.total - run.done, service, is_batch_lane=is_batch_lane):
            self._renew_at_s = 0.0  # said at once

    def _state(self) -> ModelState | None:
        """Return the model if it takes items now; else note what the batch waits for."""
        catalogue, claim = self._catalogue(), self._claim
        state = catalogue.models.get(claim.model)
        if not catalogue.redis_ok or catalogue.memory_full:
            self._waits_for = "Redis takes nothing now."
        elif state is None or not state.is_open:
            self._waits_for = f"No consumer of {claim.model} takes requests."
        elif state.serving is not Serving.OPEN:
            self._waits_for = f"Model {claim.model} is {state.serving}."
        elif claim.lane not in state.lanes:
            self._waits_for = f"Model {claim.model} has no lane {claim.lane} any more."
        else:
            self._waits_for = ""
            return state
        return None

    async def _take(self, turn: Turn) -> None:
        now_s = perf_counter()
        self._run.put_back(turn.refused)
        self._answer(turn.replies, now_s)
        if turn.wanted:
            self._answer(await self._lane.replies(turn.wanted), perf_counter())
        if turn.refused or self._run.found_no_room:
            self._run.found_no_room = False
            self._window.full(now_s)

    def _answer(self, replies: Sequence[tuple[int, bytes]], now_s: float) -> None:
        count = 0
        for index, reply in replies:
            count += self._run.answered(index, reply, now_s)
        if count:
            self._window.answered(count, now_s)

    async def _sweep(self) -> None:
        """Look for items that have been in the lane for long: hints may be lost, and entries may end without one."""
        now_s = perf_counter()
        self._sweep_at_s = now_s + SWEEP_S
        overdue = self._run.overdue(now_s, MOST_PER_SWEEP)
        if not overdue:
            return
        are_there = await self._lane.are_there(overdue)  # in this order: what is gone by now has its reply by now
        self._answer(await self._lane.replies([one.record.number for one in overdue]), perf_counter())
        for flight, is_there in zip(overdue, are_there, strict=True):
            if not is_there:
                self._run.lost(flight.record.number)

    async def _find_again(self) -> None:
        """After a lost connection: find out what became of everything in the lane."""
        while not self._is_stopping:
            await asyncio.sleep(RETRY_S)
            self._tend(perf_counter())
            try:
                found = await self._lane.entries()
                flights = list(self._run.in_flight.values())
                self._answer(await self._lane.replies([one.record.number for one in flights]), perf_counter())
            except (RedisError, OSError):
                continue
            for flight in flights:
                flight.entry = found.get(flight.record.number, b"")
                if not flight.entry and self._run.needs(flight.record.number):
                    self._run.lost(flight.record.number)
            return

    async def _store_the_rest(self) -> None:
        """Take out of the lane what shall not run, and store all answers."""
        if self._saver.state is State.CANCELLING:
            in_lane = {number: flight.entry for number, flight in self._run.in_flight.items()}
            await self._lane.cancel({**self._found, **in_lane})
        saving = [] if self._saving is None else [self._saving]
        while answers := self._run.cut(perf_counter()):
            saving.append(asyncio.create_task(self._save(answers)))
        try:
            await asyncio.gather(*saving)
        finally:
            for task in saving:
                task.cancel()

    async def _end(self, state: State) -> None:
        await self._saver.end(state)
        run = self._run
        log.info("Batch %s of model %s ended as %s: %d of %d items have results.",
                 self._claim.id, self._claim.model, state, run.done, run.total)  # fmt: skip
        await self._clean()

    async def _clean(self) -> None:
        """Delete what is of no more use; what this cannot reach goes by itself when its time is over."""
        try:
            while self._answered:
                some, self._answered = self._answered[:MOST_PER_CALL], self._answered[MOST_PER_CALL:]
                await self._lane.turn([], some, 1, 0)
            await self._room.delete_below(self._folder)
        except (RedisError, StoreError, OSError) as error:
            log.debug("Batch %s leaves something behind for a while: %s", self._claim.id, error)

    async def _give_up(self, reason: str) -> None:
        log.error("Batch %s of model %s failed. %s", self._claim.id, self._claim.model, reason)
        try:
            await self._saver.end(State.FAILED, reason)
        except LeaseLost:
            return
        await self._clean()
