"""How many requests to take from which lane: weighted deficit round robin with ageing. Pure.

Each lane has credit. While lanes compete, each gets work taken in proportion to its weight. Work is what requests cost
the device: rows, or tokens where the model counts them. A lane that does not use its share leaves it to the others and
may not save it up, so one that was silent cannot flood the next batches. A lane may exceed its share for free while
the others are idle.

What a request costs is known only after it was taken: its lane pays what is usual there, and the difference later
(`lane_costs.py`). So a lane may owe more than one request. It keeps such a debt while it is silent, until the others
have caught up: else one that sends long requests one by one would never pay.

A priority is a lane with a large weight. So that a small weight never starves, a lane that has waited for ``ageing_s``
counts as one of twice its weight, after twice that time of three times its weight, and so on; while it has a debt, as
the heaviest of those that wait at most. What counts is how long nothing has been taken from it: the age of its oldest
request would favour a lane that was flooded.

See M. Shreedhar and G. Varghese, Efficient Fair Queueing Using Deficit Round Robin, SIGCOMM 1995; and, for charging
tokens and keeping debts, Y. Sheng and others, Fairness in Serving Large Language Models, OSDI 2024.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

MOST_AGEING = 1000.0
"""Most times that ageing multiplies a weight."""

NOTHING: Mapping[str, float] = {}


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """What waits in a lane.

    Attributes:
        count: requests that no consumer has claimed.
        since_s: how long they have waited since one was last taken from the lane.
        cost: what one of them probably costs, above 0.
    """

    count: int
    since_s: float = 0.0
    cost: float = 1.0


class Lanes:
    """Shares out the room of a consumer's next batch.

    Args:
        weights: of each lane, above 0; in proportion to these they are served while they compete.
        ageing_s: wait that doubles a lane's weight; infinity for none.
    """

    def __init__(self, weights: Mapping[str, float], ageing_s: float = math.inf) -> None:
        for lane, weight in weights.items():
            if not 0.0 < weight < math.inf:
                raise ValueError(f"The weight of lane {lane} must be above 0 and finite, not {weight}.")
        if not ageing_s > 0.0:
            raise ValueError(f"ageing_s must be above 0, not {ageing_s}.")
        self._weights, self._ageing_s = dict(weights), ageing_s
        self._credit = dict.fromkeys(self._weights, 0.0)
        self._has_settled = False  # until then every request has cost what was expected, and nobody can be in debt

    def share(
        self, room: int, waiting: Mapping[str, Unclaimed], unpaid: Mapping[str, float] = NOTHING
    ) -> dict[str, int]:
        """Return how many requests to take from each lane: ``room`` in all, fewer only when fewer wait.

        Lanes that are not known, or from which nothing is to be taken, are left out.

        Args:
            unpaid: by how much more than was expected requests taken before have cost; negative where it was less.
        """
        known = {lane: one for lane, one in waiting.items() if lane in self._weights and one.count > 0}
        least = min((one.cost for one in known.values()), default=math.inf)
        if unpaid:
            self._settle(unpaid, known)
        for lane, credit in self._credit.items():
            if lane not in known and not (self._has_settled and credit <= -least):
                self._credit[lane] = 0.0
        heaviest = max((self._weights[lane] for lane in known), default=0.0)
        weights = {lane: self._aged(lane, one.since_s, heaviest, -least) for lane, one in known.items()}
        taken = self._shared(room, known, weights)
        if self._has_settled:
            self._repay_silent(known, sum(count * known[lane].cost for lane, count in taken.items()))
        return taken

    def _shared(self, room: int, known: Mapping[str, Unclaimed], weights: Mapping[str, float]) -> dict[str, int]:
        left = {lane: one.count for lane, one in known.items()}
        costs = {lane: one.cost for lane, one in known.items()}
        taken: dict[str, int] = {}

        def take(lane: str, count: int) -> int:
            count = max(0, min(count, left[lane]))
            if count:
                taken[lane] = taken.get(lane, 0) + count
                left[lane] -= count
                self._credit[lane] -= count * costs[lane]
            return count

        total = min(room, sum(left.values()))
        while total > 0:
            sum_of_weights = sum(weights[lane] / costs[lane] for lane in left)
            for lane in left:
                self._credit[lane] += total * weights[lane] / sum_of_weights
            by_credit = sorted(left, key=lambda name: -self._credit[name])
            for lane in by_credit:  # what is owed may be more than there is, so each takes of what the one before left
                total -= take(lane, min(total, int(self._credit[lane] / costs[lane] + 1e-9)))
            # Fractions are left: the lane that is owed most gets a whole one and owes the rest. The next one may be in
            # debt, if requests differ; then it is found out in another round.
            most = min(total, 1) if self._has_settled else total
            for lane in sorted(left, key=lambda name: -self._credit[name])[:most]:
                total -= take(lane, 1)
            for lane in [name for name, count in left.items() if count == 0]:
                self._credit[lane] = min(0.0, self._credit[lane])  # what it does not need it cannot save up
                del left[lane]
        return taken

    def _settle(self, unpaid: Mapping[str, float], known: Collection[str]) -> None:
        """Take what is unpaid off the credits. Then the lane that is owed most is where one begins that was silent."""
        self._has_settled = True
        for lane, cost in unpaid.items():
            if lane in self._credit:
                self._credit[lane] -= cost
        best = max((self._credit[lane] / self._weights[lane] for lane in known), default=0.0)
        for lane, weight in self._weights.items():
            if lane in known:
                self._credit[lane] -= best * weight
            elif best < 0.0:
                self._credit[lane] = min(0.0, self._credit[lane] - best * weight)

    def _repay_silent(self, known: Collection[str], served: float) -> None:
        """Let those that were silent have less debt, by what they would have earned while the others were served."""
        sum_of_weights = sum(self._weights[lane] for lane in known)
        for lane, credit in self._credit.items():
            if credit < 0.0 and lane not in known and served:
                self._credit[lane] = min(0.0, credit + served * self._weights[lane] / sum_of_weights)

    def _aged(self, lane: str, since_s: float, heaviest: float, debt: float) -> float:
        aged = self._weights[lane] * (1.0 + min(max(0.0, since_s) / self._ageing_s, MOST_AGEING))
        return min(aged, heaviest) if self._has_settled and self._credit[lane] <= debt else aged
