"""Moving to the result of a search: which consumer searches, which one has the turn to switch, and when.

The heartbeat's thread looks at the folder after each heartbeat; the executor's thread, between two models, loads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from consumer.queue.interface import StreamDown, StreamGone, WorkStream
from consumer.tuning.store import Store
from consumer.tuning.tuner import SearchRequest, Tuner
from shared.state.cards import Card, Tuning

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Adoptable:
    """What was found when the running model was loaded.

    Attributes:
        stamp: of the entry that was there, whether it could be used or not; None for none.
        search_request: what is searched for where that is worth it.
        wants_search: whether it is: nothing was found that can be used, and this start has not searched yet.
    """

    store: Store
    stamp: int | None
    search_request: SearchRequest
    wants_search: bool


class Adoption:
    """Has the fastest runtime searched for, and switches to it when it is this consumer's turn.

    Args:
        on_found: called when this worker is to drain and load again.
        searches: whether this consumer starts a search; it uses another's result in any case.
    """

    def __init__(self, stream: WorkStream, tuner: Tuner, on_found: Callable[[], None], searches: bool = True) -> None:
        self._stream, self._tuner, self._on_found, self._searches = stream, tuner, on_found, searches
        self.is_under_way = False
        self._read: tuple[int | None, bool] = (None, False)

    def look(self, running: Adoptable | None) -> None:
        """See whether there is something new; called after each heartbeat.

        Raises:
            StreamDown, StreamGone: the queue did not answer; the next heartbeat looks again.
        """
        if self.is_under_way:
            self._stream.take_turn()
            return
        if running is None:
            return
        stamp = running.store.stamp()
        if stamp is None or stamp == running.stamp or not self._is_whole(running.store, stamp):
            self._search(running)
        elif self._stream.take_turn():
            self.is_under_way = True
            log.info("The fastest runtime for this machine was found; draining to take it over.")
            self._on_found()

    def _is_whole(self, store: Store, stamp: int) -> bool:
        """Say whether an entry can be read: one that is damaged is no reason to drain. Each is read once."""
        if self._read[0] != stamp:
            self._read = (stamp, store.find() is not None)
        return self._read[1]

    def _search(self, running: Adoptable) -> None:
        if not (self._searches and running.wants_search) or self._tuner.was_tried(running.search_request):
            return
        if not running.store.is_being_searched():
            self._tuner.begin(running.search_request)

    def told_of(self, card: Card) -> Card:
        """Return the card of the running model with what has become of a search for it."""
        if self._tuner.failure and card.tuning is not None and card.tuning.state == "searching":
            return msgspec.structs.replace(card, tuning=Tuning("refused", self._tuner.failure))
        return card

    def finish(self) -> None:
        """Let the next consumer switch."""
        if self.is_under_way:
            self.is_under_way = False
            with suppress(StreamDown, StreamGone):
                self._stream.end_turn()

    def end(self) -> None:
        """Let nothing go on, because the consumer stops."""
        self._tuner.end()
        self.finish()
