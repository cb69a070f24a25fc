"""The shape of `sweep.json`: latency against rate; `sweep.schema.json` is made from these types."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from .runfile import Amount, Count, Machine, Summary

FORMAT: Final = "headrace-sweep"
VERSION: Final = 1


class Point(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rate.

    `fit` is whether the measurement is one: every request answered, the rate reached, the generator neither late nor
    busy.

    `within` is whether the latency target was met; null without a target. `completed_per_s` is the rate of answers.
    """

    rate_per_s: Amount
    achieved_per_s: Amount | None
    completed_per_s: Amount | None
    scheduled: Count
    failed: Count
    fit: bool
    within: bool | None
    latency: Summary


class SweepFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Latency against rate, in order of the rate. `best_per_s` is the highest rate within the target, if any is."""

    format: Literal["headrace-sweep"]
    version: Literal[1]
    started_at: str
    partial: bool
    url: str
    model: str
    seed: int
    duration_s: Amount
    target_mean_ms: Amount | None
    target_p95_ms: Amount | None
    best_per_s: Amount | None
    machine: Machine
    card: dict[str, Any] | None
    points: list[Point]
