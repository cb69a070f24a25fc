"""The middle stage: the one thread that runs the model. Loading (`loading.py`) happens on it too, since a second thread
that runs torch slows the first down.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Sequence
from dataclasses import replace
from time import monotonic
from typing import Any, Protocol

from consumer.batching.batcher import Batch, CloseReason
from consumer.batching.cost import BatchCost
from consumer.models.base import Model
from consumer.models.model_errors import answer_to, described
from shared.wire.outcomes import CANCELLED, EXPIRED, RequestError

from .cancellations import Cancellations
from .intake import Intake
from .items import Finished, Item, Replies, refuse
from .leases import Watchdog

log = logging.getLogger(__name__)

QUICK_S = 0.0002
QUICK_ROWS = 16
"""A batch of so many rows that takes less than this is over before another thread could have read the next."""

LOOK_UP_S = 0.2
BATCH = "batch"
"""What the running batch is called in the watchdog."""


class Reader(Protocol):
    """Reads the stream; see :class:`consumer.pipeline.fetcher.Fetcher`."""

    overlaps: threading.Event

    def read_for_executor(self, stop: threading.Event, replies: Replies | None) -> bool:
        """Read once, and commit what is held in the same round trip, unless somebody else is reading; say whether."""

    def begin_isolated(self, item: Item) -> bool:
        """Count that ``item`` runs alone, and make its rows; False when it is not to run."""


class Executor:
    """Takes batches from the intake and runs them.

    Reading and committing normally overlap with running, on threads of their own. Where a batch runs in less time than
    handing over between threads takes, and nothing waits for company, the executor reads for itself, and commits each
    batch in the same round trip as it reads the next.

    Args:
        replies: takes batches that ran, and requests whose deadline passed before inference.
        cost: what batches cost; learns from each one that runs.
        watchdog: is told when a batch begins and ends.
        cancellations: entries that are not to run.
    """

    def __init__(
        self,
        model: Model,
        intake: Intake,
        replies: Replies,
        cost: BatchCost | None = None,
        watchdog: Watchdog | None = None,
        cancellations: Cancellations | None = None,
    ) -> None:
        self._model, self._intake, self._replies = model, intake, replies
        self._cost = cost or BatchCost()
        self._watchdog, self._cancellations = (
            watchdog or Watchdog(),
            Cancellations() if cancellations is None else cancellations,
        )
        self._decodes = False
        self._units_per_row = 1
        self._running: Sequence[Item] = ()
        self._ran_s = 0.0
        self._counted_before_s = model.device_busy_s() or 0.0  # warming up is not serving
        self._padded_before = model.padded_rows()

    @property
    def busy_s(self) -> float:
        """Seconds that the device has computed: the model's own count, or else the time spent in its ``run``."""
        counted_s = self._model.device_busy_s()
        return self._ran_s if counted_s is None else counted_s - self._counted_before_s

    @property
    def running_until_s(self) -> float:
        """When the last of those in the running batch is not waited for any more; minus infinity while none runs."""
        return max((item.deadline_s for item in self._running), default=-math.inf)

    @property
    def working_rows(self) -> int | None:
        """Rows that at most run at once since memory ran out; None while it never did."""
        return self._model.working_rows()

    @property
    def padded_rows(self) -> int:
        """Rows that the device has computed for nothing, to fill batches up."""
        return self._model.padded_rows() - self._padded_before

    def run(self, reader: Reader | None = None, stop: threading.Event | None = None) -> None:
        """Run batches until the intake is closed and empty.

        Args:
            reader: reads the stream when asked to; None leaves all reading to others.
            stop: set when nothing more is to be read.
        """
        stop = stop or threading.Event()
        while not self._intake.is_over():
            reads = reader is not None and self._reads_itself(reader) and self._intake.is_empty()
            has_read = reads and reader is not None and reader.read_for_executor(stop, self._replies)
            self._replies.flush()
            batch = self._intake.next_batch(0.0 if has_read else LOOK_UP_S)
            if batch is None:
                continue
            if batch.expired:
                self._refuse_expired(batch.expired)
            if self._cancellations:
                batch = replace(batch, items=self._not_cancelled(batch.items))
            if batch.items and self._may_run(batch, reader):
                finished = self._run_batch(batch)
                idle = self._intake.is_empty()
                self._replies.finish(finished, idle=idle, hold=idle and has_read and not stop.is_set())
        self._replies.flush()

    def _may_run(self, batch: Batch[Item], reader: Reader | None) -> bool:
        if batch.reason is not CloseReason.ISOLATED or reader is None:
            return True
        self._watchdog.begin(BATCH, monotonic())
        try:
            begins = reader.begin_isolated(batch.items[0])
        finally:
            self._watchdog.end(BATCH)
        if begins and batch.items[0].deadline_s <= monotonic():  # asking took its time
            self._refuse_expired(batch.items)
            return False
        return begins

    def _reads_itself(self, reader: Reader) -> bool:
        few_s = self._cost.run_s(QUICK_ROWS * self._units_per_row)
        quick = few_s < QUICK_S and not self._decodes and not self._intake.waits()
        if quick and reader.overlaps.is_set():
            reader.overlaps.clear()
        elif not quick and not reader.overlaps.is_set():
            reader.overlaps.set()
        return quick

    def _run_batch(self, batch: Batch[Item]) -> Finished:
        rows: list[Any] = []
        units = 0
        for item in batch.items:
            rows.extend(item.rows)
            units += item.load.units
        self._running = batch.items
        taken_s = monotonic()
        self._watchdog.begin(BATCH, taken_s)
        try:
            outputs = self._outputs(batch.items, self._run_rows(rows))
            run_s = monotonic() - taken_s
            self._cost.observe(units, run_s)
            self._units_per_row = units // len(rows)
        except BaseException as error:  # a panic, or `sys.exit()`: whatever it is, it is this batch's
            outputs = self._split(batch.items, error)
            run_s = monotonic() - taken_s
        self._watchdog.end(BATCH)
        self._running = ()
        self._ran_s += run_s
        # The decoders must not run dry while the executor waits for them.
        self._decodes = any(item.decode_s > 0 for item in batch.items)
        return Finished(batch.items, outputs, taken_s, run_s, len(rows), batch.reason)

    def _run_rows(self, rows: Sequence[Any]) -> Sequence[Any]:
        outputs = self._model.run(rows)
        if len(outputs) != len(rows):
            raise ValueError(f"the model returned {len(outputs)} outputs for {len(rows)} rows")
        return outputs

    def _outputs(self, items: Sequence[Item], outputs: Sequence[Any]) -> list[Sequence[Any] | RequestError]:
        shares: list[Sequence[Any] | RequestError] = []
        start = 0
        for item in items:
            end = start + item.load.rows
            shares.append(outputs[start:end])
            start = end
        return shares

    def _split(self, items: Sequence[Item], error: BaseException) -> list[Sequence[Any] | RequestError]:
        """Find those that a failed batch failed for: each half runs again, and again in halves where it fails.

        One culprit among n costs about 2 log2(n) further runs. A batch too large for the device's memory is answered
        by its halves.
        """
        if len(items) == 1:
            return [answer_to(error, items[0], "Inference")]
        what = described(error)
        log.warning("Inference failed for a batch of %d requests (%s); running it in halves.", len(items), what)
        middle = len(items) // 2
        shares: list[Sequence[Any] | RequestError] = []
        for half in (items[:middle], items[middle:]):
            now_s = monotonic()
            self._watchdog.begin(BATCH, now_s)
            ends = [self._end_without_running(item, now_s) for item in half]
            outputs = iter(self._run_half([item for item, end in zip(half, ends, strict=True) if end is None]))
            shares += [next(outputs) if end is None else end for end in ends]
        return shares

    def _run_half(self, items: Sequence[Item]) -> list[Sequence[Any] | RequestError]:
        if not items:
            return []
        try:
            return self._outputs(items, self._run_rows([row for item in items for row in item.rows]))
        except BaseException as again:
            return self._split(items, again)

    def _end_without_running(self, item: Item, now_s: float) -> RequestError | None:
        if item.deadline_s <= now_s:
            return RequestError(EXPIRED, "The deadline passed before inference could start.")
        if self._cancellations.holds(item.entry.claim):
            return RequestError(CANCELLED, "The request was cancelled.")
        return None

    def _not_cancelled(self, items: Sequence[Item]) -> Sequence[Item]:
        # Asked once for each: what is heard of meanwhile must not fall out of both lists.
        holds = [self._cancellations.holds(item.entry.claim) for item in items]
        if True not in holds:
            return items
        error = RequestError(CANCELLED, "The request was cancelled.")
        self._replies.refuse([refuse(item, error) for item, gone in zip(items, holds, strict=True) if gone])
        return [item for item, gone in zip(items, holds, strict=True) if not gone]

    def _refuse_expired(self, items: Sequence[Item]) -> None:
        error = RequestError(EXPIRED, "The deadline passed before inference could start.")
        self._replies.refuse([refuse(item, error) for item in items])
