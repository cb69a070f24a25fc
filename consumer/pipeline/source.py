"""What an executor may run now: not what expired or was cancelled, and what was taken over only once it is counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from time import monotonic

from consumer.batching.batcher import Batch, CloseReason
from shared.wire.outcomes import CANCELLED, EXPIRED, RequestError

from .context import Context
from .decoding.isolated import count_isolated
from .decoding.rows import Rows
from .intake import Intake
from .items import Item, Refusal, Refused, refuse

ISOLATED = "isolated"
"""What beginning one that was taken over is called to the watchdog."""


class BatchSource:
    """Batches of the intake; see :class:`consumer.pipeline.interface.Source`.

    Args:
        rows: makes rows of what was taken over and is not decoded.
        send: takes requests that end here, without inference.
    """

    def __init__(self, context: Context, intake: Intake, rows: Rows, send: Callable[[Sequence[Refused]], None]) -> None:
        self._context, self._intake, self._rows, self._send = context, intake, rows, send
        self._cancellations = context.cancellations

    def is_over(self) -> bool:
        """See the interface."""
        return self._intake.is_over()

    def next_batch(self, timeout_s: float) -> Batch[Item] | None:
        """See the interface."""
        batch = self._intake.next_batch(timeout_s)
        return None if batch is None else self._alive(batch)

    def next_ordinary(self) -> Batch[Item] | None:
        """See the interface."""
        batch = self._intake.next_ordinary()
        return None if batch is None else self._alive(batch)

    def _alive(self, batch: Batch[Item]) -> Batch[Item] | None:
        """Return what of a batch is to run; None for nothing."""
        if batch.expired:
            self._send([refuse(item, _expired()) for item in batch.expired])
        if self._cancellations:
            batch = replace(batch, items=self._not_cancelled(batch.items))
        if not batch.items or (batch.reason is CloseReason.ISOLATED and not self._begins(batch.items[0])):
            self.ended(batch)
            return None
        return batch

    def ended(self, batch: Batch[Item]) -> None:
        """See the interface."""
        if batch.reason is CloseReason.ISOLATED:
            self._intake.end_isolated()

    def refusal(self, item: Item, now_s: float) -> RequestError | None:
        """See the interface."""
        if item.deadline_s <= now_s:
            return _expired()
        return _cancelled() if self._cancellations.holds(item.entry.claim) else None

    def _not_cancelled(self, items: Sequence[Item]) -> Sequence[Item]:
        # Asked once for each: what is heard of meanwhile must not fall out of both lists.
        holds = [self._cancellations.holds(item.entry.claim) for item in items]
        if True not in holds:
            return items
        self._send([refuse(item, _cancelled()) for item, gone in zip(items, holds, strict=True) if gone])
        return [item for item, gone in zip(items, holds, strict=True) if not gone]

    def _begins(self, item: Item) -> bool:
        """Count that an item taken over runs now, and make its rows; False when it is not to run.

        What needs decoding comes from the decoders, where that has been counted.
        """
        watchdog = self._context.watchdog
        watchdog.begin(ISOLATED, monotonic())
        try:
            if not item.has_begun:
                if not count_isolated(self._context, item):
                    return False
                self._rows.make(item)
            if item.deadline_s <= monotonic():  # asking took its time
                raise Refusal(item, _expired())
        except Refusal as refusal:
            self._send([refusal.refused])
            return False
        finally:
            watchdog.end(ISOLATED)
        return True


def _expired() -> RequestError:
    return RequestError(EXPIRED, "The deadline passed before inference could start.")


def _cancelled() -> RequestError:
    return RequestError(CANCELLED, "The request was cancelled.")
