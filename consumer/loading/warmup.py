"""Warming up, and finding the batch size that gets most done: every bucket is run and timed, the times are remembered.

The largest batch is not always the best one: on a CPU the activations of a large batch fall out of the caches.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

from consumer.batching.cost import BatchCost
from consumer.config import ConsumerConfig
from consumer.models.base import ROW, Model
from consumer.models.generate.generator import Generator
from consumer.models.loads import load_of, units_of
from consumer.tuning.findings import Finding
from consumer.tuning.measuring import BatchTimes, measure, preferred_rows
from shared.families import known

from .start_cache import StartCache

log = logging.getLogger(__name__)

Timer = Callable[[], float]

BUDGET_S = 1.0
NETWORK_BUDGET_S = 2.0
"""Once the buckets of ``ALWAYS_WARM`` are warm, no run is begun that would end later than this."""

BRIEF_ROWS = 8
"""Batches of at most so many rows are prepared for, and preferred, where something faster will soon take the place."""

BRIEF_S = 0.3


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was measured at warm-up.

    Attributes:
        measured: (rows, fastest seconds) per bucket, ascending.
        preferred: rows beyond which a batch gets hardly more done.
        unit: what the cost is counted in.
        units: of the rows of each bucket; empty where a row is a unit.
        most_units: most units of a batch; None where only its rows are limited.
        preferred_units: units beyond which a batch gets hardly more done; None as ``most_units``.
        pads_rows: a batch is computed as if all of its rows were as large as the largest.
    """

    measured: BatchTimes
    preferred: int
    unit: str = ROW
    units: tuple[int, ...] = ()
    most_units: int | None = None
    preferred_units: int | None = None
    pads_rows: bool = False

    def cost(self) -> BatchCost:
        """Return a cost model that starts from this."""
        if not self.units:
            return BatchCost(self.measured)
        return BatchCost((units, run_s) for units, (_, run_s) in zip(self.units, self.measured, strict=True))

    @property
    def units_per_row(self) -> float:
        """Units that the rows had on average."""
        return sum(self.units) / sum(rows for rows, _ in self.measured) if self.units else 1.0


def calibrate(
    model: Model, config: ConsumerConfig, start_cache: StartCache, precision: str, timer: Timer = monotonic
) -> Calibration:
    """Warm the model up and measure its buckets, or take the times from the last start if nothing has changed.

    Of several consumers one measures while the others wait for what it finds: so all of them batch alike.

    Args:
        start_cache: holds for this model, machine and torch.
        precision: the one in force.
        timer: what a run is timed with.
    """
    sizes, run = _sizes(model, config.buckets), _run(model)
    place = f"batches of {','.join(map(str, sizes))} in {precision}"
    with start_cache.lock():
        measured = checked(start_cache.get(place))
        if measured is None:
            budget_s = NETWORK_BUDGET_S if known(config.model.family).is_network else BUDGET_S
            measured = measure(run, sizes, budget_s, timer=timer)
            if measured:
                start_cache.put(place, measured)
            return _found(measured, model, config)
    measure(run, sizes, BUDGET_S, rounds=0)
    return _found(measured, model, config)


def warm(model: Model, config: ConsumerConfig, finding: Finding) -> Calibration:
    """Warm up a model whose batches were measured when it was tuned, up to the largest batch that is usual."""
    usual = finding.preferred if config.policy == "adaptive" else config.max_batch
    sizes = [size for size in config.buckets if size <= usual] or config.buckets[:1]
    measure(_run(model), sizes, NETWORK_BUDGET_S, rounds=0)
    return Calibration(finding.measured, finding.preferred)


def calibrate_briefly(model: Model, config: ConsumerConfig) -> Calibration:
    """Warm up what will soon be replaced, and measure only as much as the first requests need.

    Which size is preferred is not measured, so that all consumers prefer the same one.
    """
    sizes = [size for size in config.buckets if size <= BRIEF_ROWS] or config.buckets[:1]
    measured = measure(_run(model), sizes, BRIEF_S, rounds=1, always_rows=1)
    return Calibration(measured, min(BRIEF_ROWS, config.max_batch))


def _run(model: Model) -> Callable[[int], object]:
    return lambda size: model.run(model.sample_rows(size))


def _sizes(model: Model, buckets: Sequence[int]) -> Sequence[int]:
    """Leave out what would be measured for nothing: batches that have more units than one may have, and all but one of
    a model that generates, which runs step by step with whatever sits in its slots."""
    if isinstance(model, Generator):
        return buckets[:1]
    most, count = model.describe().most_units, units_of(model)
    if most is None or count is None:
        return buckets
    return [size for size in buckets if load_of(model.sample_rows(size), count).units <= most] or buckets[:1]


def _found(measured: BatchTimes, model: Model, config: ConsumerConfig) -> Calibration:
    count, description = units_of(model), model.describe()
    loads = () if count is None else (load_of(model.sample_rows(rows), count) for rows, _ in measured)
    units = tuple(load.units for load in loads)
    found = Calibration(measured, preferred_rows(measured, config.max_batch), description.unit, units)
    if description.most_units is not None and units:
        found = _in_units(found, description.most_units, config.max_batch, description.pads_rows)
    if not isinstance(model, Generator):  # whose batches are as large as there are requests
        log.info("%s", told(found, config))
    return found


def _in_units(found: Calibration, most_units: int, max_batch: int, pads_rows: bool) -> Calibration:
    """Choose the preferred batch by its units: rows differ in size, so that rows per second say nothing."""
    by_units = tuple((units, run_s) for units, (_, run_s) in zip(found.units, found.measured, strict=True))
    preferred = min(most_units, preferred_rows(by_units, most_units))
    rows = min(max_batch, max(1, round(preferred / found.units_per_row)))
    return replace(found, preferred=rows, most_units=most_units, preferred_units=preferred, pads_rows=pads_rows)


def told(found: Calibration, config: ConsumerConfig) -> str:
    """Say in a sentence or two what was measured."""
    if not found.measured:
        return f"The batch sizes of {config.model_name} were not measured: one batch alone takes too long."
    rates = ", ".join(f"{rows}: {rows / max(run_s, 1e-9):,.0f}/s" for rows, run_s in found.measured)
    cost = found.cost()
    return (
        f"Batch sizes of {config.model_name}: {rates}. "
        f"A batch costs {cost.fixed_s * 1000:.3g} ms and {cost.per_unit_s * 1000:.3g} ms a {found.unit}; "
        f"{found.preferred} of at most {config.max_batch} rows are preferred."
    )


def checked(noted: Any) -> BatchTimes | None:
    """Return what was noted if it is what :func:`measure` returns: a file may hold anything."""
    try:
        measured = tuple((rows, float(run_s)) for rows, run_s in noted)
    except (ValueError, TypeError):
        return None
    sound = all(type(rows) is int and rows >= 1 and 0.0 <= run_s < math.inf for rows, run_s in measured)
    return measured if sound and measured else None
