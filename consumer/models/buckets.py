"""Sizes of batches that a GPU is prepared for. Pure."""

from __future__ import annotations

from collections.abc import Sequence

SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64)


def buckets_up_to(max_batch: int) -> tuple[int, ...]:
    """Return the buckets for batches of at most ``max_batch`` rows, ascending; the last one is ``max_batch``."""
    return (*(size for size in SIZES if size < max_batch), max_batch)


def bucket_of(rows: int, buckets: Sequence[int]) -> int:
    """Return the smallest bucket that holds ``rows``.

    Raises:
        ValueError: none does.
    """
    for bucket in buckets:
        if rows <= bucket:
            return bucket
    raise ValueError(f"no bucket of {list(buckets)} holds {rows} rows.")
