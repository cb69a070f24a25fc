"""How many answers of unknown size to ask for at once. Pure."""

from __future__ import annotations

MOST = 1 << 20


class Portion:
    """A bound that is halved whenever an answer was lost, and doubled whenever one came.

    Why an answer is lost is not known. It may have been too large: for the network in its time, or for what the server
    lets a client leave unread. Asked for again as it was, it would be lost again, and again.
    """

    def __init__(self) -> None:
        self._most = MOST

    def of(self, wanted: int) -> int:
        """Return how many of those that are wanted to ask for; at least one."""
        return max(1, min(wanted, self._most))

    def lost(self, asked: int) -> None:
        """Take note that the answer to so many was lost."""
        self._most = max(1, asked // 2)

    def came(self) -> None:
        """Take note that an answer came."""
        self._most = min(MOST, 2 * self._most)
