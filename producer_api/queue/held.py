"""Requests to models whose cards are not known yet: they wait in this process, whole. No I/O.

What a request means depends on its model's card, which the first consumer publishes when it is ready. From then on
requests go into the queue, where they need no memory here and outlive this process.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from producer_api.load.cold_room import ColdRoom, Place
from shared.wire.outcomes import EXPIRED, SHUTTING_DOWN, RequestError

from .admission import let_in, refusal
from .interface import Catalogue, GiveUp
from .timer_wheel import TimerWheel

MOST_PER_TURN = 32
"""So many go on in one turn of the event loop: each of them is decoded then."""


class Held:
    """One request that waits for its model's card."""

    __slots__ = ("_all", "_go_on", "_place", "_refused", "model", "slot")

    def __init__(
        self,
        all: HeldRequests,
        model: str,
        place: Place,
        go_on: Callable[[], None],
        refused: Callable[[RequestError], None],
    ) -> None:
        self._all, self.model, self._place, self.slot = all, model, place, 0
        self._go_on: Callable[[], None] | None = go_on
        self._refused: Callable[[RequestError], None] | None = refused

    def end(self) -> None:
        """Wait no more, and call nobody. What would be called knows the body, which nothing here should keep."""
        self._go_on = self._refused = None
        self._place.leave()
        self._all.forget(self)

    def go_on(self) -> None:
        """The card is known."""
        go_on = self._go_on
        if go_on is not None:
            self.end()
            go_on()

    def refuse(self, error: RequestError) -> None:
        """The model is not served after all, or not in time."""
        refused = self._refused
        if refused is not None:
            self.end()
            refused(error)

    def time_out(self) -> None:
        """The time is up."""
        self.refuse(refusal(EXPIRED, "The deadline passed before a consumer was ready."))


class HeldRequests:
    """All requests of a front end that wait so. To be made on the event loop that uses it.

    Args:
        room: counts them.
    """

    def __init__(self, room: ColdRoom) -> None:
        self._room, self._loop = room, asyncio.get_running_loop()
        self._wheel = TimerWheel(self._loop)
        self._waiting: dict[str, dict[Held, None]] = {}
        self._ready: deque[Held] = deque()

    def hold(
        self,
        model: str,
        place: Place,
        limit_s: float,
        go_on: Callable[[], None],
        refused: Callable[[RequestError], None],
    ) -> GiveUp:
        """Let a request wait for at most ``limit_s``; see :meth:`producer_api.queue.interface.Queue.await_card`."""
        held = Held(self, model, place, go_on, refused)
        held.slot = self._wheel.add(held, self._loop.time() + limit_s)
        self._waiting.setdefault(model, {})[held] = None
        return held.end

    def look(self, catalogue: Catalogue) -> None:
        """Let go on, in the order they came, what can; refuse what is not served after all."""
        if not catalogue.redis_ok:  # what is known is old; their deadlines bound the wait
            return
        for model, waiting in list(self._waiting.items()):
            try:
                state = let_in(catalogue, model, "")
            except RequestError as error:
                for held in list(waiting):
                    held.refuse(_again(error))
                continue
            if state.card is not None:
                del self._waiting[model]
                if not self._ready:
                    self._loop.call_soon(self._go_on)
                self._ready.extend(waiting)

    def close(self) -> None:
        """Refuse all."""
        for held in [*self._ready, *(held for waiting in self._waiting.values() for held in waiting)]:
            held.refuse(refusal(SHUTTING_DOWN, "The front end is shutting down."))

    def _go_on(self) -> None:
        for _ in range(min(MOST_PER_TURN, len(self._ready))):
            self._ready.popleft().go_on()
        if self._ready:
            self._loop.call_soon(self._go_on)

    def forget(self, held: Held) -> None:
        """Take it off every list."""
        self._wheel.remove(held, held.slot)
        waiting = self._waiting.get(held.model)
        if waiting is not None:
            waiting.pop(held, None)
            if not waiting:
                del self._waiting[held.model]


def _again(error: RequestError) -> RequestError:
    """Copy an error for one more request, whose id it will bear."""
    return RequestError(error.outcome, error.message, retry_after_s=error.retry_after_s)
