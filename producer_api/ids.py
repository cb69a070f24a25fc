"""Request ids that nobody can guess: whoever knows an id can ask for its answer."""

from __future__ import annotations

import os

ID_BYTES = 12
_AT_ONCE = 256


class RequestIds:
    """Makes ids of 24 hexadecimal digits. Randomness is fetched for many at once: a system call each would show."""

    __slots__ = ("_block", "_position")

    def __init__(self) -> None:
        self._block = ""
        self._position = 0

    def next(self) -> str:
        """Return an id that has not been returned before."""
        start = self._position
        if start == len(self._block):
            self._block, start = os.urandom(ID_BYTES * _AT_ONCE).hex(), 0
        self._position = start + 2 * ID_BYTES
        return self._block[start : self._position]
