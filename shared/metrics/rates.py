"""A rate over the last seconds, for those who read a number and not a series. Pure."""

from __future__ import annotations

from collections import deque


class RecentRate:
    """What a counter has grown by per second lately.

    Args:
        window_s: about so many seconds count.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._seen: deque[tuple[float, float]] = deque()

    def per_s(self, total: float, now_s: float) -> float:
        """Note what the counter says now; returns its growth per second since it was asked ``window_s`` ago or less.

        The first call returns 0, and so does one after a call at the same time.
        """
        seen = self._seen
        seen.append((now_s, total))
        while len(seen) > 2 and seen[1][0] <= now_s - self._window_s:
            seen.popleft()
        then_s, then = seen[0]
        return (total - then) / (now_s - then_s) if now_s > then_s else 0.0
