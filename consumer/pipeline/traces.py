"""What tracing is told of a batch."""

from __future__ import annotations

from consumer.events import BatchDone
from shared.tracing.spans import TracedBatch, TracedRequest
from shared.wire.messages import ModelTag

from .items import Finished


def traced(finished: Finished, done: BatchDone, tag: ModelTag, now_s: float) -> TracedBatch | None:
    """Describe a batch that was committed at ``now_s``, on the monotonic clock; None when none of it is traced."""
    requests = [
        TracedRequest(item.request.id, traceparent, one.outcome, one.queue_wait_s, one.batch_wait_s)
        for item, one in zip(finished.items, done.items, strict=True)
        if (traceparent := item.request.traceparent) is not None
    ]
    if not requests:
        return None
    return TracedBatch(
        model=tag.name,
        precision=tag.precision,
        age_s=now_s - finished.taken_s,
        rows=finished.rows,
        reason=finished.reason.value,
        run_s=done.run_s,
        postprocess_s=done.postprocess_s,
        commit_s=done.commit_s,
        requests=requests,
    )
