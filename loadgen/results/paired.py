"""Statistics of paired measurements: is the one side slower, by how much, and how sure is that? Pure.

A pair is two windows measured right after one another, so what disturbs a machine for longer than a window disturbs
both. What is judged is the logarithm of their ratio: ln(candidate / base), 0 when both are alike. The pairs, and not
the requests in them, are what is independent; treating requests as independent gives false alarms by the dozen.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from functools import cache
from statistics import fmean, stdev
from typing import Final

MOST_PAIRS: Final = 40
"""Beyond it the exact test would need more than a million sums on each half."""


def sign_flip_p(log_ratios: Sequence[float]) -> float:
    """Return the exact one-sided p-value of "the true ratio is not above 1".

    If both sides were alike, each log ratio would be as likely to have come out with the opposite sign, because which
    version ran first in a pair changes from pair to pair. So all 2^n ways to choose signs were equally likely, and p
    is the share of them whose sum is at least the observed one (Fisher 1935, The Design of Experiments, section 21).
    It assumes no distribution of the noise. All sums are counted exactly: those of each half of the pairs are listed
    and sorted, and matched with one another.

    Returns 1 for no pairs. The smallest value that n pairs can give is 2^-n.
    """
    if len(log_ratios) > MOST_PAIRS:
        raise ValueError(f"at most {MOST_PAIRS} pairs, not {len(log_ratios)}")
    observed = math.fsum(log_ratios)
    slack = 1e-12 * (1.0 + math.fsum(abs(value) for value in log_ratios))
    middle = len(log_ratios) // 2
    left, right = _signed_sums(log_ratios[:middle]), sorted(_signed_sums(log_ratios[middle:]))
    as_large = sum(len(right) - bisect_left(right, observed - slack - total) for total in left)
    return as_large / float(2 ** len(log_ratios))


def _signed_sums(values: Sequence[float]) -> list[float]:
    sums = [0.0]
    for value in values:
        sums = [total + value for total in sums] + [total - value for total in sums]
    return sums


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected for having asked several questions at once (Holm 1979, step-down).

    Rejecting those that are at most a after the correction keeps the chance of any wrong rejection at most a.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def interval(log_ratios: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean log ratio and the ends of its 95% interval (Student's t), infinite below two pairs."""
    if not log_ratios:
        return 0.0, -math.inf, math.inf
    mean = fmean(log_ratios)
    if len(log_ratios) < 2:
        return mean, -math.inf, math.inf
    half = t_quantile(0.975, len(log_ratios) - 1) * stdev(log_ratios) / math.sqrt(len(log_ratios))
    return mean, mean - half, mean + half


@cache
def t_quantile(probability: float, degrees: int) -> float:
    """Return the quantile of Student's t for a probability of at least 0.5, by bisection of `t_cdf`."""
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if t_cdf(middle, degrees) < probability else (low, middle)
    return high


def t_cdf(value: float, degrees: int) -> float:
    """Return P(T <= value) for value >= 0 (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4)."""
    angle = math.atan(value / math.sqrt(degrees))
    sine, squared = math.sin(angle), math.cos(angle) ** 2
    if degrees % 2:
        term, total = math.cos(angle), 0.0
        for step in range(1, degrees - 1, 2):
            total += term
            term *= squared * (step + 1) / (step + 2)
        inside = 2 / math.pi * (angle + sine * total)
    else:
        term, total = 1.0, 0.0
        for step in range(0, degrees - 1, 2):
            total += term
            term *= squared * (step + 1) / (step + 2)
        inside = sine * total
    return 0.5 + inside / 2
