"""A consumer's half of the request log: what ended since, put into one entry every so often.

Noting a batch appends to a list; everything else happens on a thread of its own.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from time import monotonic

from consumer.events import BatchDone, ItemDone, Share
from shared.wire.request_log import MOST_ENTRY_BYTES, encode

FLUSH_S = 0.2
"""At most one entry in this time."""

MOST_HELD = 20_000
"""Requests held until they are written; what does not fit is not logged."""

MOST_PER_ENTRY = 2_000
"""Requests of one entry, unless they are one batch."""


End = tuple[int, float, int, str, float, float, float, float | None, Sequence[ItemDone], bool]
"""The members of :class:`shared.wire.request_log.BatchEnd`, in their order."""


class RequestLog:
    """Collects ended requests, and has them written.

    Args:
        worker: this consumer's name.
        write: adds an entry to the log, waiting for that; False when that failed.
        dropped: counts requests that are not in the log.
    """

    def __init__(self, worker: str, write: Callable[[bytes], bool], dropped: Callable[[int], None]) -> None:
        self._worker, self._write, self._dropped = worker, write, dropped
        self._held: deque[End] = deque()
        self._added = self._taken = 0  # each is written by one side only, so no lock is needed
        self._has_some, self._over = threading.Event(), threading.Event()

    def add(self, done: BatchDone, number: int, reason: str) -> None:
        """Note what has just been committed; never waits. One call at a time.

        Args:
            number: of the batch.
            reason: why it closed, or that nothing ran.
        """
        items, held = done.items, self._held
        count = len(items)
        if self._added - self._taken + count > MOST_HELD and held:
            self._dropped(count)
            return
        self._added += count
        durations = done.run_s, done.postprocess_s, done.commit_s, done.first_token_s
        is_along = done.share is Share.TAKEN_ALONG
        held.append((number, monotonic(), done.rows, reason, *durations, items, is_along))
        if len(held) == 1:
            self._has_some.set()

    def run(self) -> None:
        """Write until closed, and what is left then."""
        while not self._over.is_set():
            self._has_some.wait()
            self._over.wait(FLUSH_S)
            self.flush()
        self.flush()

    def close(self) -> None:
        """Nothing more comes."""
        self._over.set()
        self._has_some.set()

    def flush(self) -> None:
        """Write what is held."""
        self._has_some.clear()
        held = [self._held.popleft() for _ in range(len(self._held))]
        for some in _portions(held):
            count = sum(len(one[-2]) for one in some)
            packed = encode(self._worker, monotonic(), some)
            if len(packed) > MOST_ENTRY_BYTES or not self._write(packed):
                self._dropped(count)
            self._taken += count
        if self._held or self._over.is_set():  # what came meanwhile found some here, and has told nobody
            self._has_some.set()


def _portions(held: Sequence[End]) -> Iterator[Sequence[End]]:
    """Cut what is held into pieces of at most ``MOST_PER_ENTRY`` requests; a larger batch goes alone."""
    start, count = 0, 0
    for index, one in enumerate(held):
        if index > start and count + len(one[-2]) > MOST_PER_ENTRY:
            yield held[start:index]
            start, count = index, 0
        count += len(one[-2])
    if start < len(held):
        yield held[start:]
