"""How long batches take, and which size gets most done. Pure: how a batch is run and the clock are parameters.

The largest batch is not always the best one: on a CPU the activations of a large batch fall out of the caches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from time import monotonic

BatchTimes = tuple[tuple[int, float], ...]

ALWAYS_WARM = 32
"""Buckets up to this size are run at least once, whatever it takes: no client is to pay for a first run."""

ROUNDS = 5
"""Each bucket's time is the best of at most so many runs: what interrupts a run only ever makes it longer."""

CLOSE = 0.97
"""Within this share of the best throughput the smallest batch is preferred: it does as much and answers sooner."""


def shortest_s(run: Callable[[], object], least: int, most: int, budget_s: float, timer: Callable[[], float]) -> float:
    """Return the shortest time of ``least`` to ``most`` runs; once ``budget_s`` is over no further one is begun."""
    begun_s = timer()
    ends_s = [begun_s]
    while len(ends_s) <= most and (len(ends_s) <= least or ends_s[-1] - begun_s < budget_s):
        run()
        ends_s.append(timer())
    return min(end_s - start_s for start_s, end_s in pairwise(ends_s))


def preferred_rows(measured: BatchTimes, max_batch: int) -> int:
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
    always_rows: int = ALWAYS_WARM,
    clock: Callable[[], float] = monotonic,
    timer: Callable[[], float] | None = None,
    prepare: Callable[[int], object] | None = None,
) -> BatchTimes:
    """Run every size once to warm up, then again to take its time, as often as ``budget_s`` and ``rounds`` allow.

    Args:
        run: runs a batch of so many rows.
        sizes: ascending.
        always_rows: sizes up to this one are run at least once, whatever it takes.
        clock: what the budget is counted in.
        timer: what a run is timed with, if not with that.
        prepare: called before each run, untimed.

    Returns:
        The fastest time of each size that was run warm; sizes for which there was no time are left out.
    """
    timer = timer or clock
    end_s = math.inf
    expected_s: dict[int, float] = {}
    fastest_s: dict[int, float] = {}
    for number in range(rounds + 1):
        for size in sizes:
            if end_s == math.inf and (number > 0 or size > always_rows):
                end_s = clock() + budget_s
            if clock() + _guess(expected_s, size) > end_s:
                break
            begun_s = clock()
            if prepare is not None:
                prepare(size)
            begun_timer_s = timer()
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
