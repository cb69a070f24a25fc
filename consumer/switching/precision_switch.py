"""Switching the precision while the consumer runs: what is wished for, whose turn it is, what came of it.

The pulse's thread looks for wishes; the executor's thread, between two models, carries them out.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress

from consumer.queue.interface import StreamDown, StreamGone, WorkStream
from shared.settings import PRECISIONS
from shared.state.desired_state import DEFAULT, Progress, Wish

log = logging.getLogger(__name__)


class Switch:
    """Where this worker stands with the operator's wishes.

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
        refusal: Callable[[str], str | None] = lambda precision: "",
    ) -> None:
        self._stream, self._own, self._refusal_of = stream, own, refusal
        self._on_wanted, self._on_change = on_wanted, on_change
        self._lock = threading.Lock()
        self._wish: Wish | None = None
        self._progress: Progress | None = None
        self._refusal = ""
        self.requested = own

    @property
    def published(self) -> tuple[str, str, str]:
        """Token of the wish, progress and refusal, each empty when there is none."""
        with self._lock:
            return self._wish.token if self._wish else "", self._progress or "", self._refusal

    @property
    def own(self) -> str:
        """What environment and models file ask for."""
        return self._own

    def at_start(self) -> str:
        """Return the precision to load first: the wish that is there, else this worker's own."""
        wish = None
        with suppress(StreamDown, StreamGone):  # then the wish is found after the first heartbeat
            wish = self._stream.wish()
        if wish is None:
            return self._own
        wanted = self._wanted(wish)
        if wanted not in PRECISIONS:
            self._note(wish, Progress.REFUSED, _unknown(wanted))
            return self._own
        self._note(wish, Progress.SWITCHING)
        return wanted

    def look(self) -> None:
        """See whether there is a new wish, and whether it is this worker's turn; called after each heartbeat.

        Raises:
            StreamDown, StreamGone: the queue did not answer; the next heartbeat looks again.
        """
        if self.is_under_way:
            self._stream.take_turn()
            return
        wish = self._stream.wish()
        if wish is None or (wish == self._wish and self._progress is not Progress.WAITING):
            return
        wanted = self._wanted(wish)
        if wanted not in PRECISIONS:
            self._note(wish, Progress.REFUSED, _unknown(wanted))
        elif wanted == self.requested:
            self._note(wish, Progress.DONE)
        else:
            self._try(wish, wanted)

    def _try(self, wish: Wish, wanted: str) -> None:
        refusal = self._refusal_of(wanted)
        if refusal:
            self._note(wish, Progress.REFUSED, refusal)
            log.error("Precision %s is not taken: %s Going on with %s.", wanted, refusal, self.requested)
        elif refusal is None or not self._stream.take_turn():
            self._note(wish, Progress.WAITING)
        else:
            self._note(wish, Progress.SWITCHING)
            log.info("Switching from %s to %s, as an operator asked.", self.requested, wanted)
            self._on_wanted()

    @property
    def is_under_way(self) -> bool:
        """Whether this worker is draining or loading for a wish."""
        return self._progress is Progress.SWITCHING

    @property
    def wanted(self) -> str:
        """The precision to load now."""
        return self._own if self._wish is None else self._wanted(self._wish)

    def finish(self, refusal: str = "") -> None:
        """Say what came of the wish under way: done, or refused with one sentence and the old precision runs on."""
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

    def _wanted(self, wish: Wish) -> str:
        return self._own if wish.precision == DEFAULT else wish.precision

    def _note(self, wish: Wish, progress: Progress, refusal: str = "") -> None:
        with self._lock:
            is_new = (wish, progress) != (self._wish, self._progress)
            self._wish, self._progress, self._refusal = wish, progress, refusal
        if is_new:
            self._on_change()


def _unknown(precision: str) -> str:
    return f"{precision!r} is not a precision; they are {', '.join(PRECISIONS)}."
