"""The shape of `.headrace/bench/results.json`: everything that was measured, window by window."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import Final

import msgspec

from loadgen.runfile import Commit, Machine

FORMAT: Final = "headrace-bench"
VERSION: Final = 1


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of the file."""


class Window(_Record, frozen=True, kw_only=True):
    """One stretch of closed-loop load.

    `subject` is a model's name, or `bare` for the web server without a queue. `cpu_us` is the processor time per
    request by process; `busy_share` the time in which the model ran over wall time; `batch_rows` the mean batch.
    """

    subject: str
    connections: int
    max_batch: int | None = None
    duration_s: float
    requests: int
    failed: int
    rate_per_s: float
    mean_ms: float | None
    p50_ms: float | None
    p99_ms: float | None
    cpu_us: dict[str, float] | None = None
    busy_share: float | None = None
    batch_rows: float | None = None


class Start(_Record, frozen=True, kw_only=True):
    """One start of the stack with the default model, and what was resident when it was ready."""

    ready_s: float
    front_end_bytes: int
    consumer_bytes: int


class Overhead(_Record, frozen=True, kw_only=True):
    """What a consumer holds, and what a process holds that only loads and warms up the same model."""

    consumer_bytes: int
    bare_bytes: int


class DirectRun(_Record, frozen=True, kw_only=True):
    """One run of the direct producer's example."""

    requests: int
    failed: int
    rate_per_s: float


class Results(_Record, frozen=True, kw_only=True):
    """One run of `make bench`. `resident_bytes` is what each process held after the load it was given.

    `steal_share` is the share of processor time that the host kept from this machine during the run.
    """

    format: str = FORMAT
    version: int = VERSION
    started_at: str
    took_s: float
    quick: bool
    machine: Machine
    commit: Commit | None
    versions: dict[str, str]
    settings: dict[str, str]
    echo_settings: dict[str, str]
    generator: str
    steal_share: float | None
    starts: list[Start]
    overheads: list[Overhead]
    windows: list[Window]
    direct: list[DirectRun]
    resident_bytes: dict[str, int]
    notes: list[str]

    def of(self, subject: str, connections: int, max_batch: int | None = None) -> list[Window]:
        """Return the windows of one scenario, in the order in which they were measured."""
        key = (subject, connections, max_batch)
        return [window for window in self.windows if (window.subject, window.connections, window.max_batch) == key]


class Spread(_Record, frozen=True, kw_only=True):
    """A figure over several windows: the middle one and the worst one."""

    median: float
    worst: float


def spread(values: Iterable[float | None], *, higher_is_better: bool) -> Spread | None:
    """Return the median and the worst of the values that there are; None when there are none."""
    found = [value for value in values if value is not None]
    if not found:
        return None
    return Spread(median=median(found), worst=min(found) if higher_is_better else max(found))
