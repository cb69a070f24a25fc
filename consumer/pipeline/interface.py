"""The seams of the pipeline: where an executor gets requests from, and where their answers go.

Most executors run batches: a request lives in exactly one. The one that runs sequences step by step, and streams, takes
requests one by one as it has room, emits parts of answers meanwhile, and finishes each request by itself
(:mod:`consumer.pipeline.generating`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from consumer.batching.batcher import Batch
from shared.wire.outcomes import RequestError

from .items import BatchRun, Item, Refused


class Source(Protocol):
    """Hands out requests; see :class:`consumer.pipeline.source.BatchSource`. For the executor's thread only."""

    def next_batch(self, timeout_s: float) -> Batch[Item] | None:
        """Wait for requests that may run now; None when there are none, because the time is out or it is over."""

    def next_ordinary(self) -> Batch[Item] | None:
        """Return a batch of ordinary requests that is due, for between two parts of a request of a ``batch`` lane."""

    def ended(self, batch: Batch[Item]) -> None:
        """Note that a batch has run, and that its items have been handed over."""

    def refusal(self, item: Item, now_s: float) -> RequestError | None:
        """Say why an item that was handed out is not to run any further: it was cancelled, or its time is over."""

    def is_over(self) -> bool:
        """Say whether everything has been handed out and nothing more comes."""


class Replies(Protocol):
    """Where answers go; see :class:`consumer.pipeline.committer.Committer`."""

    def finish(self, items: Sequence[Item], run: BatchRun) -> None:
        """Take items with their outcomes; may block, which holds the device back while replies pile up.

        What ran alone is committed before this returns: had it not been when the next one ends the process, its attempt
        would count as one that ended it.
        """

    def refuse(self, refused: Sequence[Refused]) -> None:
        """Take requests that end without inference."""


class Executor(Protocol):
    """Runs the model, on the one thread that may; see :class:`consumer.pipeline.executor.BatchExecutor`.

    Any thread may ask for the properties.
    """

    @property
    def busy_s(self) -> float:
        """Seconds that the device has computed: the model's own count, or else the time spent in its ``run``."""

    @property
    def running_until_s(self) -> float:
        """When the last of those that run now is not waited for any more; minus infinity while none runs."""

    @property
    def working_rows(self) -> int | None:
        """Rows that at most run at once since memory ran out; None while it never did."""

    @property
    def padded_rows(self) -> int:
        """Rows that the device has computed for nothing, to fill batches up."""

    @property
    def ran_units(self) -> int:
        """Units of all batches that have run."""

    @property
    def padded_units(self) -> int:
        """Units that the device has computed for nothing besides, to make rows of a batch equally long."""

    def run(self, source: Source, replies: Replies) -> None:
        """Run what ``source`` hands out until it is over."""
