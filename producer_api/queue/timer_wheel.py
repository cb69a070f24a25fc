"""Deadlines of many pending replies, with one timer for all that end in the same few milliseconds.

A timer of the event loop per request would cost more than the rest of waiting. Nearly all of them would be cancelled.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

STEP_S = 0.005
"""How late a deadline may fire."""


class Timed(Protocol):
    """Something with a deadline; hashable by identity."""

    def time_out(self) -> None:
        """The time is up."""


class Timers(Protocol):
    """What is needed of an event loop."""

    def call_at(self, when: float, callback: Callable[[int], None], slot: int, /) -> object:
        """Call ``callback(slot)`` at the time ``when`` of the loop's clock."""


class TimerWheel:
    """Calls ``time_out`` of what is still here when its time is up, at most ``STEP_S`` late and never early."""

    def __init__(self, loop: Timers) -> None:
        self._loop = loop
        self._slots: dict[int, dict[Timed, None]] = {}

    def add(self, timed: Timed, at_s: float) -> int:
        """Set a deadline on the event loop's clock; returns the slot that :meth:`remove` wants."""
        slot = math.ceil(at_s / STEP_S)
        members = self._slots.get(slot)
        if members is None:
            members = self._slots[slot] = {}
            self._loop.call_at(slot * STEP_S, self._fire, slot)
        members[timed] = None
        return slot

    def remove(self, timed: Timed, slot: int) -> None:
        """Forget a deadline; harmless when it has passed."""
        members = self._slots.get(slot)
        if members is not None:
            members.pop(timed, None)

    def _fire(self, slot: int) -> None:
        for timed in self._slots.pop(slot):
            timed.time_out()
