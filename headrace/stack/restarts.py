"""When a process that died is started again, and when the stack gives up. Pure: time comes in as an argument."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

_LONGEST_S: Final = 60.0
_GOOD_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Restart:
    """Start the process again after ``delay_s`` seconds; this was its ``deaths``-th death in a row."""

    delay_s: float
    deaths: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Starting again does not help: the process died ``deaths`` times within the window."""

    deaths: int


class RestartPolicy:
    """Memory of the deaths of a process without which nothing works: a front end, or Redis.

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
        deaths = self._lately(now_s)
        if deaths >= self._limit:
            return GiveUp(deaths)
        return Restart(doubled_s(self._first_delay_s, deaths, self._longest_delay_s), deaths)

    def gives_up(self, now_s: float) -> bool:
        """Say whether it died so often lately that starting it again does not help."""
        return self._lately(now_s) >= self._limit

    def all_the_same(self) -> Restart:
        """Return the restart of a process that is to be tried again although it does not help: others do its work."""
        return Restart(self._longest_delay_s, len(self._deaths_s))

    def _lately(self, now_s: float) -> int:
        while self._deaths_s and self._deaths_s[0] <= now_s - self.window_s:
            self._deaths_s.popleft()
        return len(self._deaths_s)

    def endless(self) -> Backoff:
        """Return the policy of a consumer that begins with the same pause."""
        return Backoff(first_delay_s=self._first_delay_s)


class Backoff:
    """Counts the deaths of one consumer. Its crashes affect only its model, so it is restarted for ever.

    The first death is answered after ``first_delay_s``, each further one after twice as long, never longer than a
    minute. A life of a minute or more makes the next death the first one again.
    """

    def __init__(self, *, first_delay_s: float = 0.5) -> None:
        self._first_delay_s = first_delay_s
        self._deaths = 0

    def died(self, lived_s: float) -> Restart:
        """Record the death of a process that lived for ``lived_s`` and say when it is started again."""
        self._deaths = 1 if lived_s >= _GOOD_S else self._deaths + 1
        return Restart(doubled_s(self._first_delay_s, self._deaths, _LONGEST_S), self._deaths)

    def recovered_after_s(self) -> float:
        """Return how long a new process must live to count as recovered: twice the pause before it."""
        return min(_GOOD_S, 2 * doubled_s(self._first_delay_s, self._deaths, _LONGEST_S))


def doubled_s(first_s: float, times: int, longest_s: float) -> float:
    """Return the ``times``-th of a series of pauses, each twice as long as the one before, up to a longest."""
    return min(first_s * 2.0 ** min(times - 1, 60), longest_s)
