"""Redis's clock, as a process that is not Redis can know it.

Deadlines count on Redis's clock: the id of a stream entry says when it was added. A process estimates how far its own
monotonic clock is from that one and never compares wall clocks of two machines.
"""

from __future__ import annotations

import time

LONG_S = 0.1
"""A round trip that took longer than this says little about where its middle was."""

SLACK_MS = 5.0
"""So much the two clocks may drift apart between two answers."""

SET_BACK_MS = 2000.0
"""A clock that is so much behind what was expected has been set."""


class RedisClock:
    """Estimate of Redis's time from the local monotonic clock.

    Attributes:
        set_backs: how often Redis's clock was seen to have been set back. Streams go on from their newest id then, so
            their ids lie in the future until Redis's time has passed it.
    """

    def __init__(self) -> None:
        self._offset_ms: float | None = None
        self.set_backs = 0

    def observe(self, redis_ms: float, before_s: float, after_s: float) -> None:
        """Take one answer of TIME: Redis's time in ms, and the monotonic time in s before and after asking.

        Redis read its clock somewhere in between; the middle is wrong by at most half the round trip (Cristian 1989).
        """
        if after_s - before_s > LONG_S and self._offset_ms is not None:
            # One of the two was stopped or busy, before or after: what was known is better, unless it cannot be true.
            least_ms, most_ms = redis_ms - after_s * 1000.0, redis_ms - before_s * 1000.0
            if least_ms - SLACK_MS <= self._offset_ms <= most_ms + SLACK_MS:
                return
        if self._offset_ms is not None and redis_ms - before_s * 1000.0 < self._offset_ms - SET_BACK_MS:
            self.set_backs += 1
        self._offset_ms = redis_ms - (before_s + after_s) * 500.0

    def now_ms(self, now_s: float | None = None) -> float:
        """Redis's time in ms at the monotonic time ``now_s`` (now, if not given).

        Raises:
            RuntimeError: no answer of TIME has been observed yet.
        """
        if self._offset_ms is None:
            raise RuntimeError("Redis's clock was asked before the first answer of TIME.")
        return (time.monotonic() if now_s is None else now_s) * 1000.0 + self._offset_ms
