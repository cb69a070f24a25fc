"""Lanes of one consumer: how much each gets of its next batch, and which may go ahead into a full one. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from .deficit_round_robin import Lanes, Unclaimed
from .lane_costs import LaneCosts

MOST_SAVED = 6.0
"""Shares of one batch that a lane may save up for going ahead. With two, one that needs 84% of its share waited three
batches longer beside a flood; with six, one that needs 90% does not wait longer (``test_lanes.py`` simulates it)."""

AGEING_S = 1.0
"""Wait that doubles a lane's weight."""


class FairShare:
    """Shares out room among lanes, and keeps how long each has waited for its turn.

    While one batch waits and is full, requests of a lane that has used less than its share may go ahead of those lanes
    that have more than theirs in it. Requests come in clusters: at three for each batch on average, one batch in five
    would see more than four. So what counts is not a single batch. Of all that is claimed while others compete, a lane
    earns its share as an allowance, spends what is claimed for itself, and keeps ``MOST_SAVED`` shares at most.

    Args:
        costs: what requests of each lane cost; None where each costs 1.

    Attributes:
        weights: of each lane.
        paused: lanes of which nothing is claimed.
        is_alone: there is one lane, and it is open, so that all that comes is read.
        first: the first lane; empty where there is none.
    """

    def __init__(
        self, weights: Mapping[str, float], costs: LaneCosts | None = None, paused: frozenset[str] = frozenset()
    ) -> None:
        self.weights, self.paused = dict(weights), paused & weights.keys()
        self.is_alone = len(self.weights) == 1 and not self.paused
        self.first = next(iter(self.weights), "")
        self._costs = costs or LaneCosts()
        self._lanes = Lanes(weights, AGEING_S)
        self._since_s: dict[str, float] = {}
        self._allowance = dict.fromkeys(self.weights, math.inf)

    def share(self, room: int, counts: Mapping[str, int], now_s: float) -> dict[str, int]:
        """Return how many requests to take from each lane; see :meth:`Lanes.share`.

        Args:
            counts: requests that nobody has claimed, by lane.
        """
        unpaid = self._costs.settle()
        self._since_s = {lane: self._since_s.get(lane, now_s) for lane, count in counts.items() if count > 0}
        waiting = {
            lane: Unclaimed(counts[lane], now_s - since_s, self._costs.usual(lane))
            for lane, since_s in self._since_s.items()
        }
        taken = self._lanes.share(room, waiting, unpaid)
        self._note_shares(taken, waiting.keys(), now_s)
        return taken

    def priority_share(
        self, most: float, counts: Mapping[str, int], present: Mapping[str, float], now_s: float
    ) -> dict[str, int]:
        """Return how many requests may go ahead into a batch that is full.

        They are of lanes that have used less than their share. A lane whose weight is too small for one request waits
        for its turn.

        Args:
            most: what a batch holds, in what requests cost.
            counts: requests that nobody has claimed, by lane.
            present: what waits for the batch already, by lane, in the same measure.
        """
        if not most > 0:
            return {}
        wanting = {lane: count for lane, count in counts.items() if count > 0 and lane in self.weights}
        competing = wanting.keys() | (present.keys() & self.weights.keys())
        total = sum(self.weights[lane] for lane in competing)
        shares = {lane: most * self.weights[lane] / total for lane in competing}
        costs = {lane: self._costs.usual(lane) for lane in competing}
        # A lane with more than its share of this batch makes room, and not for itself.
        beyond = {lane: held for lane, held in present.items() if lane in shares and held >= shares[lane] + costs[lane]}
        room = most - sum(held for lane, held in present.items() if lane in shares and lane not in beyond)
        taken: dict[str, int] = {}
        for lane in sorted(wanting, key=lambda name: present.get(name, 0) / shares[name]):
            self._allowance[lane] = min(self._allowance[lane], MOST_SAVED * shares[lane])
            own = beyond.get(lane, 0)
            may_cost = min(self._allowance[lane], room - own, sum(beyond.values()) - own)
            count = min(wanting[lane], int(may_cost / costs[lane]))
            if count > 0:
                taken[lane] = count
                room -= count * costs[lane]
        self._note_shares(taken, competing, now_s)
        return taken

    def expected(self, lane: str) -> float:
        """Return what a request is charged that is taken from a lane now."""
        return self._costs.usual(lane)

    def _note_shares(self, taken: Mapping[str, int], competing: Collection[str], now_s: float) -> None:
        self._since_s.update(dict.fromkeys(taken, now_s))
        costs = {lane: count * self._costs.usual(lane) for lane, count in taken.items()}
        total, cost = sum(self.weights[lane] for lane in competing if lane in self.weights), sum(costs.values())
        for lane, weight in self.weights.items():
            others = total - weight if lane in competing else total
            earned = cost * weight / (weight + others)
            # What it got beyond its share while the others were idle does not count.
            self._allowance[lane] = max(0.0, self._allowance[lane] + earned - costs.get(lane, 0.0))
