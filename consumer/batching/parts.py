"""Cutting the rows of one large request into parts. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def parts(units: Sequence[int], most: int) -> Iterator[range]:
    """Yield ranges of rows that together have at most ``most`` units, in order; a larger row is alone.

    Args:
        units: of each row.
    """
    begin = total = 0
    for place, one in enumerate(units):
        if place > begin and total + one > most:
            yield range(begin, place)
            begin, total = place, 0
        total += one
    if units:
        yield range(begin, len(units))
