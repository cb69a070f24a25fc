"""The last seconds of counters that only grow: snapshots, and what was added between two of them. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

from .counts import Counts, Place, grown

WINDOW_S: Final = 10.0
_SLACK_S: Final = 0.5


class Window:
    """Keeps as many snapshots as the window needs.

    Args:
        objective_s: see :func:`counts.grown`.
    """

    def __init__(self, objective_s: float | None) -> None:
        self._objective_s = objective_s
        self._kept: deque[tuple[float, Mapping[Place, Counts]]] = deque()

    def note(self, now_s: float, snapshot: Mapping[Place, Counts]) -> None:
        """Keep a snapshot, taken at the monotonic time ``now_s``."""
        kept = self._kept
        kept.append((now_s, snapshot))
        while len(kept) > 2 and kept[1][0] <= now_s - WINDOW_S + _SLACK_S:
            kept.popleft()

    def lately(self) -> tuple[float, dict[Place, Counts]]:
        """Return the seconds between the oldest and the latest snapshot, and what was added meanwhile.

        That is about the length of the window where snapshots come often enough, 0 before there are two.
        """
        if len(self._kept) < 2:
            return 0.0, {}
        (then_s, old), (now_s, new) = self._kept[0], self._kept[-1]
        return now_s - then_s, grown(new, old, self._objective_s)
