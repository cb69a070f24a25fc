"""Batches that do not fit into memory are run in parts. Pure: how a part is run is a parameter."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether ``error`` tells of a lack of memory, on the host or on a GPU."""
    if isinstance(error, MemoryError) or any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):
        return True
    # torch's allocator for the CPU raises a bare RuntimeError.
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text)


class Halving:
    """Runs rows in parts of at most ``most`` rows, a number that is halved for good whenever memory runs out.

    Args:
        run: runs a part, returns its outputs as an array.
        most: rows of the largest part, at first.
        recover: called between a failure and the next try, outside of the ``except`` block: while an error is being
            handled, its traceback keeps the tensors of the failed attempt alive.
    """

    def __init__(
        self, run: Callable[[Sequence[Any]], Floats], most: int, recover: Callable[[], None] = lambda: None
    ) -> None:
        self._run, self._recover = run, recover
        self.most = most

    def __call__(self, rows: Sequence[Any]) -> Floats:
        """Return the outputs of ``rows``, in order.

        Raises:
            Exception: whatever ``run`` raises, a lack of memory for a single row included.
        """
        parts: list[Floats] = []
        done = 0
        while done < len(rows):
            part = rows[done : done + self.most]
            outputs = self._attempt(part)
            if outputs is None:
                self._recover()
                self.most = len(part) // 2
                log.warning("Memory ran out at %d rows; from here on at most %d run at once.", len(part), self.most)
            else:
                parts.append(outputs)
                done += len(part)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _attempt(self, part: Sequence[Any]) -> Floats | None:
        """Run a part; None says that memory ran out and fewer rows may do."""
        try:
            return self._run(part)
        except Exception as error:
            if len(part) < 2 or not is_out_of_memory(error):
                raise
        return None
