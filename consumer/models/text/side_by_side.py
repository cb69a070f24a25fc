"""Packed batches on several cores: each thread runs a share of the texts by itself.

torch would have all threads meet after each of the hundred small operations of a forward pass, and all of them wait for
the one that the kernel has interrupted. Texts have nothing to do with one another, so here they meet once per batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from .rows import Row
from .shares import shares

Run = Callable[[Sequence[Row]], torch.Tensor]


class SideBySide:
    """Threads that run shares of a batch, one core each.

    Args:
        run: takes texts, gives a row of numbers for each; called on several threads at once.
        threads: of one batch, at least 1.
    """

    def __init__(self, run: Run, threads: int) -> None:
        self._run, self._threads = run, threads
        self._pool = ThreadPoolExecutor(threads, "encode", initializer=_alone) if threads > 1 else None

    def __call__(self, rows: Sequence[Row]) -> torch.Tensor:
        """Return the numbers of all rows, in order.

        Raises:
            Exception: whatever ``run`` raises; all shares have ended by then.
        """
        parts = shares([len(row.ids) for row in rows], self._threads) if self._pool else []
        if self._pool is None or len(parts) < 2:
            return self._run(rows)
        waiting = [self._pool.submit(self._share, [rows[place] for place in part]) for part in parts]
        failed: list[BaseException] = [error for one in waiting if (error := one.exception()) is not None]
        if failed:
            raise failed[0]
        found: Any = torch.cat([one.result() for one in waiting])
        order = torch.tensor([place for part in parts for place in part])
        return torch.empty_like(found).index_copy_(0, order, found)

    def _share(self, rows: Sequence[Row]) -> torch.Tensor:
        with torch.inference_mode():
            return self._run(rows)

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()


def _alone() -> None:
    """Have the operations of this thread use no other one; torch keeps this number for each thread."""
    torch.set_num_threads(1)
