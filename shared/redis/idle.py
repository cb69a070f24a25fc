"""When to ping an idle connection, and when to replace it. Pure.

Devices between two machines (address translation, a load balancer, a firewall) forget connections that were
idle for some time, mostly without notifying either end. Data sent on such a connection is lost, and the sender waits
for its whole timeout. So an idle connection gets a ping now and then, and is replaced if it does not answer.
"""

from __future__ import annotations

import math
import socket
from dataclasses import dataclass

PING_EVERY_S = 2.0
"""The shortest times after which connections are forgotten are some seconds; most are minutes."""

LOST_S = 0.5
"""A connection that has not answered a ping for so long is replaced."""

DOUBT_S = 0.1
"""While a ping has been unanswered for so long, a request uses a new connection."""

_PROBES = 3


@dataclass(frozen=True, slots=True)
class IdleSchedule:
    """When one connection gets pings.

    Attributes:
        every_s: seconds between pings on an idle connection; infinity for never.
    """

    every_s: float = PING_EVERY_S

    def is_due(self, idle_s: float) -> bool:
        """Say whether a connection that was idle for so long needs a ping."""
        return idle_s >= self.every_s

    def is_stale(self, idle_s: float) -> bool:
        """Say whether its ping is long overdue: the process itself was paused, so the connection may be dead."""
        return idle_s > 2 * self.every_s

    def socket_options(self) -> dict[int, int]:
        """Return the socket options for TCP keep-alive, where the system has them.

        Seconds until the first probe and between two of them; the third without an answer ends the connection.
        """
        if math.isinf(self.every_s):
            return {}
        seconds = min(3600, max(1, math.ceil(self.every_s)))
        wanted = {"TCP_KEEPIDLE": seconds, "TCP_KEEPINTVL": seconds, "TCP_KEEPCNT": _PROBES}
        return {getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)}
