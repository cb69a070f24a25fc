"""Bounds the answers that wait for slow clients. Pure; all times are the caller's, in seconds.

What the kernel accepts at once is never here. A client that reads slowly, or not at all, makes this process hold the
rest of the answer; a deadline for progress ends those that read nothing, and a limit on the sum the slowest of the
others.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Final

PATIENCE_S = 2.0
"""An answer that has waited for less is given up only if there is no other."""

_LOOK_S = 1.0

STALLED: Final = "stalled"
ROOM: Final = "room"
WHYS: Final = (STALLED, ROOM)
"""Why an answer was given up: its client read nothing for too long, or others needed the room."""


class AnswerBudget:
    """All answers that wait for their clients.

    Args:
        most_bytes: what they may hold together.
        timeout_s: how long a client may take without taking a byte.

    Attributes:
        held_bytes: what they hold.
        look_s: how often to look whether a client has taken something.
        given_up: how many were given up, by their reason: what took nothing for too long, or gave way to others.
    """

    def __init__(self, most_bytes: int, timeout_s: float, patience_s: float = PATIENCE_S) -> None:
        self.most_bytes, self.timeout_s, self.patience_s, self.held_bytes = most_bytes, timeout_s, patience_s, 0
        self.look_s = min(_LOOK_S, timeout_s / 4)
        self.given_up: MutableMapping[tuple[str, ...], int] = {(why,): 0 for why in WHYS}
        self._all: dict[UnreadAnswer, None] = {}

    def begin(self, held_bytes: int, now_s: float, on_given_up: Callable[[], None]) -> UnreadAnswer:
        """Begin to wait for a client; without room for it, give up the slowest, perhaps this one.

        Args:
            held_bytes: what this process holds because of it.
        """
        unread = UnreadAnswer(self, held_bytes, now_s, on_given_up)
        self._all[unread] = None
        self.held_bytes += held_bytes
        while self.held_bytes > self.most_bytes:
            min(self._all, key=lambda one: one.rate(now_s))._give_up(ROOM)
        return unread


class UnreadAnswer:
    """One answer that waits for its client. Each that is begun must be ended."""

    __slots__ = ("_all", "_held_bytes", "_idle_s", "_looked_s", "_on_given_up", "_since_s", "_taken_bytes")

    def __init__(
        self, answer_budget: AnswerBudget, held_bytes: int, now_s: float, on_given_up: Callable[[], None]
    ) -> None:
        self._all, self._held_bytes, self._on_given_up = answer_budget, held_bytes, on_given_up
        self._since_s = self._looked_s = now_s
        self._taken_bytes, self._idle_s = 0, 0.0

    def progress(self, taken_bytes: int, now_s: float) -> None:
        """Note what the client has read since the last check; give it up if that is nothing for too long.

        A late check counts as one: a delay of this process is not its clients' fault.
        """
        self._idle_s += min(now_s - self._looked_s, self._all.look_s)
        self._looked_s = now_s
        if taken_bytes > 0:
            self._taken_bytes += taken_bytes
            self._idle_s = 0.0
        elif self in self._all._all and self._idle_s >= self._all.timeout_s * 0.999:
            self._give_up(STALLED)

    def rate(self, now_s: float) -> tuple[bool, float]:
        """Whether it is too early to tell, and how fast the client reads, in bytes per second. The least is slowest."""
        waited_s = now_s - self._since_s
        return waited_s < self._all.patience_s, self._taken_bytes / max(waited_s, 1e-3)

    def _give_up(self, why: str) -> None:
        self.end()
        self._all.given_up[why,] += 1
        self._on_given_up()

    def end(self) -> None:
        """Give its room back; a second time does nothing."""
        self._all.held_bytes -= self._held_bytes
        self._held_bytes = 0
        self._all._all.pop(self, None)
