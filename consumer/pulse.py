"""The heartbeat: says that this consumer lives and keeps stream and group in place."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

from shared.cards import Card

from .stream import StreamDown, StreamGone, WorkStream

log = logging.getLogger(__name__)


class Pulse:
    """Beats at a fixed interval, and at once when asked to.

    Args:
        state: what to publish about this worker.
        interval_s: time between two beats.
    """

    def __init__(self, stream: WorkStream, card: Card, state: Mapping[str, str], interval_s: float) -> None:
        self._stream, self._card, self._state = stream, card, state
        self._interval_s = interval_s
        self._wake = threading.Event()

    def beat_now(self) -> None:
        """Beat at once, because the stream is gone or the pulse is to stop."""
        self._wake.set()

    def run(self, stop: threading.Event) -> None:
        """Beat until ``stop`` is set."""
        while not stop.is_set():
            try:
                self._stream.heartbeat(self._card, self._state)
            except (StreamDown, StreamGone) as error:
                log.debug("No heartbeat: %s", error)
            self._wake.wait(self._interval_s)
            self._wake.clear()
