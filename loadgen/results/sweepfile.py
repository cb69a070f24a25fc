"""The shapes of `sweep.json`, latency against rate, and of `models.json`, the same of several models.

`sweep.schema.json` and `models.schema.json` are made from these types.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from loadgen.workloads.spec import Workload

from .runfile import Amount, Count, Machine, PayloadInfo, Summary, TokenFigures

FORMAT: Final = "headrace-sweep"
MODELS_FORMAT: Final = "headrace-models"
VERSION: Final = 1


class Point(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rate.

    `fit` is whether the measurement is one: every request answered, the rate reached, the generator neither late nor
    busy.

    `within` is whether the latency target was met; null without a target. `completed_per_s` is the rate of answers.
    `device_ms` is how long the consumers computed for each answer, as their own clocks have it; null where their
    metrics were not read.
    """

    rate_per_s: Amount
    achieved_per_s: Amount | None
    completed_per_s: Amount | None
    scheduled: Count
    failed: Count
    fit: bool
    within: bool | None
    latency: Summary
    device_ms: Amount | None = None
    tokens: TokenFigures | None = None


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
    workload: Workload | None = None
    target_goodput: Amount | None = None


class ModelSweep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The curve of one model. `payloads` are what it was sent: equal hashes mean equal bytes."""

    sweep: SweepFile
    payloads: list[PayloadInfo]


class ModelsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Several models, measured in one go with the same arrivals.

    `cost_per_hour` is what the machine that serves costs; null where nobody said. `alone` is whether each model had the
    machine to itself; else all were served at the same time, and took turns in being asked.
    """

    format: Literal["headrace-models"]
    version: Literal[1]
    started_at: str
    partial: bool
    alone: bool
    cost_per_hour: Amount | None
    models: list[ModelSweep]
