"""Warming up, and finding the batch size that gets most done: every bucket is run and timed, the times are remembered.

The largest batch is not always the best one: on a CPU the activations of a large batch fall out of the caches.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic, thread_time
from typing import Any

from shared.model_config import NETWORK_FAMILIES

from .config import ConsumerConfig
from .cost import BatchCost
from .models.base import Model
from .notes import Notes

log = logging.getLogger(__name__)

Measured = tuple[tuple[int, float], ...]

ALWAYS_WARM = 32
"""Buckets up to this size are run at least once, whatever it takes: no client is to pay for a first run."""

ROUNDS = 5
"""Each bucket's time is the best of at most so many runs: what interrupts a run only ever makes it longer."""

CLOSE = 0.97
"""Within this share of the best throughput the smallest batch is preferred: it does as much and answers sooner."""

WORTH_REMEMBERING_S = 0.5
"""What was measured in less time than this is measured again at the next start."""

BUDGET_S = 1.0
NETWORK_BUDGET_S = 2.0
"""Once the buckets of ``ALWAYS_WARM`` are warm, no run is begun that would end later than this."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was measured at warm-up.

    Attributes:
        measured: (rows, fastest seconds) per bucket, ascending.
        preferred: rows beyond which a batch gets hardly more done.
    """

    measured: Measured
    preferred: int

    def cost(self) -> BatchCost:
        """Return a cost model that starts from this."""
        return BatchCost(self.measured)


def preferred_rows(measured: Measured, max_batch: int) -> int:
    """Choose the smallest measured size whose rows per second come close to the best.

    Where throughput still grows at the largest size that was measured, ``max_batch`` is chosen.
    """
    rates = [(rows, rows / run_s) for rows, run_s in measured if run_s > 0.0]
    if not rates:
        return max_batch
    best = max(rate for _, rate in rates)
    chosen = next(rows for rows, rate in rates if rate >= CLOSE * best)
    return max_batch if chosen == rates[-1][0] else chosen


def measure(
    run: Callable[[int], object],
    sizes: Sequence[int],
    budget_s: float,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = monotonic,
    timer: Callable[[], float] | None = None,
) -> Measured:
    """Run every size once to warm up, then again to take its time, as often as ``budget_s`` and ``rounds`` allow.

    Args:
        run: runs a batch of so many rows.
        sizes: ascending.
        clock: what the budget is counted in.
        timer: what a run is timed with, if not with that.

    Returns:
        The fastest time of each size that was run warm; sizes for which there was no time are left out.
    """
    timer = timer or clock
    end_s = math.inf
    expected_s: dict[int, float] = {}
    fastest_s: dict[int, float] = {}
    for number in range(rounds + 1):
        for size in sizes:
            if end_s == math.inf and (number > 0 or size > ALWAYS_WARM):
                end_s = clock() + budget_s
            if clock() + _guess(expected_s, size) > end_s:
                break
            begun_s, begun_timer_s = clock(), timer()
            run(size)
            took_s, timed_s = clock() - begun_s, timer() - begun_timer_s
            expected_s[size] = min(took_s, expected_s.get(size, took_s))
            if number > 0:
                fastest_s[size] = min(timed_s, fastest_s.get(size, timed_s))
    return tuple(sorted(fastest_s.items()))


def _guess(expected_s: Mapping[int, float], size: int) -> float:
    """Expect a size to take as long as before, a new one as long per row as the largest so far."""
    if size in expected_s:
        return expected_s[size]
    if not expected_s:
        return 0.0
    largest = max(expected_s)
    return expected_s[largest] * size / largest


def calibrate(model: Model, config: ConsumerConfig, device: str, notes: Notes, precision: str) -> Calibration:
    """Warm the model up and measure its buckets, or take the times from the last start if nothing has changed.

    Args:
        notes: hold for this model, machine and torch.
        precision: the one in force.
    """
    sizes = config.buckets
    place = f"batches of {','.join(map(str, sizes))} in {precision} by {'+'.join(model.recipe()) or 'plain'}"
    measured = checked(notes.get(place))

    def run(size: int) -> None:
        model.run(model.sample_rows(size))

    is_network = config.model.family in NETWORK_FAMILIES
    budget_s = NETWORK_BUDGET_S if is_network else BUDGET_S
    # On a CPU that others use too, long runs are always interrupted and short ones are not, which makes small batches
    # look better than they are. The time that this thread itself was running leaves that out.
    timer = thread_time if is_network and device == "cpu" else monotonic
    if measured is None:
        begun_s = monotonic()
        measured = measure(run, sizes, budget_s, timer=timer)
        if measured and monotonic() - begun_s >= WORTH_REMEMBERING_S:
            notes.put(place, measured)
    else:
        measure(run, sizes, budget_s, rounds=0)
    found = Calibration(measured, preferred_rows(measured, config.max_batch))
    log.info("%s", told(found, config))
    return found


def told(found: Calibration, config: ConsumerConfig) -> str:
    """Say in a sentence or two what was measured."""
    if not found.measured:
        return f"The batch sizes of {config.model_name} were not measured: one batch alone takes too long."
    rates = ", ".join(f"{rows}: {rows / max(run_s, 1e-9):,.0f}/s" for rows, run_s in found.measured)
    cost = found.cost()
    return (
        f"Batch sizes of {config.model_name}: {rates}. "
        f"A batch costs {cost.fixed_s * 1000:.3g} ms and {cost.per_row_s * 1000:.3g} ms a row; "
        f"{found.preferred} of at most {config.max_batch} rows are preferred."
    )


def checked(noted: Any) -> Measured | None:
    """Return what was noted if it is what :func:`measure` returns: a file may hold anything."""
    try:
        measured = tuple((rows, float(run_s)) for rows, run_s in noted)
    except (ValueError, TypeError):
        return None
    sound = all(type(rows) is int and rows >= 1 and 0.0 <= run_s < math.inf for rows, run_s in measured)
    return measured if sound and measured else None
