"""Switching the precision while the consumer runs: which one an operator wants, whose turn it is, what came of it.

The heartbeat's thread looks for a desired precision; the executor's thread, between two models, loads it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress

from consumer.queue.interface import StreamDown, StreamGone, WorkStream
from shared.settings import PRECISIONS
from shared.state.desired_state import DEFAULT, DesiredPrecision, Progress

log = logging.getLogger(__name__)


class Switch:
    """How far this worker is with the precision that an operator wants.

    Args:
        own: the precision that environment and models file ask for.
        on_wanted: called when this worker is to drain and switch.
        on_change: called when there is something new to publish.
        refusal: says why a precision cannot be had; empty when it can, None as long as that is being found out.
    """

    def __init__(
        self,
        stream: WorkStream,
        own: str,
        on_wanted: Callable[[], None],
        on_change: Callable[[], None],
        refusal: Callable[[str], str | None],
    ) -> None:
        self._stream, self._own, self._refusal_of = stream, own, refusal
        self._on_wanted, self._on_change = on_wanted, on_change
        self._lock = threading.Lock()
        self._desired: DesiredPrecision | None = None
        self._progress: Progress | None = None
        self._refusal = ""
        self.requested = own

    @property
    def published(self) -> tuple[str, str, str]:
        """Token of the desired precision, progress and refusal, each empty when there is none."""
        with self._lock:
            return self._desired.token if self._desired else "", self._progress or "", self._refusal

    def at_start(self) -> str:
        """Return the precision to load first: the desired one, else this worker's own."""
        desired = None
        with suppress(StreamDown, StreamGone):  # then it is found after the first heartbeat
            desired = self._stream.desired_precision()
        if desired is None:
            return self._own
        wanted = self._wanted(desired)
        if wanted not in PRECISIONS:
            self._note(desired, Progress.REFUSED, _unknown(wanted))
            return self._own
        self._note(desired, Progress.SWITCHING)
        return wanted

    def look(self) -> None:
        """See whether another precision is desired, and whether it is this worker's turn; called after each heartbeat.

        Raises:
            StreamDown, StreamGone: the queue did not answer; the next heartbeat looks again.
        """
        if self.is_under_way:
            self._stream.take_turn()
            return
        desired = self._stream.desired_precision()
        if desired is None or (desired == self._desired and self._progress is not Progress.WAITING):
            return
        wanted = self._wanted(desired)
        if wanted not in PRECISIONS:
            self._note(desired, Progress.REFUSED, _unknown(wanted))
        elif wanted == self.requested:
            self._note(desired, Progress.DONE)
        else:
            self._try(desired, wanted)

    def _try(self, desired: DesiredPrecision, wanted: str) -> None:
        refusal = self._refusal_of(wanted)
        if refusal:
            self._note(desired, Progress.REFUSED, refusal)
            log.error("Precision %s is not taken: %s Going on with %s.", wanted, refusal, self.requested)
        elif refusal is None or not self._stream.take_turn():
            self._note(desired, Progress.WAITING)
        else:
            self._note(desired, Progress.SWITCHING)
            log.info("Switching from %s to %s, as an operator asked.", self.requested, wanted)
            self._on_wanted()

    @property
    def is_under_way(self) -> bool:
        """Whether this worker is draining or loading a desired precision."""
        return self._progress is Progress.SWITCHING

    @property
    def wanted(self) -> str:
        """The precision to load now."""
        return self._own if self._desired is None else self._wanted(self._desired)

    def finish(self, refusal: str = "") -> None:
        """Report the result of the switch: done, or refused with one sentence, while the old precision still runs."""
        with self._lock:
            if self._progress is not Progress.SWITCHING:
                return
            if not refusal:
                self.requested = self.wanted
            self._progress = Progress.REFUSED if refusal else Progress.DONE
            self._refusal = refusal
        self.give_up_turn()
        self._on_change()

    def give_up_turn(self) -> None:
        """Let others switch; a turn that cannot be given back ends with its lease."""
        with suppress(StreamDown, StreamGone):
            self._stream.end_turn()

    def _wanted(self, desired: DesiredPrecision) -> str:
        return self._own if desired.precision == DEFAULT else desired.precision

    def _note(self, desired: DesiredPrecision, progress: Progress, refusal: str = "") -> None:
        with self._lock:
            is_new = (desired, progress) != (self._desired, self._progress)
            self._desired, self._progress, self._refusal = desired, progress, refusal
        if is_new:
            self._on_change()


def _unknown(precision: str) -> str:
    return f"{precision!r} is not a precision; they are {', '.join(PRECISIONS)}."
