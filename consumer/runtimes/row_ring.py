"""Rows of coming batches, side by side in memory that was allocated once.

The threads that read and decode write rows here, so that a batch whose rows lie one after the other needs no copy
before it goes to a device, and its transfer can overlap with the batch before it.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


class RowRing:
    """Slots for rows of one shape. A slot is taken until the array that stands for it is forgotten.

    So no code has to release slots: neither for a batch that ran, nor for a request that died on its way.

    Args:
        memory: uint8, shape (slots, ...), contiguous.
    """

    def __init__(self, memory: Bytes) -> None:
        if not memory.flags.c_contiguous:
            raise ValueError("the memory of a ring must be contiguous.")
        self._memory = memory
        self._free = deque(range(len(memory)))

    def place(self, row: Bytes) -> Bytes:
        """Copy ``row`` into a free slot and return the slot as an array; any thread may call this.

        A row that finds no slot, or has another shape or datatype than slots have, is returned as it is.
        """
        if row.shape != self._memory.shape[1:] or row.dtype != self._memory.dtype:
            return row
        try:
            slot = self._free.popleft()
        except IndexError:
            return row
        placed: Bytes = self._memory[slot]
        np.copyto(placed, row)
        weakref.finalize(placed, self._free.append, slot).atexit = False
        return placed

    def first_slot(self, rows: Sequence[Bytes]) -> int | None:
        """Return the slot of the first of ``rows`` if they lie one after the other in this order, else None."""
        row_bytes = self._memory[0].nbytes
        first, rest = divmod(_address(rows[0]) - _address(self._memory), row_bytes)
        if rest or first < 0 or first + len(rows) > len(self._memory):
            return None
        start = _address(rows[0])
        expected = all(
            _address(row) == start + index * row_bytes and row.nbytes == row_bytes and row.flags.c_contiguous
            for index, row in enumerate(rows)
        )
        return first if expected else None


def _address(array: Bytes) -> int:
    return int(array.__array_interface__["data"][0])
