"""Lengths of sample texts: log-normal, as those of real ones are. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator

MEDIAN, SPREAD = 44, 0.85
"""Of the tokens, and of their logarithm: a mean of about 61."""

LEAST = 4


def sample_lengths(count: int, context: int) -> Iterator[tuple[int, int]]:
    """Yield ``count`` pairs of number and tokens; the same ones every time, and no more than ``context`` tokens."""
    source = random.Random(15)
    for number in range(count):
        length = round(MEDIAN * source.lognormvariate(0.0, SPREAD))
        yield number, min(context, max(LEAST, length))
