"""Redis's clock, as a process that is not Redis can know it.

Deadlines count on Redis's clock: the id of a stream entry says when it was added. A process estimates how far its own
monotonic clock is from that one and never compares wall clocks of two machines.
"""

from __future__ import annotations

import time


class RedisClock:
    """Estimate of Redis's time from the local monotonic clock."""

    def __init__(self) -> None:
        self._offset_ms: float | None = None

    def observe(self, redis_ms: float, before_s: float, after_s: float) -> None:
        """Take one answer of TIME: Redis's time in ms, and the monotonic time in s before and after asking.

        The answer was made somewhere between; the middle is wrong by at most half the round trip (Cristian 1989).
        """
        self._offset_ms = redis_ms - (before_s + after_s) * 500.0

    def now_ms(self, now_s: float | None = None) -> float:
        """Redis's time in ms at the monotonic time ``now_s`` (now, if not given).

        Raises:
            RuntimeError: no answer of TIME has been observed yet.
        """
        if self._offset_ms is None:
            raise RuntimeError("Redis's clock was asked before the first answer of TIME.")
        return (time.monotonic() if now_s is None else now_s) * 1000.0 + self._offset_ms

    def monotonic_s(self, redis_ms: float) -> float:
        """Local monotonic time in s at which Redis's clock shows ``redis_ms``."""
        if self._offset_ms is None:
            raise RuntimeError("Redis's clock was asked before the first answer of TIME.")
        return (redis_ms - self._offset_ms) / 1000.0
