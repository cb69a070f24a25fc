"""Where bodies stand in a file of bounded size. Pure.

Slots have a few sizes and never move, so that a stamp at the beginning of one is overwritten by whatever takes the slot
next. A released slot serves bodies of its size. When sizes change, the layout starts again once no body is left.
"""

from __future__ import annotations

from collections import defaultdict

PAGE_BYTES = 4096
STEPS = 4
"""Sizes between one power of two and the next: at most a fifth of a slot is unused."""


def slot_bytes(size_bytes: int) -> int:
    """Return the size of the slots for so many bytes."""
    step = max(PAGE_BYTES, (1 << (size_bytes - 1).bit_length()) // (2 * STEPS)) if size_bytes > 1 else PAGE_BYTES
    return -(-size_bytes // step) * step


class Slots:
    """Hands out slots of a file.

    Args:
        most_bytes: how long the file may become.

    Attributes:
        used_bytes: what the slots in use take.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes, self._end, self.used_bytes = most_bytes, 0, 0
        self._free: defaultdict[int, list[int]] = defaultdict(list)

    def take(self, size_bytes: int) -> int | None:
        """Return the offset of a slot for so many bytes; None when there is no room."""
        size = slot_bytes(size_bytes)
        free = self._free[size]
        if free:
            offset = free.pop()
        elif self._end + size <= self._most_bytes:
            offset, self._end = self._end, self._end + size
        else:
            return None
        self.used_bytes += size
        return offset

    def give_back(self, offset: int, size_bytes: int) -> None:
        """Take a slot back that was handed out for so many bytes."""
        size = slot_bytes(size_bytes)
        self.used_bytes -= size
        self._free[size].append(offset)

    def begin_anew(self) -> bool:
        """Forget all sizes if no slot is in use and there are any; says whether it did. The file must be emptied."""
        if self.used_bytes or not self._end:
            return False
        self._end = 0
        self._free.clear()
        return True
