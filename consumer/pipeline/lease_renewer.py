"""Renews the leases of claimed entries, on a thread of its own, and only while there is progress."""

from __future__ import annotations

import logging
import math
import threading
import time

from consumer.queue.interface import StreamDown, StreamGone

from .context import Context

log = logging.getLogger(__name__)

RETRY_S = 0.2


class Hung(Exception):
    """Something takes longer than anything may; the consumer has to end so that its work is taken over."""


class LeaseRenewer:
    """Renews what is held, four times per lease."""

    def __init__(self, context: Context) -> None:
        self._stream, self._leases, self._watchdog = context.stream, context.leases, context.watchdog
        self._lease_s = context.settings.lease_ms / 1000
        self._longest_s = context.settings.longest_batch_ms / 1000
        self._cancellations = context.cancellations
        self._reaped_s = -math.inf

    def run(self, stop: threading.Event) -> None:
        """Renew until ``stop`` is set.

        Raises:
            Hung: what is in progress will not end.
        """
        wait_s = 0.0  # consumers that all die before a lease is over must clear up behind each other, too
        while not stop.wait(wait_s):
            now_s = time.monotonic()
            taken_s = self._watchdog.longest_s(now_s)
            if taken_s > self._longest_s:
                raise Hung(f"A batch, its input or its answers have taken {taken_s:.1f} s and may hang.")
            try:
                self._renew(now_s)
                wait_s = min(self._lease_s, self._longest_s) / 4
            except (StreamDown, StreamGone) as error:
                log.debug("Leases were not renewed: %s", error)
                wait_s = min(RETRY_S, self._lease_s / 4)

    def _renew(self, now_s: float) -> None:
        held = self._leases.held()
        # What was committed meanwhile is not owned any more either, and has been released by then.
        lost = [claim for claim in self._stream.renew(held) if self._leases.holds(claim)] if held else []
        lost = [claim for claim in lost if not self._cancellations.holds(claim)]
        if lost:
            log.warning("The leases of %d entries ran out; the first answer counts.", len(lost))
        if now_s - self._reaped_s > self._lease_s:
            self._reaped_s = now_s
            self._stream.reap()
