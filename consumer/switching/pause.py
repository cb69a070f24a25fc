"""Has an operator paused the model, and has this consumer stopped reading?"""

from __future__ import annotations

import threading
from collections.abc import Callable


class Pause:
    """The desired state as the heartbeat reads it, and what the reading threads do about it.

    Args:
        on_change: called when there is something new to publish.

    Attributes:
        asked: nothing more is to be claimed. Looked at before each read, so it is no more than an attribute.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._lock = threading.Lock()
        self._rests = False
        self._readers: set[object] = set()
        self._resting: set[object] = set()
        self.asked = False

    def add_reader(self, reader: object) -> None:
        """Note that one more thread reads, which is to :meth:`rest` like the others."""
        with self._lock:
            self._readers.add(reader)

    def remove_reader(self, reader: object) -> None:
        """Note that it reads no more."""
        with self._lock:
            self._readers.discard(reader)

    @property
    def rests(self) -> bool:
        """Whether no read is in progress any more, and none begins before :meth:`ask` says so."""
        return self._rests

    def ask(self, paused: bool) -> None:
        """Take in the desired state."""
        with self._lock:
            if paused == self.asked:
                return
            self.asked, was_resting = paused, self._rests
            self._rests = False
            self._resting.clear()
        if was_resting:
            self._on_change()

    def rest(self, reader: object = None) -> None:
        """Note that one which may read does not; called by it alone."""
        with self._lock:
            if self._rests or not self.asked:
                return
            self._resting.add(reader)
            if not self._readers <= self._resting:
                return  # another one may still be reading
            self._rests = True
        self._on_change()
