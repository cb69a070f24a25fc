"""Who runs which texts of a batch, where several threads run it side by side. Pure."""

from __future__ import annotations

from collections.abc import Sequence

LEAST_TOKENS = 32
"""Tokens of the smallest share: matrix products of fewer rows are not worth a thread of their own."""


def shares(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Return the places of texts in at most ``most`` shares of about as many tokens, none of them empty.

    The longest texts are given away first, each to the share that has least.

    Args:
        lengths: tokens of each text.
    """
    count = max(1, min(most, len(lengths), sum(lengths) // LEAST_TOKENS))
    found: list[list[int]] = [[] for _ in range(count)]
    tokens = [0] * count
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        least = tokens.index(min(tokens))
        found[least].append(place)
        tokens[least] += lengths[place]
    return found
