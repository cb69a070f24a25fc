"""How many requests to take from which lane: weighted deficit round robin with ageing. Pure.

Each lane has credit, in requests. While lanes compete, each gets requests taken in proportion to its
weight. A lane that does not use its share leaves it to the others and may not save it up, so one that was silent
cannot flood the next batches. A lane may exceed its share for free while the others are idle.

A priority is a lane with a large weight. So that a small weight never starves, a lane that has waited for ``ageing_s``
counts as one of twice its weight, after twice that time of three times its weight, and so on. What counts is how long
nothing has been taken from it: the age of its oldest request would favour a lane that was flooded.

See M. Shreedhar and G. Varghese, Efficient Fair Queueing Using Deficit Round Robin, SIGCOMM 1995.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

MOST_AGEING = 1000.0
"""Most times that ageing multiplies a weight."""

MOST_SAVED = 6.0
"""Shares of one batch that a lane may save up for going ahead. With two, one that needs 84% of its share waited three
batches longer beside a flood; with six, one that needs 90% does not wait longer (``test_lanes.py`` simulates it)."""

AGEING_S = 1.0
"""Wait that doubles a lane's weight."""


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """What waits in a lane.

    Attributes:
        count: requests that no consumer has claimed.
        since_s: how long they have waited since one was last taken from the lane.
    """

    count: int
    since_s: float = 0.0


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

    def share(self, room: int, waiting: Mapping[str, Unclaimed]) -> dict[str, int]:
        """Return how many requests to take from each lane: ``room`` in all, fewer only when fewer wait.

        Lanes that are not known, or from which nothing is to be taken, are left out.
        """
        left = {lane: known.count for lane, known in waiting.items() if lane in self._weights and known.count > 0}
        for lane in self._credit:
            if lane not in left:
                self._credit[lane] = 0.0
        weights = {lane: self._aged(lane, waiting[lane].since_s) for lane in left}
        taken: dict[str, int] = {}
        total = min(room, sum(left.values()))
        while total > 0:
            sum_of_weights = sum(weights[lane] for lane in left)
            for lane in left:
                self._credit[lane] += total * weights[lane] / sum_of_weights
            by_credit = sorted(left, key=lambda name: -self._credit[name])
            for lane in by_credit:  # what is owed may be more than there is, so each takes of what the one before left
                total -= self._take(lane, min(total, int(self._credit[lane] + 1e-9)), left, taken)
            # Fractions are left: the lane that is owed most gets a whole one and owes the rest.
            for lane in sorted(left, key=lambda name: -self._credit[name])[:total]:
                total -= self._take(lane, 1, left, taken)
            for lane in [name for name, count in left.items() if count == 0]:
                self._credit[lane] = min(0.0, self._credit[lane])  # what it does not need it cannot save up
                del left[lane]
        return taken

    def _take(self, lane: str, count: int, left: dict[str, int], taken: dict[str, int]) -> int:
        count = max(0, min(count, left[lane]))
        if count:
            taken[lane] = taken.get(lane, 0) + count
            left[lane] -= count
            self._credit[lane] -= count
        return count

    def _aged(self, lane: str, since_s: float) -> float:
        return self._weights[lane] * (1.0 + min(max(0.0, since_s) / self._ageing_s, MOST_AGEING))


class FairShare:
    """The lanes that a consumer serves: shares out room, and keeps how long each lane has waited for its turn.

    While one batch waits and is full, requests of a lane that has used less than its share may go ahead of those lanes
    that have more than theirs in it. Requests come in clusters: at three for each batch on average, one batch in five
    would see more than four. So what counts is not a single batch. Of all that is claimed while others compete, a lane
    earns its share as an allowance, spends what is claimed for itself, and keeps ``MOST_SAVED`` shares at most.

    Attributes:
        weights: of each lane.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.weights = dict(weights)
        self._lanes = Lanes(weights, AGEING_S)
        self._since_s: dict[str, float] = {}
        self._allowance = dict.fromkeys(self.weights, math.inf)

    def share(self, room: int, counts: Mapping[str, int], now_s: float) -> dict[str, int]:
        """Return how many requests to take from each lane; see :meth:`Lanes.share`.

        Args:
            counts: requests that nobody has claimed, by lane.
        """
        self._since_s = {lane: self._since_s.get(lane, now_s) for lane, count in counts.items() if count > 0}
        waiting = {lane: Unclaimed(counts[lane], now_s - since_s) for lane, since_s in self._since_s.items()}
        taken = self._lanes.share(room, waiting)
        self._note_shares(taken, waiting.keys(), now_s)
        return taken

    def priority_share(
        self, rows: int, counts: Mapping[str, int], present: Mapping[str, int], now_s: float
    ) -> dict[str, int]:
        """Return how many requests may go ahead into a batch that is full.

        They are of lanes that have used less than their share. A lane whose weight is too small for one request waits
        for its turn.

        Args:
            rows: of the batch.
            counts: requests that nobody has claimed, by lane.
            present: requests that wait for the batch already, by lane.
        """
        wanting = {lane: count for lane, count in counts.items() if count > 0 and lane in self.weights}
        competing = wanting.keys() | (present.keys() & self.weights.keys())
        total = sum(self.weights[lane] for lane in competing)
        shares = {lane: rows * self.weights[lane] / total for lane in competing}
        # A lane with more than its share of this batch makes room, and not for itself.
        beyond = {lane: count for lane, count in present.items() if lane in shares and count >= shares[lane] + 1}
        room = rows - sum(count for lane, count in present.items() if lane in shares and lane not in beyond)
        taken: dict[str, int] = {}
        for lane in sorted(wanting, key=lambda name: present.get(name, 0) / shares[name]):
            self._allowance[lane] = min(self._allowance[lane], MOST_SAVED * shares[lane])
            own = beyond.get(lane, 0)
            count = min(wanting[lane], int(self._allowance[lane]), room - own, sum(beyond.values()) - own)
            if count > 0:
                taken[lane] = count
                room -= count
        self._note_shares(taken, competing, now_s)
        return taken

    def _note_shares(self, taken: Mapping[str, int], competing: Collection[str], now_s: float) -> None:
        self._since_s.update(dict.fromkeys(taken, now_s))
        total, count = sum(self.weights[lane] for lane in competing if lane in self.weights), sum(taken.values())
        for lane, weight in self.weights.items():
            others = total - weight if lane in competing else total
            earned = count * weight / (weight + others)
            # What it got beyond its share while the others were idle does not count.
            self._allowance[lane] = max(0.0, self._allowance[lane] + earned - taken.get(lane, 0))
