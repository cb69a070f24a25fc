"""Bounds the incomplete bodies in this process. Pure; all times are the caller's, in seconds.

A slow client holds room for long. If newcomers were refused because of that, a few slow clients would block
all others; so without room, the bodies that began longest ago are dropped first.
"""

from __future__ import annotations

from collections.abc import Callable

PATIENCE_S = 2.0
"""Time that a body has in any case. To block others a client must fill all the room within it, again and again."""


class BodyBudget:
    """All bodies that are being received.

    Args:
        most_bytes: what they may hold together.

    Attributes:
        held_bytes: what they hold.
        patience_s: a body that began earlier than that ago is given up when others need its room.
    """

    def __init__(self, most_bytes: int, patience_s: float = PATIENCE_S) -> None:
        self.most_bytes, self.patience_s, self.held_bytes = most_bytes, patience_s, 0
        self._oldest_first: dict[IncomingBody, None] = {}

    def begin(self) -> IncomingBody:
        """Begin to receive a body. A head alone takes no room, and blocks nobody."""
        return IncomingBody(self)

    def _make_room(self, more_bytes: int, now_s: float) -> bool:
        while self.held_bytes + more_bytes > self.most_bytes:
            oldest = next(iter(self._oldest_first), None)
            if oldest is None or now_s - oldest.since_s < self.patience_s:
                return False
            oldest._give_up()
        return True


class IncomingBody:
    """One body that is being received. Each that is begun must be ended.

    Attributes:
        on_given_up: called when its room goes to another; a body without it is never given up.
        is_given_up: that has happened.
        since_s: when something of it came first.
    """

    __slots__ = ("_all", "_held_bytes", "is_given_up", "on_given_up", "since_s")

    def __init__(self, body_budget: BodyBudget) -> None:
        self._all, self._held_bytes, self.since_s = body_budget, 0, 0.0
        self.on_given_up: Callable[[], None] | None = None
        self.is_given_up = False

    def take(self, more_bytes: int, now_s: float) -> bool:
        """Make room for more of the body; False if there is none, or if it has been given up."""
        if self.is_given_up or not self._all._make_room(more_bytes, now_s) or self.is_given_up:
            return False
        if more_bytes and not self._held_bytes:
            self.since_s = now_s
            if self.on_given_up is not None:
                self._all._oldest_first[self] = None
        self._held_bytes += more_bytes
        self._all.held_bytes += more_bytes
        return True

    def _give_up(self) -> None:
        self.end()
        self.is_given_up = True
        if self.on_given_up is not None:
            self.on_given_up()

    def end(self) -> None:
        """Give all of its room back; a second time does nothing."""
        self._all.held_bytes -= self._held_bytes
        self._held_bytes = 0
        self._all._oldest_first.pop(self, None)
