"""Batch sizes to prepare for. Pure."""

from __future__ import annotations

from collections.abc import Sequence

GPU_SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64)
"""Sizes that a GPU has a graph for; batches in between are padded."""


def buckets(max_batch: int, declared: Sequence[int] | None = None) -> tuple[int, ...]:
    """Return the sizes in which batches are warmed up and measured, ascending; the last one is ``max_batch``.

    Args:
        max_batch: most rows of a batch, at least 1.
        declared: sizes that the operator chose; those beyond ``max_batch`` are left out. None: powers of two.
    """
    if declared is None:
        declared = [1 << power for power in range(max_batch.bit_length())]
    return (*sorted({size for size in declared if 1 <= size < max_batch}), max_batch)


def bucket_of(rows: int, sizes: Sequence[int]) -> int:
    """Return the smallest of ``sizes``, which ascend, that holds ``rows``.

    Raises:
        ValueError: none does.
    """
    for size in sizes:
        if rows <= size:
            return size
    raise ValueError(f"no bucket of {list(sizes)} holds {rows} rows.")
