"""What the stages tell the metrics: events at the core, metrics at the edge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from shared.wire.request_log import ItemEnd

from .batching.batcher import CloseReason


class Share(Enum):
    """Which requests of a batch are answered together.

    Attributes:
        ALL: all of them, in a batch of ordinary ones.
        BATCH_LANE: all of them, in a batch of ``batch`` lanes.
        TAKEN_ALONG: those of ``batch`` lanes, in a batch of ordinary ones, which are answered before.
    """

    ALL = 0
    BATCH_LANE = 1
    TAKEN_ALONG = 2


class ItemDone(ItemEnd, frozen=True, array_like=True):
    """One request that ended, as the request log has it: its outcome code, and seconds spent in the stream, waiting
    for its batch, decoding."""


@dataclass(frozen=True, slots=True)
class BatchDone:
    """A commit. ``reason`` is None when nothing ran: the requests were refused."""

    items: Sequence[ItemDone]
    rows: int = 0
    reason: CloseReason | None = None
    share: Share = Share.ALL
    run_s: float = 0.0
    postprocess_s: float = 0.0
    commit_s: float = 0.0
    first_token_s: float | None = None


@dataclass(frozen=True, slots=True)
class Parity:
    """How close the outputs of a precision come to those of fp32.

    Attributes:
        precision: the one that was compared.
        rows: sample inputs compared; 0 when there was nothing to compare.
        top1_agreement: share of rows whose highest output is the same one, counted over the rows where fp32's own
            margin between first and second exceeds the row's largest difference; 1.0 when there is no such row.
        largest_difference: largest absolute difference divided by fp32's largest absolute output.
        cosine: cosine similarity of all outputs, taken as one vector.
        passed: whether the thresholds are met.
        reason: one sentence for the log.
    """

    precision: str
    rows: int
    top1_agreement: float
    largest_difference: float
    cosine: float
    passed: bool
    reason: str
