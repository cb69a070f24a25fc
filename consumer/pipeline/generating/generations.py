"""The parts of a pipeline that differ where the model generates, put together."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from consumer.batching.batcher import Batcher
from consumer.batching.cost import BatchCost
from consumer.loading.warmup import Calibration
from consumer.models.base import Model
from consumer.models.generate.generator import Generator
from consumer.pipeline.context import Context
from consumer.pipeline.intake import Intake
from consumer.pipeline.interface import Replies, Source
from consumer.pipeline.items import Item, Refusal
from consumer.queue.interface import StreamDown, StreamGone
from shared.wire.frames import decode_frames
from shared.wire.messages import WireError
from shared.wire.outcomes import CRASHED, RequestError

from .budget import SlotBudget
from .emitter import Emitter
from .replies import StreamReplies
from .resumption import MOST_ATTEMPTS, resumption_of
from .step_executor import StepExecutor

log = logging.getLogger(__name__)

NewThread = Callable[[str, Callable[[], None]], threading.Thread]


class Generations:
    """For one loaded model, whose generations go on where another consumer left them.

    Args:
        model: has an engine.

    Attributes:
        later_budget: slots that requests of ``batch`` lanes may take; one is left free, if there are several.
    """

    def __init__(self, model: Generator, context: Context) -> None:
        self._model, self._context = model, context
        slots = max(1, model.engine.capacity().slots)
        self._budget, self.later_budget = SlotBudget(slots), SlotBudget(slots)

    @classmethod
    def of(cls, model: Model, context: Context) -> Generations | None:
        """Return them; None for a model that runs batches."""
        return cls(model, context) if isinstance(model, Generator) else None

    def batcher(self, calibration: Calibration) -> tuple[Batcher[Item], BatchCost]:
        """Return what hands out requests: at once, and as many as can start."""
        cost = calibration.cost()
        return Batcher(self._budget, 0.0, cost), cost

    def recall(self, item: Item) -> Refusal | None:
        """Find what has been generated of an item that was taken over; returns why it is not to go on.

        One with a record has begun, so that its time to begin does not matter any more. Without the queue it begins
        anew: what it would write is refused then, and its answer counts all the same.
        """
        try:
            record = self._context.stream.records.record(item.entry.claim, item.request.id)
            if record is None:
                return None
            frames = [frame for encoded in record.frames for frame in decode_frames(encoded)]
            past = resumption_of(frames, record.began_ms)
        except (StreamDown, StreamGone, WireError) as error:
            log.warning("The record of a generation cannot be read (%s); it begins anew.", error, extra=item.about())
            return None
        if past.lost >= MOST_ATTEMPTS and not past.finish:
            error_ = RequestError(CRASHED, f"{past.lost} consumers ended while they generated this; it is given up.")
            return Refusal(item, error_, f"{past.lost} consumers ended while it ran.", past.lost)
        item.resumed = past
        item.deadline_s = float("inf")
        return None

    def executor(
        self, intake: Intake, committer: Replies, stop: threading.Event, new_thread: NewThread
    ) -> GenerationsExecutor:
        """Return what runs them."""
        budgets = self._budget, self.later_budget
        return GenerationsExecutor(self._model, self._context, budgets, intake, committer, stop, new_thread)


class GenerationsExecutor(StepExecutor):
    """A :class:`StepExecutor` with the thread that writes its frames."""

    def __init__(
        self,
        model: Generator,
        context: Context,
        budgets: tuple[SlotBudget, SlotBudget],
        intake: Intake,
        committer: Replies,
        stop: threading.Event,
        new_thread: NewThread,
    ) -> None:
        (self._budget, self._later_budget), self._intake, self._new_thread = budgets, intake, new_thread
        self._left_free = 1 if self._budget.most_rows > 1 else 0
        self._records = context.stream.records
        metrics = context.metrics.generations()
        self._emitter = Emitter(self._records, metrics.wrote)
        self._replies = StreamReplies(context, self._emitter, committer, self._hand_over)
        drain_s = context.settings.generation_drain_ms / 1000
        super().__init__(context, model.engine, self._set_room, stop, drain_s, metrics)
        metrics.occupancy = self.occupancy

    def run(self, source: Source, replies: Replies) -> None:
        """See the interface."""
        writing = self._new_thread("frames", self._emitter.run)
        writing.start()
        self.run_steps(source, self._replies)
        self._emitter.close()
        writing.join()

    def give_up(self) -> None:
        """Wait no more for a queue that does not answer."""
        self._emitter.give_up()

    def _set_room(self, slots: int) -> None:
        if slots != self._budget.most:
            self._budget.most = slots
            self._later_budget.most = max(0, slots - self._left_free)
            self._intake.room_changed()
            if self._intake.later is not None:
                self._intake.later.room_changed()

    def _hand_over(self, items: Sequence[Item]) -> None:
        try:
            self._records.hand_over([item.entry.claim for item in items])
        except (StreamDown, StreamGone) as error:
            log.warning("A generation was not handed over (%s); it goes on after its lease.", error)
