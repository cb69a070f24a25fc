"""When a process that died is started again, and when the stack gives up. Pure: time comes in as an argument."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Restart:
    """Start the process again after ``delay_s`` seconds; this was its ``deaths``-th death within the window."""

    delay_s: float
    deaths: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Starting again does not help: the process died ``deaths`` times within the window."""

    deaths: int


class RestartPolicy:
    """Memory of one process's deaths.

    The first death within a quiet minute is answered after ``first_delay_s``, each further one after twice as long,
    never longer than ``longest_delay_s``. The ``limit``-th death within ``window_s`` seconds ends it.
    """

    def __init__(
        self, *, limit: int = 5, window_s: float = 60.0, first_delay_s: float = 0.5, longest_delay_s: float = 10.0
    ) -> None:
        self.window_s = window_s
        self._limit = limit
        self._first_delay_s = first_delay_s
        self._longest_delay_s = longest_delay_s
        self._deaths_s: deque[float] = deque()

    def died(self, now_s: float) -> Restart | GiveUp:
        """Record a death at the monotonic time ``now_s`` and decide what follows."""
        self._deaths_s.append(now_s)
        while self._deaths_s[0] <= now_s - self.window_s:
            self._deaths_s.popleft()
        deaths = len(self._deaths_s)
        if deaths >= self._limit:
            return GiveUp(deaths)
        return Restart(min(self._first_delay_s * 2 ** (deaths - 1), self._longest_delay_s), deaths)
