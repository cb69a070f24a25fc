"""Does a consumer answer what it claims? Pure: checked now and then, with the time as an argument.

A stage that dies ends the process, and the watchdog ends what hangs. This is for everything else that leaves
clients without answers: replies that cannot be committed, work that was lost between two stages, batches that take
longer than any client waits. A long batch is fine while a client still waits for it.
"""

from __future__ import annotations

import math
from collections.abc import Collection


class AnswerWatch:
    """Keeps in mind when a consumer last answered.

    Args:
        grace_s: an answer may come so long after its time: what began in time may run on.
        longest_s: how long entries may wait here while nothing is in progress, such as for a batch to fill.
    """

    def __init__(self, grace_s: float, longest_s: float) -> None:
        self._grace_s, self._longest_s = grace_s, longest_s
        self._releases = 0
        self._answered_s = self._worked_s = -math.inf

    def late_s(
        self,
        now_s: float,
        due_s: Collection[float],
        releases: int,
        running_until_s: float = -math.inf,
        works: bool = False,
    ) -> float:
        """Return for how many seconds answers have been due and none came; 0 while this consumer answers.

        Args:
            due_s: the deadline of each request that is held.
            releases: a count that grows whenever requests end.
            running_until_s: when the last of those that run now is not waited for any more; minus infinity for none.
            works: something is in progress: a batch, its input or its answers.
        """
        if releases != self._releases or not due_s:
            self._releases, self._answered_s = releases, now_s
        if works or self._answered_s == now_s:
            self._worked_s = now_s
        if not due_s:
            return 0.0
        since_s = max(self._answered_s, min(due_s))
        if now_s - since_s >= self._grace_s and running_until_s + self._grace_s <= now_s:
            return now_s - since_s
        if now_s - self._worked_s >= self._longest_s:
            return now_s - self._worked_s
        return 0.0
