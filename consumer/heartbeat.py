"""The heartbeat: says that this consumer lives and keeps stream and group in place."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from shared.state.cards import Card

from .queue.interface import StreamDown, StreamGone, WorkStream

log = logging.getLogger(__name__)


class Heartbeat:
    """Beats at a fixed interval, and at once when asked to.

    Args:
        describe: gives the card and what else to publish about this worker, at each beat.
        after_beat: called after each beat that the queue answered; what it raises of the queue's silence is ignored.
        interval_s: time between two beats.
    """

    def __init__(
        self,
        stream: WorkStream,
        describe: Callable[[], tuple[Card, Mapping[str, str]]],
        after_beat: Callable[[], None],
        interval_s: float,
    ) -> None:
        self._stream, self._describe, self._after_beat = stream, describe, after_beat
        self._interval_s = interval_s
        self._wake = threading.Event()

    def beat_now(self) -> None:
        """Beat at once, because the stream is gone, something changed, or the heartbeat is to stop."""
        self._wake.set()

    def run(self, stop: threading.Event) -> None:
        """Beat until ``stop`` is set."""
        while not stop.is_set():
            try:
                self._stream.heartbeat(*self._describe())
                self._after_beat()
            except (StreamDown, StreamGone) as error:
                log.debug("No heartbeat: %s", error)
            self._wake.wait(self._interval_s)
            self._wake.clear()

    def first(self, stop: threading.Event, retry_s: float = 0.5) -> None:
        """Beat once, trying again until the queue answers or ``stop`` is set."""
        while not stop.is_set():
            try:
                self._stream.heartbeat(*self._describe())
                return
            except (StreamDown, StreamGone) as error:
                log.warning("Redis does not answer yet (%s); trying again.", error)
                stop.wait(retry_s)
