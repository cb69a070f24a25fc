"""A set of values in a few exact figures. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable

from . import runfile, stats


def summarise(values: Iterable[float]) -> runfile.Summary:
    """Return the exact figures of values in milliseconds; infinite ones count as failed."""
    ordered = sorted(values)
    failed = sum(math.isinf(value) for value in ordered)
    if not ordered:
        return runfile.Summary(0, 0, *[None] * 8)
    shares = (0.5, 0.9, 0.95, 0.99, 0.999)
    p50, p90, p95, p99, p999 = (_finite(stats.percentile(ordered, share)) for share in shares)
    return runfile.Summary(
        count=len(ordered),
        failed=failed,
        mean_ms=_finite(stats.mean(ordered)),
        min_ms=_finite(ordered[0]),
        p50_ms=p50,
        p90_ms=p90,
        p95_ms=p95,
        p99_ms=p99,
        p999_ms=p999,
        max_ms=_finite(ordered[-1]),
    )


def _finite(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
