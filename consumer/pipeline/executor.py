"""The middle stage: the one thread that runs the model.

Loading happens on it too, since a second thread that runs torch slows the first down.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from time import monotonic
from typing import Any

from msgspec.structs import replace

from consumer.batching.batcher import Batch, CloseReason
from consumer.batching.cost import BatchCost
from consumer.batching.parts import parts
from consumer.events import Share
from consumer.models.base import Model
from consumer.models.loads import units_of
from consumer.models.model_errors import answer_to, described

from .context import Context
from .interface import Replies, Source
from .items import BatchRun, Item

log = logging.getLogger(__name__)

LOOK_UP_S = 0.2
PART_BATCHES = 4
"""Batches of which a part of a large request is: a model that pads finds rows of the same length among more."""

BATCH = "batch"
"""What the running batch is called to the watchdog."""


class BatchExecutor:
    """Runs batch after batch; see :class:`consumer.pipeline.interface.Executor`.

    It neither reads nor commits: threads of their own do, meanwhile.

    Args:
        cost: what batches cost; learns from each one that runs.
    """

    def __init__(self, context: Context, model: Model, cost: BatchCost) -> None:
        self._watchdog, self._model, self._cost, self._numbers = context.watchdog, model, cost, context.numbers
        self._units_per_row = 1
        self._most_units, self._units = model.describe().most_units, units_of(model)
        self._running: Sequence[Item] = ()
        self._ran_s = 0.0
        self._counted_before_s = model.device_busy_s() or 0.0  # warming up is not serving
        self._padded_before, self._padded_units_before = model.padded_rows(), model.padded_units()
        self._ran_units = 0

    @property
    def busy_s(self) -> float:
        """See the interface."""
        counted_s = self._model.device_busy_s()
        return self._ran_s if counted_s is None else counted_s - self._counted_before_s

    @property
    def running_until_s(self) -> float:
        """See the interface."""
        return max((item.deadline_s for item in self._running), default=-math.inf)

    @property
    def working_rows(self) -> int | None:
        """See the interface."""
        return self._model.working_rows()

    @property
    def padded_rows(self) -> int:
        """See the interface."""
        return self._model.padded_rows() - self._padded_before

    @property
    def ran_units(self) -> int:
        """See the interface."""
        return self._ran_units

    @property
    def padded_units(self) -> int:
        """See the interface."""
        return self._model.padded_units() - self._padded_units_before

    def run(self, source: Source, replies: Replies) -> None:
        """See the interface."""
        while not source.is_over():
            self.step(source, replies)

    def step(self, source: Source, replies: Replies) -> None:
        """Run the next batch, if one comes soon."""
        batch = source.next_batch(LOOK_UP_S)
        if batch is None:
            return
        if batch.most_units or batch.topped_up:
            self.run_beside(batch, source, replies)
        else:
            replies.finish(batch.items, self.run_batch(batch, source))
        source.ended(batch)

    def run_beside(self, batch: Batch[Item], source: Source, replies: Replies) -> None:
        """Run and finish a batch with requests of ``batch`` lanes: ordinary ones do not wait for their answers."""
        items, most_units = batch.items, batch.most_units
        if most_units and len(items) == 1 and items[0].load.units > most_units and len(items[0].rows) > 1:
            run = self._run_in_parts(batch, source, replies)
        else:
            run = self.run_batch(batch, source)
        if most_units:
            replies.finish(items, replace(run, share=Share.BATCH_LANE))
            return
        run = replace(run, number=next(self._numbers))  # both parts are one batch
        ordinary, beside = [one for one in items if not one.is_later], [one for one in items if one.is_later]
        if ordinary:
            replies.finish(ordinary, run)
        if beside:
            replies.finish(beside, replace(run, share=Share.TAKEN_ALONG))

    def _run_in_parts(self, batch: Batch[Item], source: Source, replies: Replies) -> BatchRun:
        """Run a large request of a ``batch`` lane; between two parts ordinary ones go first."""
        (item,) = batch.items
        count = self._units
        outputs: list[Any] = []
        taken_s, run_s = monotonic(), 0.0
        units = [1 if count is None else count(row) for row in item.rows]
        for part in parts(units, batch.most_units):
            if outputs:
                self._let_pass(batch, source, replies)
                refusal = source.refusal(item, -math.inf)
                if refusal is not None:
                    item.outcome = refusal
                    break
            rows = item.rows[part.start : part.stop]
            found, part_s = self._run_part(item, rows, sum(units[part.start : part.stop]))
            run_s += part_s
            if found is None:
                break
            outputs += found
        else:
            item.outcome = outputs
        return BatchRun(taken_s, run_s, len(item.rows), batch.reason)

    def _run_part(self, item: Item, rows: Sequence[Any], units: int) -> tuple[Sequence[Any] | None, float]:
        """Run some rows of a request; None where that failed, which is its outcome then."""
        begun_s = monotonic()
        self._running = (item,)
        self._watchdog.begin(BATCH, begun_s)
        found: Sequence[Any] | None = None
        try:
            found = self._model.run(rows)
            if len(found) != len(rows):
                raise ValueError(f"the model returned {len(found)} outputs for {len(rows)} rows")
            self._cost.observe(units, monotonic() - begun_s)
        except BaseException as error:
            item.outcome, found = answer_to(error, item, "Inference"), None
        run_s = monotonic() - begun_s
        self._watchdog.end(BATCH)
        self._running = ()
        self._ran_units += units
        self._ran_s += run_s
        return found, run_s

    def _let_pass(self, batch: Batch[Item], source: Source, replies: Replies) -> None:
        """Run what is due of ordinary requests, but no more than one batch where the large one is urgent."""
        while (other := source.next_ordinary()) is not None:
            if other.topped_up:
                self.run_beside(other, source, replies)
            else:
                replies.finish(other.items, self.run_batch(other, source))
            if batch.reason is CloseReason.URGENT:
                return

    def run_batch(self, batch: Batch[Item], source: Source) -> BatchRun:
        """Run a batch; whatever happens, each of its items has an outcome then.

        Args:
            source: says which items are not to run again after a batch of theirs has failed.
        """
        rows: list[Any] = []
        units = 0
        for item in batch.items:
            rows.extend(item.rows)
            units += item.load.units
        self._running = batch.items
        taken_s = monotonic()
        self._watchdog.begin(BATCH, taken_s)
        try:
            self._run_rows(batch.items, rows)
            run_s = monotonic() - taken_s
            self._cost.observe(units, run_s)
            self._units_per_row = units // len(rows)
        except BaseException as error:  # a panic, or `sys.exit()`: whatever it is, it is this batch's
            self._split(batch.items, error, source)
            run_s = monotonic() - taken_s
        self._watchdog.end(BATCH)
        self._running = ()
        self._ran_units += units
        self._ran_s += run_s
        return BatchRun(taken_s, run_s, len(rows), batch.reason)

    def _run_rows(self, items: Sequence[Item], rows: Sequence[Any]) -> None:
        outputs = self._model.run(rows) if len(items) > 1 or self._most_units is None else self._run_alone(rows)
        if len(outputs) != len(rows):
            raise ValueError(f"the model returned {len(outputs)} outputs for {len(rows)} rows")
        start = 0
        for item in items:
            end = start + item.load.rows
            item.outcome = outputs[start:end]
            start = end

    def _run_alone(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Run the rows of one request, which may be many times what a batch may hold.

        It takes as long as it takes, but each part of it no longer than anything may.
        """
        assert self._most_units is not None
        outputs: list[Any] = []
        for part in parts([self._model.units(row) for row in rows], PART_BATCHES * self._most_units):
            if outputs:
                self._watchdog.begin(BATCH, monotonic())
            found = self._model.run(rows[part.start : part.stop])
            if len(found) != len(part):
                raise ValueError(f"the model returned {len(found)} outputs for {len(part)} rows")
            outputs += found
        return outputs

    def _split(self, items: Sequence[Item], error: BaseException, source: Source) -> None:
        """Find those that a failed batch failed for: each half runs again, and again in halves where it fails.

        One culprit among n costs about 2 log2(n) further runs. A batch too large for the device's memory is answered
        by its halves.
        """
        if len(items) == 1:
            items[0].outcome = answer_to(error, items[0], "Inference")
            return
        what = described(error)
        log.warning("Inference failed for a batch of %d requests (%s); running it in halves.", len(items), what)
        middle = len(items) // 2
        for half in (items[:middle], items[middle:]):
            now_s = monotonic()
            self._watchdog.begin(BATCH, now_s)
            alive = []
            for item in half:
                refusal = source.refusal(item, now_s)
                if refusal is None:
                    alive.append(item)
                else:
                    item.outcome = refusal
            if alive:
                self._run_half(alive, source)

    def _run_half(self, items: Sequence[Item], source: Source) -> None:
        try:
            self._run_rows(items, [row for item in items for row in item.rows])
        except BaseException as again:
            self._split(items, again, source)
