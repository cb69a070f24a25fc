"""Writes frames on a thread of its own: one call for all streams that have something new."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from consumer.queue.interface import Claim, Emission, Emitted, Records, StreamDown, StreamGone

from .outgoing import SOON_S, Outgoing

log = logging.getLogger(__name__)

RETRY_S = 0.2
MOST_BYTES = 1024 * 1024
"""Of frames in one call, unless a single one has more: the server does nothing else meanwhile."""


@dataclass(slots=True)
class _Stream:
    claim: Claim
    request_id: str
    reply_to: str
    outgoing: Outgoing
    then: Callable[[], None] | None = None


class Emitter:
    """Collects what steps bring, and writes it; best effort, and never in the executor's way.

    Args:
        records: where frames go.
        wrote: told how many frames a call has written.
    """

    def __init__(self, records: Records, wrote: Callable[[int], None]) -> None:
        self._records, self._wrote = records, wrote
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._streams: dict[Claim, _Stream] = {}
        self._calls: list[Callable[[], None]] = []
        self._closed = self._gave_up = False
        self._blocked_until_s = 0.0

    def begin(self, claim: Claim, request_id: str, reply_to: str, outgoing: Outgoing) -> None:
        """Take on a generation."""
        with self._changed:
            self._streams[claim] = _Stream(claim, request_id, reply_to, outgoing)
            self._changed.notify()

    def notify(self, change: Callable[[], None]) -> None:
        """Change some of what is outgoing, all at once, and look whether something is due."""
        with self._changed:
            change()
            self._changed.notify()

    def end(self, claim: Claim, change: Callable[[], None], then: Callable[[], None]) -> None:
        """Change what is outgoing for the last time; ``then`` is called once it has been written, or cannot be.

        It is called on the emitter's thread, and may block: meanwhile frames collect.
        """
        with self._changed:
            change()
            self._streams[claim].then = then
            self._changed.notify()

    def soon(self, call: Callable[[], None]) -> None:
        """Have something done on this thread that waits for the queue."""
        with self._changed:
            self._calls.append(call)
            self._changed.notify()

    def drop(self, claim: Claim) -> None:
        """Forget a generation that ends without an answer."""
        with self._changed:
            self._streams.pop(claim, None)

    def give_up(self) -> None:
        """Wait no more for a queue that does not answer; may be called from any thread."""
        with self._changed:
            self._gave_up = True
            self._changed.notify()

    def close(self) -> None:
        """Let ``run`` return once everything that has ended is written."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def run(self) -> None:
        """Write until closed."""
        while True:
            with self._changed:
                ended = self._take_ended()
                if not ended and self._closed and not self._streams:
                    return
                batch = [] if ended else self._take_due()
            for then in ended:
                then()
            if batch:
                self._write(batch)

    def _take_ended(self) -> list[Callable[[], None]]:
        ended = [
            one for one in self._streams.values() if one.then is not None and (self._gave_up or one.outgoing.is_over)
        ]
        for one in ended:
            del self._streams[one.claim]
        calls, self._calls = self._calls, []
        return calls + [one.then for one in ended if one.then is not None]

    def _take_due(self) -> list[tuple[_Stream, Emission]]:
        """Wait until something is due and take all that nearly is: they share a call.

        First frames go before all others: somebody waits for them, and they would wait for hundreds.
        """
        now_s = time.monotonic()
        due_s = min((one.outgoing.due_s() for one in self._streams.values()), default=float("inf"))
        wait_s = max(due_s, self._blocked_until_s) - now_s
        if wait_s > 0:
            self._changed.wait(min(wait_s, 3600.0))
            return []
        batch: list[tuple[_Stream, Emission]] = []
        size = 0
        due = [one for one in self._streams.values() if one.outgoing.due_s() <= now_s + SOON_S / 2]
        for one in [one for one in due if not one.outgoing.seq] or due:
            taken = one.outgoing.take(now_s)
            lane, entry_id = one.claim
            emission = Emission(
                entry_id, one.request_id, one.reply_to, taken.expiry_ms, taken.seq, taken.frame, lane=lane
            )
            batch.append((one, emission))
            size += len(taken.frame)
            if size >= MOST_BYTES:
                break
        return batch

    def _write(self, batch: Sequence[tuple[_Stream, Emission]]) -> None:
        try:
            emitted = self._records.emit([emission for _, emission in batch])
        except (StreamDown, StreamGone) as error:
            log.debug("Frames were not written: %s", error)
            self._blocked_until_s = time.monotonic() + RETRY_S
            return
        self._wrote(emitted.count(Emitted.WRITTEN))
        now_s = time.monotonic()
        with self._changed:
            for (one, _), status in zip(batch, emitted, strict=True):
                one.outgoing.settle(status, now_s)
        if Emitted.FULL in emitted:
            self._blocked_until_s = now_s + RETRY_S
            self._give_ends_up(batch)

    def _give_ends_up(self, batch: Sequence[tuple[_Stream, Emission]]) -> None:
        """Let what has ended be answered without its last frames: a full server takes answers, and these are whole."""
        with self._changed:
            for one, _ in batch:
                if one.then is not None:
                    one.outgoing.is_silent = True
