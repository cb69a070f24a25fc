"""A consumer's half of the request log: what ended since, put into one entry every so often.

Noting a batch appends to a list; everything else happens on a thread of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from time import monotonic

from consumer.events import BatchDone
from shared.wire.request_log import MOST_ENTRY_BYTES, BatchEnd, encode

FLUSH_S = 0.2
"""At most one entry in this time."""

MOST_HELD = 20_000
"""Requests held until they are written; what does not fit is not logged."""

MOST_PER_ENTRY = 4_000
"""Requests of one entry, unless they are one batch."""


class RequestLog:
    """Collects ended requests, and has them written.

    Args:
        worker: this consumer's name.
        write: adds an entry to the log, waiting for that; False when that failed.
        dropped: counts requests that are not in the log.
    """

    def __init__(self, worker: str, write: Callable[[bytes], bool], dropped: Callable[[int], None]) -> None:
        self._worker, self._write, self._dropped = worker, write, dropped
        self._lock = threading.Lock()
        self._held: list[BatchEnd] = []
        self._count = 0
        self._has_some, self._over = threading.Event(), threading.Event()

    def add(self, done: BatchDone, number: int, reason: str) -> None:
        """Note what has just been committed; never waits, from any thread.

        Args:
            number: of the batch.
            reason: why it closed, or that nothing ran.
        """
        end = BatchEnd(
            number,
            monotonic(),
            done.rows,
            reason,
            done.run_s,
            done.postprocess_s,
            done.commit_s,
            done.first_token_s,
            done.items,  # type: ignore[arg-type]  # encoded like a list, whatever sequence it is
        )
        count = len(done.items)
        with self._lock:
            fits = self._count + count <= MOST_HELD or not self._held
            if fits:
                self._held.append(end)
                self._count += count
        if not fits:
            self._dropped(count)
        elif not self._has_some.is_set():
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
        if not self._over.is_set():
            self._has_some.clear()  # first: what comes after this sets it again
        with self._lock:
            held, self._held, self._count = self._held, [], 0
        while held:
            some = _first(held)
            held = held[len(some) :]
            count = sum(len(one.items) for one in some)
            packed = encode(self._worker, monotonic(), some)
            if len(packed) > MOST_ENTRY_BYTES or not self._write(packed):
                self._dropped(count)


def _first(held: Sequence[BatchEnd]) -> Sequence[BatchEnd]:
    count = 0
    for index, one in enumerate(held):
        count += len(one.items)
        if index and count > MOST_PER_ENTRY:
            return held[:index]
    return held
