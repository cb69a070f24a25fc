"""What passes between the stages of a consumer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from consumer.batching.batcher import CloseReason
from consumer.batching.load import ONE, Load
from consumer.events import BatchDone, ItemDone, Share
from consumer.queue.interface import Completion, Entry
from shared.process.logs import about
from shared.tracing.spans import TracedBatch, TracedRequest
from shared.wire.messages import ModelTag, Request
from shared.wire.outcomes import RequestError


@dataclass(slots=True)
class Item:
    """One request on its way through the stages. Times are monotonic seconds, ``decode_s`` is a duration.

    ``has_priority`` says that its lane has a share of the next batch, although others have filled that already;
    ``is_isolated`` that it was taken over and runs alone, ``has_begun`` that this delivery of it has been counted.
    ``is_later`` says that its lane is one of kind ``batch``, which gets what the others leave.
    ``outcome`` is what came of it once it has run: its outputs, or the error that it met. ``held`` is what it keeps
    until it ends, such as memory for its body. ``resumed`` is what another consumer has generated of it.
    """

    entry: Entry
    request: Request
    arrived_s: float
    deadline_s: float
    queued_s: float
    rows: Sequence[Any] = ()
    load: Load = ONE
    decode_s: float = 0.0
    has_priority: bool = False
    is_isolated: bool = False
    has_begun: bool = False
    outcome: Sequence[Any] | RequestError = ()
    held: object = None
    resumed: Any = None
    is_later: bool = False

    @property
    def is_urgent(self) -> bool:
        """Whether its sender says that it may wait no longer, in a lane of kind ``batch``."""
        return self.request.urgent

    def about(self) -> dict[str, str]:
        """Return what a log line about it carries besides its words."""
        return about(self.request.id, self.request.traceparent)


class BatchRun(msgspec.Struct, frozen=True):
    """What a batch that ran has in common; the outcome of each item is the item's own.

    Attributes:
        taken_s: when the batch closed and left the batcher.
        run_s: how long the model ran.
        rows: rows in the batch.
        first_token_s: when a generation had its first token, after ``taken_s``; None for none, and for other models.
        share: whose requests these are: all of the batch, or those of ``batch`` lanes that it took along.
        number: of the batch, counted in this process; 0 leaves that to the committer.
    """

    taken_s: float
    run_s: float
    rows: int
    reason: CloseReason
    first_token_s: float | None = None
    share: Share = Share.ALL
    number: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that ends without inference, and the error to send.

    Attributes:
        reply_to: instance waiting for the reply; empty for none.
        ttl_ms: the request's time to live, 0 when it could not be read.
        reason: why it becomes a dead letter, for the operator; empty when it does not.
        crashes: how often a consumer died while it ran alone.
        keep_ms: how long the request wants its reply kept; None where it does not say.
    """

    entry: Entry
    request_id: str
    reply_to: str
    ttl_ms: int
    error: RequestError
    reason: str = ""
    crashes: int = 0
    keep_ms: int | None = None


def refuse(item: Item, error: RequestError, reason: str = "", crashes: int = 0) -> Refused:
    """Make the refusal of an item."""
    request = item.request
    return Refused(
        item.entry, request.id, request.reply_to or "", request.ttl_ms, error, reason, crashes, request.keep_ms
    )


class Refusal(Exception):
    """An item ends without inference; arguments as for :func:`refuse`."""

    def __init__(self, item: Item, error: RequestError, reason: str = "", crashes: int = 0) -> None:
        self.refused = refuse(item, error, reason, crashes)


def completion_of(item: Item, expiry_ms: int, reply: bytes) -> Completion:
    """Make the end of an item that is answered with ``reply``."""
    entry, request = item.entry, item.request
    return Completion(entry.entry_id, request.id, request.reply_to or "", expiry_ms, reply, entry.lane)


class Prepared(msgspec.Struct, frozen=True):
    """Items that ran, with replies encoded: what to commit, and what to report then. Times are monotonic seconds.

    ``number`` is that of their batch, counted in this process.
    """

    items: Sequence[Item]
    run: BatchRun
    completions: Sequence[Completion]
    done: Sequence[ItemDone]
    begun_s: float
    encoded_s: float
    number: int = 0


def traced(prepared: Prepared, done: BatchDone, tag: ModelTag, now_s: float) -> TracedBatch | None:
    """Describe a batch that was committed at ``now_s``, on the monotonic clock; None when none of it is traced."""
    requests = [
        TracedRequest(item.request.id, traceparent, one.outcome, one.queue_wait_s, one.batch_wait_s)
        for item, one in zip(prepared.items, done.items, strict=True)
        if (traceparent := item.request.traceparent) is not None
    ]
    if not requests:
        return None
    run = prepared.run
    return TracedBatch(
        model=tag.name,
        precision=tag.precision,
        age_s=now_s - run.taken_s,
        rows=run.rows,
        reason=run.reason.value,
        run_s=run.run_s,
        postprocess_s=done.postprocess_s,
        commit_s=done.commit_s,
        requests=requests,
        first_token_s=run.first_token_s,
    )
