"""Cancelled entries: those that this consumer knows of, and the thread that reads about them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable

from consumer.queue.interface import Claim, StreamDown, StreamGone, WorkStream
from shared.limits import ENDS_MS

log = logging.getLogger(__name__)

MOST = 10_000
"""Of each lane, so that what one tells does not push out what another told."""

KEPT_S = ENDS_MS / 1000
"""As long as the stream that tells of them stays: an entry that is cancelled is deleted, too."""
RETRY_S = 0.2


class Cancellations:
    """Entries that must not run any more. Pure.

    One thread adds, any thread asks. While nothing was cancelled it is false, and asking for that is all that a batch
    pays.
    """

    def __init__(self) -> None:
        self._since_s: dict[str, dict[bytes, float]] = {}

    def __bool__(self) -> bool:
        return bool(self._since_s)

    def __len__(self) -> int:
        return sum(len(since_s) for since_s in list(self._since_s.values()))

    def holds(self, claim: Claim) -> bool:
        """Say whether an entry was cancelled."""
        lane, entry_id = claim
        return entry_id in self._since_s.get(lane, ())

    def add(self, claims: Iterable[Claim], now_s: float) -> None:
        """Take note of news, and forget the oldest of a lane where they are too many or too old."""
        for lane, entry_id in claims:
            self._since_s.setdefault(lane, {}).setdefault(entry_id, now_s)
        for lane, since_s in list(self._since_s.items()):
            while since_s:
                oldest = next(iter(since_s))
                if len(since_s) <= MOST and now_s - since_s[oldest] <= KEPT_S:
                    break
                del since_s[oldest]
            if not since_s:
                del self._since_s[lane]


class CancellationListener:
    """Reads cancellations on its own thread and connection."""

    def __init__(self, stream: WorkStream, cancellations: Cancellations) -> None:
        self._stream, self._cancellations = stream, cancellations

    def run(self, stop: threading.Event) -> None:
        """Listen until ``stop`` is set."""
        while not stop.is_set():
            try:
                news = self._stream.terminations()
            except (StreamDown, StreamGone) as error:
                log.debug("No news of cancellations: %s", error)
                stop.wait(RETRY_S)
            else:
                self._cancellations.add(news, time.monotonic())
