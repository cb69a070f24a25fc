"""What the requests of each lane cost a consumer, in the units of its model. Pure.

A request's cost is known once its rows are made, and that of a generation at its end. Until then it counts as much as
is usual in its lane, and the difference is settled later.
"""

from __future__ import annotations

from collections import deque

USUAL_WEIGHT = 0.2
"""Weight of the newest request in the running estimate of what one costs."""


class LaneCosts:
    """Knows what is usual, and what is to be settled.

    Any thread may call :meth:`charge`; the others are for the one that claims requests.
    """

    def __init__(self) -> None:
        self._usual: dict[str, float] = {}
        self._charged: deque[tuple[str, float, float]] = deque()

    def usual(self, lane: str) -> float:
        """Return what a request of a lane probably costs; of one that is new, what one of the others does."""
        known = self._usual.get(lane)
        if known is None:
            return sum(self._usual.values()) / len(self._usual) if self._usual else 1.0
        return known

    def charge(self, lane: str, cost: float, expected: float) -> None:
        """Note what a request has cost that was taken for ``expected``; 0 if its lane was not charged for it."""
        cost = max(1.0, cost)
        if expected and (cost != expected or self._usual):  # while each costs 1, there is nothing to learn
            self._charged.append((lane, cost, expected))

    def settle(self) -> dict[str, float]:
        """Return by how much more than expected the requests of each lane have cost since this was called last."""
        unpaid: dict[str, float] = {}
        while self._charged:
            lane, cost, expected = self._charged.popleft()
            usual = self._usual.get(lane, cost)
            self._usual[lane] = usual + USUAL_WEIGHT * (cost - usual)
            unpaid[lane] = unpaid.get(lane, 0.0) + cost - expected
        return unpaid
