"""Runs generations: they join and leave between the steps of an engine."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from time import monotonic

from consumer.batching.batcher import Batch, CloseReason
from consumer.events import Share
from consumer.generation.engine import Engine, EngineDied, Finish, Step
from consumer.generation_metrics import ABORT, ERROR, GenerationMetrics, Occupancy
from consumer.generation_metrics import DEADLINE as DEADLINE_REASON
from consumer.models.generate.generator import Row
from consumer.models.model_errors import answer_to
from consumer.pipeline.context import Context
from consumer.pipeline.interface import Source
from consumer.pipeline.items import BatchRun, Item
from shared.wire.frames import ALONE, DEADLINE, FIRST
from shared.wire.generated import Generated
from shared.wire.outcomes import CANCELLED, MODEL_ERROR, RequestError

from .meter import Meter
from .replies import Part, StreamReplies
from .resumption import NOTHING, Resumption
from .running import Running, longest
from .throughput import Throughput

log = logging.getLogger(__name__)

LOOK_UP_S = 0.2
NEXT_TAKEN_OVER_S = 0.02
"""Where one was taken over, there are mostly more: so long is waited for the next, instead of a step for each."""

STEP = "step"
"""What a step is called to the watchdog: it is bounded, and not the generation."""


class StepExecutor:
    """See :class:`consumer.pipeline.interface.Executor`.

    Args:
        engine: called on the executor's thread only.
        has_room: told how many more sequences could start.
        stop: set when nothing more is claimed.
        drain_s: for so long, what runs may go on after that; then it is handed over.
        metrics: of what it does.

    Attributes:
        throughput: what the engine gets done.
    """

    def __init__(
        self,
        context: Context,
        engine: Engine,
        has_room: Callable[[int], None],
        stop: threading.Event,
        drain_s: float,
        metrics: GenerationMetrics,
    ) -> None:
        self._context, self._engine, self._has_room, self._stop = context, engine, has_room, stop
        self._drain_s, self._meter = drain_s, Meter(metrics)
        self.throughput = Throughput()
        self._all_slots = self._free_slots = engine.capacity().slots
        self._hands_over_s = math.inf
        self._begun: Batch[Item] | None = None
        self._running: dict[str, Running] = {}
        self._until_s = -math.inf
        self._ran_s = 0.0

    @property
    def busy_s(self) -> float:
        """See the interface."""
        return self._ran_s

    @property
    def running_until_s(self) -> float:
        """See the interface."""
        return self._until_s

    @property
    def working_rows(self) -> int | None:
        """See the interface."""
        return None

    @property
    def padded_rows(self) -> int:
        """See the interface."""
        return 0

    @property
    def ran_units(self) -> int:
        """See the interface; the metrics of generations count tokens."""
        return 0

    @property
    def padded_units(self) -> int:
        """See the interface."""
        return 0

    def occupancy(self) -> Occupancy:
        """Return what is in the engine; any thread may ask."""
        return Occupancy(len(self._running), max(0, self._all_slots - self._free_slots), self._all_slots)

    def run_steps(self, source: Source, replies: StreamReplies) -> None:
        """Run what ``source`` hands out until it is over."""
        while self._running or not source.is_over():
            self._admit(source, replies)
            self._drop(source, replies)
            if self._running:
                self._step(replies)
            if self._running and self._is_drained():
                self._leave(replies)

    # --- joining

    def _admit(self, source: Source, replies: StreamReplies) -> None:
        wait_s = 0.0 if self._running else LOOK_UP_S
        while not self._waits_for_proof(source) and self._slots() > 0:
            batch = source.next_batch(wait_s)
            if batch is None:
                return
            for item in batch.items:
                self._start(item, replies)
            self._begun = batch
            wait_s = NEXT_TAKEN_OVER_S if batch.reason is CloseReason.ISOLATED else 0.0

    def _waits_for_proof(self, source: Source) -> bool:
        """Say whether one that was taken over has not shown yet that it is harmless: no other begins meanwhile."""
        if any(one.is_unproven for one in self._running.values()):
            return True
        if self._begun is not None:
            source.ended(self._begun)
            self._begun = None
        return False

    def _slots(self) -> int:
        slots = self._free_slots = self._engine.capacity().slots
        self._has_room(slots)
        return slots

    def _start(self, item: Item, replies: StreamReplies) -> None:
        row: Row = item.rows[0]
        past: Resumption = item.resumed or NOTHING
        name = f"{item.entry.lane}:{item.entry.entry_id.decode()}"
        now_s = monotonic()
        one = Running(
            name, item, row, now_s, self._until(row, past, now_s), len(past.tokens), [past.text], list(past.logprobs)
        )
        if past.attempt:
            self._meter.resumed(past)
        is_taken_over = past.attempt > 0 or item.is_isolated
        attempt = max(past.attempt + 1, item.entry.attempt)
        one.is_unproven = is_taken_over and past.is_unproven
        if not past.finish:
            try:
                self._engine.start(replace(row.sequence, id=name, generated=tuple(past.tokens)))
            except BaseException as error:
                self._fail(one, answer_to(error, item, "Starting"), replies)
                return
        flags = (FIRST | ALONE if one.is_unproven else FIRST) if is_taken_over and not past.finish else 0
        replies.begin(item, attempt, past.seq, flags, is_streamed=row.is_streamed)
        if past.finish:  # only its answer is missing
            self._meter.ended(one, DEADLINE_REASON if past.missed_deadline else past.finish, now_s)
            replies.end(item, "", 0, partial(_answer, one, past.finish, "deadline" if past.missed_deadline else ""))
            return
        self._running[name] = one
        self._context.stream.measure(item.entry, len(row.sequence.prompt))
        self.throughput.started(len(row.sequence.prompt))
        self._context.leases.promise(item.entry.claim, one.until_s)
        self._until_s = longest(self._running.values())
        if past.tokens:
            log.info("Going on with a generation after %d tokens.", len(past.tokens), extra=item.about())

    def _until(self, row: Row, past: Resumption, now_s: float) -> float:
        if row.run_ms is None:
            return math.inf
        ran_ms = self._context.stream.clock.now_ms(now_s) - past.began_ms if past.began_ms else 0.0
        return now_s + (row.run_ms - ran_ms) / 1000

    # --- leaving

    def _drop(self, source: Source, replies: StreamReplies) -> None:
        """Stop what nobody waits for any more: between two steps, so that its slot is free for the next one."""
        now_s = monotonic()
        for one in list(self._running.values()):
            if replies.is_lost(one.item):
                self._end(one, ABORT)
                replies.forget(one.item)
            elif self._context.cancellations and source.refusal(one.item, -math.inf) is not None:
                self._fail(one, RequestError(CANCELLED, "The request was cancelled."), replies)
            elif one.until_s <= now_s:
                self._end(one, DEADLINE_REASON)
                replies.end(one.item, Finish.LENGTH.value, DEADLINE, partial(_answer, one, "length", "deadline"))

    def _end(self, one: Running, reason: str) -> None:
        self._meter.ended(one, reason, monotonic())
        self._cancel(one)

    def _cancel(self, one: Running) -> None:
        self._running.pop(one.name, None)
        self._engine.cancel(one.name)
        self._context.stream.charge(one.item.entry, one.cost)
        self._until_s = longest(self._running.values())

    def _fail(self, one: Running, error: RequestError, replies: StreamReplies) -> None:
        self._end(one, ABORT if error.outcome is CANCELLED else ERROR)
        one.item.outcome = error
        replies.fail(one.item, _ran(one))

    def _leave(self, replies: StreamReplies) -> None:
        left = list(self._running.values())
        log.info("Handing %d generations over.", len(left))
        for one in left:
            self._cancel(one)
        replies.leave([one.item for one in left])

    def _is_drained(self) -> bool:
        if not self._stop.is_set():
            return False
        now_s = monotonic()
        self._hands_over_s = min(self._hands_over_s, now_s + self._drain_s)
        return now_s >= self._hands_over_s

    # --- moving on

    def _step(self, replies: StreamReplies) -> None:
        begun_s = monotonic()
        self._context.watchdog.begin(STEP, begun_s)
        try:
            steps = self._engine.step()
        except EngineDied:  # with it this consumer ends; all of them go on, here once it is started again or elsewhere
            raise
        except BaseException as error:
            self._fail_all(error, replies)
            return
        finally:
            self._context.watchdog.end(STEP)
        now_s = monotonic()
        self._ran_s += now_s - begun_s
        parts: list[Part] = []
        finished: list[tuple[Running, Step]] = []
        for step in steps:
            one = self._running[step.id]
            parts.append(Part(one.item, step.tokens, step.text, one.take(step, now_s)))
            if step.finish is not None:
                finished.append((one, step))
            elif one.is_proven_now:
                one.is_unproven = False
                replies.prove(one.item)
        replies.emit(parts, now_s)
        moved = [self._running[step.id] for step in steps if step.tokens]
        made = sum([len(step.tokens) for step in steps])
        self._meter.stepped(moved, made, now_s)
        self.throughput.stepped(made, now_s - begun_s, is_full=not self._free_slots)
        for one, step in finished:
            self._finish(one, step, now_s, replies)

    def _finish(self, one: Running, step: Step, now_s: float, replies: StreamReplies) -> None:
        if step.finish is Finish.ERROR:
            self._fail(one, step.error or RequestError(MODEL_ERROR, "The model failed on this input."), replies)
            return
        self._running.pop(one.name)
        self._context.stream.charge(one.item.entry, one.cost)
        self._until_s = longest(self._running.values())
        finish = step.finish.value if step.finish is not None else ""
        self._meter.ended(one, finish, now_s)
        self.throughput.ended(one.tokens)
        replies.end(one.item, finish, 0, partial(_answer, one, finish, ""))

    def _fail_all(self, error: BaseException, replies: StreamReplies) -> None:
        """An engine whose step fails as a whole is of no use to any of them."""
        log.error("A step failed for %d generations.", len(self._running), exc_info=error)
        for one in list(self._running.values()):
            self._fail(one, answer_to(error, one.item, "Generating"), replies)


def _ran(one: Running) -> BatchRun:
    first_token_s = one.first_token_s - one.began_s if one.made else None
    reason, share = (CloseReason.GAP, Share.BATCH_LANE) if one.item.is_later else (CloseReason.IDLE, Share.ALL)
    return BatchRun(one.began_s, monotonic() - one.began_s, 1, reason, first_token_s, share)


def _answer(one: Running, finish: str, ended: str, frames: int) -> BatchRun:
    """Set the outcome of an item whose frames are written."""
    generated: Generated = one.generated(finish, frames, ended)
    one.item.outcome = (generated,)
    return _ran(one)
