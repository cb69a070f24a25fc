"""Spans by OpenTelemetry, sent as OTLP over HTTP [I/O]. Imported only when tracing is on.

Where they go and how many are kept is for OpenTelemetry's own variables to say: OTEL_EXPORTER_OTLP_ENDPOINT,
OTEL_TRACES_SAMPLER and so on. Attribute names follow its semantic conventions for HTTP and messaging where there are
any.
"""

from __future__ import annotations

import threading
import time

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from shared.version import __version__
from shared.wire.messages import Timing
from shared.wire.outcomes import Outcome
from shared.wire.trace_context import parts

from .spans import TracedBatch

STOP_S = 3.0
FIRST_TOKEN = "headrace.first_token"
"""The event of a span that says when there was something to read."""


def context_of(traceparent: str) -> SpanContext | None:
    """Return what a traceparent names; None when it is malformed."""
    found = parts(traceparent)
    if found is None:
        return None
    return SpanContext(int(found[0], 16), int(found[1], 16), is_remote=True, trace_flags=TraceFlags(found[2] & 1))


class OtelRequestSpan:
    """See :class:`shared.tracing.spans.RequestSpan`."""

    def __init__(self, span: Span) -> None:
        self._span = span

    @property
    def traceparent(self) -> str:
        """See the interface."""
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def first_token(self) -> None:
        """See the interface."""
        self._span.add_event(FIRST_TOKEN)

    def answered(self, timing: Timing) -> None:
        """See the interface."""
        self._span.set_attributes(
            {
                "headrace.queue_wait_us": timing.queue,
                "headrace.batch_wait_us": timing.wait,
                "headrace.decode_us": timing.decode,
                "headrace.inference_us": timing.run,
                "headrace.batch_rows": timing.batch,
            }
        )

    def end(self, request_id: str, outcome: Outcome) -> None:
        """See the interface."""
        self._span.set_attributes(
            {
                "headrace.request_id": request_id,
                "headrace.outcome": outcome.code,
                "http.response.status_code": outcome.status,
            }
        )
        if outcome.status >= 500:
            self._span.set_status(Status(StatusCode.ERROR, outcome.code))
        self._span.end()


class Otel:
    """See :class:`shared.tracing.spans.Tracing`."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("headrace", __version__)

    def request(self, traceparent: str, route: str, model: str) -> OtelRequestSpan:
        """See the interface."""
        context = context_of(traceparent)
        parent = None if context is None else set_span_in_context(NonRecordingSpan(context))
        attributes = {"http.request.method": "POST", "http.route": route, "headrace.model": model[:64]}
        span = self._tracer.start_span(f"POST {route}", parent, kind=SpanKind.SERVER, attributes=attributes)
        return OtelRequestSpan(span)

    def batch(self, batch: TracedBatch) -> None:
        """See the interface."""
        links = []
        for request in batch.requests:
            context = context_of(request.traceparent)
            if context is not None and context.trace_flags.sampled:
                waits: dict[str, str | int] = {
                    "headrace.request_id": request.request_id,
                    "headrace.outcome": request.outcome,
                    "headrace.queue_wait_us": round(request.queue_wait_s * 1e6),
                    "headrace.batch_wait_us": round(request.batch_wait_s * 1e6),
                }
                links.append(Link(context, waits))
        if not links:
            return
        now_ns = time.time_ns()
        begun_ns = now_ns - round(batch.age_s * 1e9)
        span = self._tracer.start_span(
            f"process {batch.model}",
            kind=SpanKind.CONSUMER,
            links=links,
            start_time=begun_ns,
            attributes={
                "messaging.operation.type": "process",
                "messaging.batch.message_count": len(links),
                "headrace.model": batch.model,
                "headrace.operate.precision": batch.precision,
                "headrace.batch_rows": batch.rows,
                "headrace.batch_closed_by": batch.reason,
                "headrace.inference_us": round(batch.run_s * 1e6),
                "headrace.postprocess_us": round(batch.postprocess_s * 1e6),
                "headrace.commit_us": round(batch.commit_s * 1e6),
            },
        )
        if batch.first_token_s is not None:
            span.add_event(FIRST_TOKEN, timestamp=begun_ns + round(batch.first_token_s * 1e9))
        span.end(now_ns)

    def stop(self) -> None:
        """See the interface."""
        # A collector that does not answer must not keep the process: the exporter itself would try for minutes.
        last = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        last.start()
        last.join(STOP_S)


def start_otlp(service: str) -> Otel:
    """Start sending spans; the exporter reads its address from OTEL_EXPORTER_OTLP_ENDPOINT."""
    own = Resource({"service.name": service, "service.version": __version__})
    provider = TracerProvider(resource=own.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Otel(provider)
