"""The quick path: one thread reads, runs and commits where a batch is over before another would have woken up."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial

from msgspec.structs import replace

from consumer.batching.batcher import Batch, CloseReason
from consumer.batching.cost import BatchCost
from consumer.events import Share
from consumer.models.base import Model
from consumer.queue.interface import Entry

from .committer import MOST_BYTES, Committer
from .context import Context
from .executor import LOOK_UP_S, BatchExecutor
from .fetcher import Fetcher, Read
from .intake import Intake
from .interface import Replies, Source
from .items import Item, Prepared

QUICK_S = 0.0002
QUICK_ROWS = 16
"""A batch of so many rows that takes less than this is over before another thread could have read the next."""

PLENTY = 2
"""Where a batch of ``batch`` lanes is at least half full there is probably more."""


class InlineExecutor(BatchExecutor):
    """Reads for itself while batches are quick and nothing waits for company; otherwise a :class:`BatchExecutor`.

    What it read and ran it holds, and commits in the same round trip as it reads the next.

    While there is plenty in ``batch`` lanes it reads those instead, without waiting, and the ordinary ones are read on
    a thread: one that comes meanwhile is run next.

    Args:
        fetcher: whose thread reads otherwise.
        committer: whose thread commits otherwise.
        stop: set when nothing more is to be read.
        beside: whose thread reads ``batch`` lanes otherwise.
    """

    def __init__(
        self,
        context: Context,
        model: Model,
        cost: BatchCost,
        intake: Intake,
        fetcher: Fetcher,
        committer: Committer,
        stop: threading.Event,
        beside: Fetcher | None = None,
    ) -> None:
        super().__init__(context, model, cost)
        self._stream, self._intake, self._fetcher, self._committer = context.stream, intake, fetcher, committer
        self._stop, self._beside = stop, beside
        self._decodes = self._is_beside_plenty = False
        self._held: Prepared | None = None

    def run(self, source: Source, replies: Replies) -> None:
        """See the interface."""
        super().run(source, replies)
        self._flush()

    def step(self, source: Source, replies: Replies) -> None:
        """Read what is there, commit what is held, run the next batch, and hold it if nothing else waits."""
        if self._intake.later is None:
            has_read = self._is_quick() and self._intake.is_empty() and self._read(self._fetcher, self._commit_and_read)
        else:
            has_read = self._read_either()
        self._flush()
        batch = source.next_batch(0.0 if has_read else LOOK_UP_S)
        if batch is None:
            return
        if batch.most_units or batch.topped_up:
            self._run_beside(batch, source, replies, has_read)
            return
        run = self.run_batch(batch, source)
        # The decoders must not run dry while this thread waits for them.
        self._decodes = any(item.decode_s > 0 for item in batch.items)
        is_alone = batch.reason is CloseReason.ISOLATED
        if has_read and self._intake.is_empty() and not self._stop.is_set() and not is_alone:
            self._hold(self._committer.prepare(batch.items, run))
        else:
            replies.finish(batch.items, run)
            source.ended(batch)

    def _run_beside(self, batch: Batch[Item], source: Source, replies: Replies, has_read: bool) -> None:
        """Run a batch with requests of ``batch`` lanes; hold it if more of them are read next."""
        rows = sum(item.load.rows for item in batch.items)
        self._is_beside_plenty = bool(batch.most_units) and PLENTY * rows >= self._intake.most
        self._decodes = any(item.decode_s > 0 for item in batch.items)
        is_small = rows <= batch.most_units and not self._stop.is_set()
        if has_read and is_small and self._intake.is_empty():
            run = replace(self.run_batch(batch, source), share=Share.BATCH_LANE)
            self._hold(self._committer.prepare(batch.items, run))
        else:
            self.run_beside(batch, source, replies)
            source.ended(batch)

    def _read_either(self) -> bool:
        """As :meth:`step` begins where there are ``batch`` lanes."""
        is_quick = self._is_quick()
        expects_later = self._intake.expects_later()
        reads_beside = is_quick and expects_later and self._is_beside_plenty
        if expects_later:  # while this thread waited for ordinary requests it could not run the others
            self._fetcher.overlaps.set()
        beside = self._beside
        if beside is None or not reads_beside:
            if beside is not None and not beside.overlaps.is_set():
                beside.overlaps.set()
            is_free = is_quick and not expects_later and self._intake.is_empty()
            return is_free and self._read(self._fetcher, self._commit_and_read)
        beside.overlaps.clear()
        if not self._intake.is_empty() or not self._read(beside, self._commit_and_read_beside):
            return False
        self._is_beside_plenty = not self._intake.is_empty()  # else its thread waits for more
        return True

    def _is_quick(self) -> bool:
        few_s = self._cost.run_s(QUICK_ROWS * self._units_per_row)
        quick = few_s < QUICK_S and not self._decodes and not self._intake.waits()
        overlaps = self._fetcher.overlaps
        if quick and overlaps.is_set():
            overlaps.clear()
        elif not quick and not overlaps.is_set():
            overlaps.set()
        return quick

    def _read(self, fetcher: Fetcher, read: Read) -> bool:
        """Read once, unless the fetcher's thread still does; say whether that was done."""
        reading = fetcher.reading
        if not reading.acquire(blocking=False):
            return False
        try:
            # The previous holder of the lock may have brought something, which must not wait for this read to end.
            may_read = self._intake.is_empty() and not self._stop.is_set()
            return may_read and fetcher.read_once(read)
        finally:
            reading.release()

    def _commit_and_read(self, max_entries: int, *, wait: bool) -> Sequence[Entry]:
        held = self._held
        if held is None:
            return self._stream.read(max_entries, wait=wait)
        # What is held is committed in any case: here, or once this returns.
        return self._stream.commit_and_read(held.completions, partial(self._settle, held), max_entries)

    def _commit_and_read_beside(self, max_entries: int, *, wait: bool) -> Sequence[Entry]:
        held, claiming = self._held, self._stream.batch
        if held is None:
            return claiming.read(max_entries, wait=False)
        return claiming.commit_and_read(held.completions, partial(self._settle, held), max_entries, wait=False)

    def _settle(self, held: Prepared) -> None:
        self._held = None
        self._committer.settle(held)

    def _hold(self, prepared: Prepared) -> None:
        self._held = prepared
        if sum(len(one.reply) for one in prepared.completions) > MOST_BYTES:
            self._flush()

    def _flush(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._committer.commit(held)
