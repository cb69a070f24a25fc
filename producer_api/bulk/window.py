"""How many items of a batch are in the lane at once. Pure; all times are the caller's, in seconds.

Enough to keep every consumer busy, and no more: whoever asks for one answer through the same lane waits behind them.
"""

from __future__ import annotations

from typing import Final

from producer_api.load.wait_estimate import Service
from shared.state.lanes import LaneBytes

WAVES: Final = 4
"""Batches that each consumer has before it: one runs, one is decoded, one waits, one is on its way."""

AHEAD_S: Final = 0.1
"""So much work is always there, even where batches are very quick."""

LANE_SHARE: Final = 0.5
"""What of its lane's limit a batch takes at most; the rest is for others."""

LEAST: Final = 8
MOST: Final = 2048
MOST_BYTES: Final = 32 * 1024 * 1024
UNKNOWN_SERVICE: Final = 256

BACK_OFF_S: Final = 0.25
RATE_WEIGHT: Final = 0.2


class Window:
    """Bounds what one batch has in its lane.

    Attributes:
        rate: items per second, as measured lately; 0 at first.
    """

    def __init__(self) -> None:
        self.rate = 0.0
        self._share = 1.0
        self._closed_until_s = 0.0
        self._counted_since_s: float | None = None
        self._count = 0

    def size(self, service: Service | None, lane_limit: int) -> int:
        """Return how many items may be in the lane."""
        wanted, rate = (UNKNOWN_SERVICE, 0.0) if service is None else (WAVES * service.wave, service.rate)
        wanted = max(wanted, min(MOST, round((self.rate or rate) * AHEAD_S)))
        return max(1, min(max(LEAST, round(wanted * self._share)), MOST, lane_share(lane_limit)))

    def is_open(self, now_s: float) -> bool:
        """Say whether more may be added now."""
        return now_s >= self._closed_until_s

    def full(self, now_s: float) -> None:
        """Note that the lane had no room: others need it. Add fewer, and nothing for a moment."""
        self._share = max(self._share / 2, 1 / 64)
        self._closed_until_s = now_s + BACK_OFF_S

    def answered(self, count: int, now_s: float) -> None:
        """Note answers: the rate follows from them, and room comes back with them."""
        self._share = min(1.0, self._share * (1 + count / 512))
        if self._counted_since_s is None:
            self._counted_since_s = now_s
            return
        self._count += count
        passed_s = now_s - self._counted_since_s
        if passed_s >= AHEAD_S:
            found = self._count / passed_s
            self.rate += (found - self.rate) * (RATE_WEIGHT if self.rate else 1.0)
            self._counted_since_s, self._count = now_s, 0


def token_share(found: LaneBytes | None) -> int:
    """Return how many bytes of requests a batch has in its lane at most, by the lane's limit in prompt tokens."""
    if found is None or not found.most_tokens:
        return MOST_BYTES
    return max(1, int(found.most_tokens * found.kilotoken_bytes / 1000 * LANE_SHARE))


def lane_share(lane_limit: int) -> int:
    """Return up to which length of its lane a batch adds to it."""
    return max(1, int(lane_limit * LANE_SHARE))
