"""Whether a batch in a batch lane may go on waiting for gaps, by its deadline. Pure; all times are the caller's.

Times are seconds of a clock that only goes forward. Two rates tell how long what is left takes: the one that the gaps
have brought lately, and the one with which it runs once it waits no longer. It stops waiting when the gaps will not do
and hardly more time is left than that takes. When it has caught up again, it waits for gaps again.
"""

from __future__ import annotations

import math
from typing import Final

GAP_MARGIN: Final = 1.25
"""The gaps suffice if they would do so many times what is left."""

ENTER_MARGIN: Final = 1.5
"""It waits no longer once less time is left than so many times what it takes without waiting."""

LEAVE_MARGIN: Final = 2.5
"""It waits again once so many times that is left."""

RESERVE_SHARE: Final = 0.03
MOST_RESERVE_S: Final = 30.0
"""Of the time until the deadline, kept back for the way of the last answers."""

PACE_SHARE: Final = 0.05
LEAST_PACE_S, MOST_PACE_S = 1.0, 60.0
"""Rates are averages over about so much of that time."""

URGENT_SHARE: Final = 0.2
"""Of the devices, what it gets without waiting, until that has been measured: so much of their time consumers give to
what is urgent, whatever else there is."""


class Pace:
    """How many items end per second, averaged; older ones count less and less.

    Attributes:
        rate: None until it has been measured.
        is_known: it has been measured for long enough to say something.
    """

    def __init__(self, over_s: float) -> None:
        self._over_s, self._measured_s = over_s, 0.0
        self.rate: float | None = None

    @property
    def is_known(self) -> bool:
        """See the attributes."""
        return self._measured_s >= self._over_s / 2

    def passed(self, count: int, seconds: float) -> None:
        """Note how many ended within so many seconds."""
        # As long as less than the whole time has been measured, the average is that of all of it.
        self._measured_s = min(self._measured_s + seconds, self._over_s)
        weight = 1.0 if self.rate is None else 1.0 - math.exp(-seconds / self._measured_s)
        before = 0.0 if self.rate is None else self.rate
        self.rate = before + (count / seconds - before) * weight


class Urgency:
    """Of one batch.

    Args:
        begun_s: when this began to look.
        deadline_s: when all items shall have ended.

    Attributes:
        is_urgent: its items wait for gaps no longer.
    """

    def __init__(self, begun_s: float, deadline_s: float) -> None:
        window_s = max(0.0, deadline_s - begun_s)
        over_s = min(MOST_PACE_S, max(LEAST_PACE_S, PACE_SHARE * window_s))
        self._deadline_s, self._seen_s, self._done = deadline_s, begun_s, 0
        self._reserve_s, self._step_s = min(MOST_RESERVE_S, RESERVE_SHARE * window_s), over_s / 8
        self._by_gaps, self._by_turns = Pace(over_s), Pace(over_s)
        self.is_urgent = False

    def look(self, now_s: float, done: int, left: int, most_rate: float) -> bool:
        """Return whether it is urgent now.

        Args:
            done: items that have ended since ``begun_s``.
            left: items that have not.
            most_rate: items per second that the consumers would do with nothing else to do; 0 where that is unknown.
        """
        passed_s = now_s - self._seen_s
        if passed_s >= self._step_s:
            (self._by_turns if self.is_urgent else self._by_gaps).passed(done - self._done, passed_s)
            self._seen_s, self._done = now_s, done
        left_s = self._deadline_s - now_s - self._reserve_s
        takes_s = _over(left, max(self._by_turns.rate or 0.0, URGENT_SHARE * most_rate, self._by_gaps.rate or 0.0))
        if not left:
            self.is_urgent = False
        elif self.is_urgent:
            self.is_urgent = takes_s * LEAVE_MARGIN > left_s
        elif self._by_gaps.is_known:  # else it has only just begun
            gaps_s = _over(left, self._by_gaps.rate or 0.0)
            self.is_urgent = gaps_s * GAP_MARGIN > left_s and takes_s * ENTER_MARGIN > left_s
        return self.is_urgent


def _over(count: int, rate: float) -> float:
    return count / rate if rate > 0.0 else math.inf
