"""What became of the requests of each model, as the Open Inference Protocol's clients ask for it.

A front end counts the requests that came through that protocol and that it has answered itself, from the durations in
their replies. Counts only grow: perf_analyzer takes the difference of two.
"""

from __future__ import annotations

import time
from collections import defaultdict

from msgspec import Struct

from shared.wire.messages import Timing


class Counts(Struct):
    """Sums over the requests of one model; durations in nanoseconds.

    Attributes:
        succeeded, failed: requests.
        rows: of those that succeeded.
        batches: shares in batches: a request with 2 of the 8 rows of a batch counts a quarter.
        took_ns, failed_ns: in this front end, waiting included.
        queue_ns: until their batch began, without decoding.
        last_ms: when the last one ended, in ms since 1970.
    """

    succeeded: int = 0
    failed: int = 0
    rows: int = 0
    batches: float = 0.0
    took_ns: int = 0
    failed_ns: int = 0
    queue_ns: int = 0
    decode_ns: int = 0
    run_ns: int = 0
    last_ms: int = 0


class Statistics:
    """The counts of all models. Call it with models that there are only."""

    def __init__(self) -> None:
        self._of: defaultdict[str, Counts] = defaultdict(Counts)

    def of(self, model: str) -> Counts:
        """Return the counts of a model."""
        return self._of.get(model) or Counts()

    def succeeded(self, model: str, rows: int, timing: Timing, took_s: float) -> None:
        """Count a request that has an answer."""
        counts = self._of[model]
        counts.succeeded += 1
        counts.rows += rows
        counts.batches += rows / max(rows, timing.batch)
        counts.took_ns += int(took_s * 1e9)
        counts.queue_ns += 1000 * (timing.queue + timing.wait - timing.decode)
        counts.decode_ns += 1000 * timing.decode
        counts.run_ns += 1000 * timing.run
        counts.last_ms = time.time_ns() // 1_000_000

    def failed(self, model: str, took_s: float) -> None:
        """Count a request that has none."""
        counts = self._of[model]
        counts.failed += 1
        counts.failed_ns += int(took_s * 1e9)
