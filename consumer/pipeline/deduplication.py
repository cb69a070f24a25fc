"""Requests that direct producers sent more than once: the second joins the first. Pure.

Front ends admit each id once, so this is about direct producers' requests only.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from shared.keys import FRONT_END
from shared.wire.messages import Request

from .items import Item

MOST = 10_000
"""Answered ids that are remembered."""


def may_be_duplicate(request: Request) -> bool:
    """Say whether its id may have been sent before: no front end waits for it."""
    return request.reply_to is None or not request.reply_to.startswith(FRONT_END)


class Deduplication:
    """Which ids are in flight here, and which were answered lately. Empty, and false, while none is in flight.

    One thread lets in, another ends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[tuple[str, str], list[Item]] = {}
        self._answered: dict[tuple[str, str], None] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    def joins(self, item: Item) -> bool:
        """Register an item; True if another with its id is in flight, whose :meth:`end` then returns this item."""
        key = item.entry.lane, item.request.id
        with self._lock:
            first = self._under_way.get(key)
            if first is None:
                self._under_way[key] = []
                return False
            first.append(item)
            return True

    def end(self, lane: str, request_id: str, *, answered: bool) -> Sequence[Item]:
        """Note that an item has ended; returns those that joined it.

        Args:
            answered: there is a lasting reply to the id now.
        """
        key = lane, request_id
        with self._lock:
            joined = self._under_way.pop(key, None)
            if joined is None:
                return ()
            if answered:
                self._answered[key] = None
                if len(self._answered) > MOST:
                    del self._answered[next(iter(self._answered))]
            return joined

    def was_answered(self, item: Item) -> bool:
        """Say whether an item of this id was answered here lately."""
        return (item.entry.lane, item.request.id) in self._answered
