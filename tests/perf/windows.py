"""One stretch of load, as every generator tells it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from loadgen.results.runfile import RunFile


@dataclass(frozen=True, slots=True)
class Window:
    """One stretch of load.

    `cpu_us` is the processor time per request by process. `busy_share` is the time in which the model ran over wall
    time, the mean over its consumers; `batch_rows` the mean batch; `stages_ms` the mean of each stage's duration.
    """

    requests: int
    failed: int
    rate_per_s: float
    mean_ms: float | None
    p50_ms: float | None
    p99_ms: float | None
    cpu_us: dict[str, float] = field(default_factory=dict)
    busy_share: float | None = None
    batch_rows: float | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)


def from_run(result: RunFile) -> Window:
    """Return the window that a result of `loadgen` describes.

    Latencies are those from the planned send time, in which a failed request is infinitely slow: None then. The rate
    is that of good answers.
    """
    latency = result.latency.from_planned
    return Window(
        requests=result.counts.ok,
        failed=result.counts.scheduled - result.counts.ok,
        rate_per_s=result.counts.ok / result.configuration.duration_s,
        mean_ms=latency.mean_ms,
        p50_ms=latency.p50_ms,
        p99_ms=latency.p99_ms,
    )
