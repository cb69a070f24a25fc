"""Which entries were cancelled: what this consumer has heard of it, and how it hears."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable

from .stream import Claim, StreamDown, StreamGone, WorkStream

log = logging.getLogger(__name__)

MOST = 10_000
KEPT_S = 3600.0
"""An entry's time to live is at most that, so nobody comes to it later."""
RETRY_S = 0.2


class Cancelled:
    """Entries that must not run any more. Pure.

    One thread adds, any thread asks. While nothing was cancelled it is false, and asking for that is all that a batch
    pays.
    """

    def __init__(self) -> None:
        self._since_s: dict[Claim, float] = {}

    def __len__(self) -> int:
        return len(self._since_s)

    def holds(self, claim: Claim) -> bool:
        """Say whether an entry was cancelled."""
        return claim in self._since_s

    def add(self, claims: Iterable[Claim], now_s: float) -> None:
        """Take note of news, and forget the oldest where they are too many or too old."""
        since_s = self._since_s
        for claim in claims:
            since_s[claim] = now_s
        for claim, noted_s in list(since_s.items()):
            if len(since_s) <= MOST and now_s - noted_s <= KEPT_S:
                break
            del since_s[claim]


class Listener:
    """Waits for news of cancellations, on a thread and a connection of its own."""

    def __init__(self, stream: WorkStream, cancelled: Cancelled) -> None:
        self._stream, self._cancelled = stream, cancelled

    def run(self, stop: threading.Event) -> None:
        """Listen until ``stop`` is set."""
        while not stop.is_set():
            try:
                news = self._stream.ends()
            except (StreamDown, StreamGone) as error:
                log.debug("No news of cancellations: %s", error)
                stop.wait(RETRY_S)
            else:
                self._cancelled.add(news, time.monotonic())
