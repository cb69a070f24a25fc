"""What clients see of answers that are sent as they are made: when they begin, and how steadily they come."""

from __future__ import annotations

import time

from prometheus_client.registry import CollectorRegistry

from shared.metrics.histograms import FIRST_TOKEN_BUCKETS_S, TOKEN_GAP_BUCKETS_S, Histogram, Series
from shared.tracing.spans import RequestSpan
from shared.wire.trace_context import sampled_trace_id

_UNKNOWN_S = -1.0


class StreamMeter:
    """Measures one answer; told whenever parts of it go to the client.

    Args:
        begun_s: when its request came, by ``perf_counter``.
        span: of the request; None where it belongs to no trace.
        trace_id: the exemplar of its beginning; None for none.
    """

    __slots__ = ("_begun_s", "_first", "_gaps", "_last_s", "_span", "_trace_id")

    def __init__(
        self, first: Series, gaps: Series, begun_s: float, span: RequestSpan | None, trace_id: str | None
    ) -> None:
        self._first, self._gaps, self._begun_s = first, gaps, begun_s
        self._span, self._trace_id = span, trace_id
        self._last_s = _UNKNOWN_S

    @property
    def has_begun(self) -> bool:
        """Say whether a part has gone."""
        return self._last_s != _UNKNOWN_S

    def goes_on(self, now_s: float) -> None:
        """Note that the client has had the beginning before: the next part is no first one."""
        self._last_s = now_s

    def wrote(self, now_s: float) -> None:
        """Note that a part goes to the client now, or several at once; the time is that of ``perf_counter``."""
        last_s, self._last_s = self._last_s, now_s
        if last_s != _UNKNOWN_S:
            self._gaps.observe(now_s - last_s)
            return
        if self._span is not None:
            self._span.first_token()
        if self._trace_id is None:
            self._first.observe(now_s - self._begun_s)
        else:
            self._first.observe_traced(now_s - self._begun_s, self._trace_id, time.time())


class StreamMetrics:
    """The metrics of such answers, by model."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._first = Histogram(
            "headrace_stream_time_to_first_token_seconds",
            "From a request until the first part of its answer goes to the client.",
            FIRST_TOKEN_BUCKETS_S,
            registry,
            ("model",),
        )
        self._gaps = Histogram(
            "headrace_stream_inter_frame_seconds",
            "Between two parts of an answer that go to the client.",
            TOKEN_GAP_BUCKETS_S,
            registry,
            ("model",),
        )

    def begin(
        self, model: str, begun_s: float, traceparent: str | None = None, span: RequestSpan | None = None
    ) -> StreamMeter:
        """Measure an answer.

        Args:
            model: one that is served, and no name that a client has made up.
            begun_s: when the request came, by ``perf_counter``.
        """
        trace_id = None if traceparent is None else sampled_trace_id(traceparent)
        return StreamMeter(self._first.labels(model), self._gaps.labels(model), begun_s, span, trace_id)
