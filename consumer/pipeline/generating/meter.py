"""Measures generations for the metrics: all that a step has moved at once, on the executor's thread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from time import time

from consumer.generation_metrics import ABORT, ERROR, GenerationMetrics
from consumer.pipeline.items import Item
from shared.metrics.histograms import Series
from shared.wire.trace_context import sampled_trace_id

from .resumption import Resumption
from .running import FIRST, Running


class Meter:
    """Tells the metrics what generations do.

    Args:
        metrics: written to on one thread.
    """

    def __init__(self, metrics: GenerationMetrics) -> None:
        self._metrics = metrics

    def resumed(self, past: Resumption) -> None:
        """Count a generation that another consumer had begun."""
        self._metrics.resumed += 1
        self._metrics.resumed_tokens += len(past.tokens)

    def stepped(self, moved: Sequence[Running], tokens: int, now_s: float) -> None:
        """Count a step.

        Args:
            moved: generations that it brought tokens.
            tokens: all of them.
        """
        metrics = self._metrics
        metrics.steps += 1
        metrics.generation_tokens += tokens
        gaps = Counter([one.gap_s for one in moved])
        if gaps.pop(FIRST, 0):
            for one in moved:
                if one.gap_s == FIRST:
                    self._first_token(one, now_s)
        for gap_s, count in gaps.items():
            metrics.gap.observe_many(gap_s, count)

    def _first_token(self, one: Running, now_s: float) -> None:
        metrics, trace_id = self._metrics, _trace_id(one.item)
        _observe(metrics.prefill, now_s - one.began_s, trace_id)
        if one.tokens == one.made:  # else it had its first token elsewhere
            metrics.prompt_tokens += len(one.row.sequence.prompt)
            _observe(metrics.first_token, _since_queued_s(one.item, now_s), trace_id)

    def ended(self, one: Running, reason: str, now_s: float) -> None:
        """Count a generation that runs here no more, unless another consumer goes on with it."""
        metrics = self._metrics
        metrics.finished[reason] += 1
        if reason == ABORT:
            metrics.cancelled_tokens += one.made
        elif reason != ERROR:
            _observe(metrics.whole, _since_queued_s(one.item, now_s), _trace_id(one.item))
            metrics.prompts.observe(len(one.row.sequence.prompt))
            metrics.lengths.observe(one.tokens)


def _since_queued_s(item: Item, now_s: float) -> float:
    return item.queued_s + now_s - item.arrived_s


def _trace_id(item: Item) -> str | None:
    traceparent = item.request.traceparent
    return None if traceparent is None else sampled_trace_id(traceparent)


def _observe(series: Series, seconds: float, trace_id: str | None) -> None:
    if trace_id is None:
        series.observe(seconds)
    else:
        series.observe_traced(seconds, trace_id, time())
