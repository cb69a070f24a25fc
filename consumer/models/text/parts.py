"""Cutting rows into parts of so many tokens, for requests that are larger than a batch. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def in_order(lengths: Sequence[int], most_tokens: int) -> Iterator[list[int]]:
    """Yield the places of rows, in order, that together have at most ``most_tokens``; a longer row is alone."""
    part: list[int] = []
    tokens = 0
    for place, length in enumerate(lengths):
        if part and tokens + length > most_tokens:
            yield part
            part, tokens = [], 0
        part.append(place)
        tokens += length
    if part:
        yield part


def by_length(lengths: Sequence[int], most_tokens: int) -> Iterator[list[int]]:
    """Yield the places of rows of about the same length: padded to the longest they have at most ``most_tokens``."""
    part: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: lengths[place]):
        if part and lengths[place] * (len(part) + 1) > most_tokens:
            yield part
            part = []
        part.append(place)
    if part:
        yield part
