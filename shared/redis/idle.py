"""When a connection that nobody uses is asked whether it is still there, and when it is given up. Pure.

Whatever stands between two machines (address translation, a load balancer, a firewall) forgets connections that were
idle for some time, mostly without a word to either end. What is sent on one then is lost, and the sender waits for its
whole timeout. So an idle connection is used now and then, and one that does not answer is replaced.
"""

from __future__ import annotations

import math
import socket
from dataclasses import dataclass

PING_EVERY_S = 2.0
"""The shortest times after which connections are forgotten are some seconds; most are minutes."""

LOST_S = 0.5
"""A connection that has not answered a ping for so long is given up."""

DOUBT_S = 0.1
"""A ping that is out for so long makes a connection too doubtful for a request: it gets a new one."""

_PROBES = 3


@dataclass(frozen=True, slots=True)
class IdleSchedule:
    """How one connection is looked after.

    Attributes:
        every_s: an idle connection is asked so often; infinity for never.
    """

    every_s: float = PING_EVERY_S

    def is_due(self, idle_s: float) -> bool:
        """Say whether a connection that was idle for so long is to be asked."""
        return idle_s >= self.every_s

    def is_stale(self, idle_s: float) -> bool:
        """Say whether it should have been asked long ago: the process itself stood still, so nothing is known of it."""
        return idle_s > 2 * self.every_s

    def socket_options(self) -> dict[int, int]:
        """Return what the system itself is to ask with (TCP keep-alive), where it can be told.

        Seconds until the first probe and between two of them; the third without an answer ends the connection.
        """
        if math.isinf(self.every_s):
            return {}
        seconds = min(3600, max(1, math.ceil(self.every_s)))
        wanted = {"TCP_KEEPIDLE": seconds, "TCP_KEEPINTVL": seconds, "TCP_KEEPCNT": _PROBES}
        return {getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)}
