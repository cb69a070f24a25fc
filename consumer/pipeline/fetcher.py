"""The first stage: claim entries, decode them, make rows of them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

import msgspec

from consumer.queue.entry_reader import read as read_entry
from consumer.queue.interface import FUTURE_MS, Claiming, Completion, Dead, Entry, StreamDown, StreamGone
from shared.keys import DEFAULT_LANE
from shared.wire.bodies import BODY_GONE, Owner
from shared.wire.messages import WireError
from shared.wire.outcomes import CRASHED, EXPIRED, MALFORMED, RequestError

from .context import Context
from .decoding.rows import Rows
from .decoding.stage import Decoding
from .deduplication import may_be_duplicate
from .intake import Intake, Room
from .items import Item, Refusal, Refused, completion_of
from .leases import MOST_CRASHES

log = logging.getLogger(__name__)

RETRY_S = 0.2

POLL_S = 0.005
"""Time between two looks, while the next batch is full, for lanes that have less than their share of it."""
NO_LANES_S = 0.5
"""Time between two looks whether there are ``batch`` lanes again."""

ROWS, LATER_ROWS = "rows", "rows of batch lanes"
"""What making the rows of requests just read is called to the watchdog."""

SCANS_PER_LEASE = 3
"""Searches for abandoned work, while they find none."""


class Read(Protocol):
    """Claims entries; see :meth:`consumer.queue.interface.WorkStream.read`."""

    def __call__(self, max_entries: int, *, wait: bool) -> Sequence[Entry]:
        """Claim up to ``max_entries``."""


class Fetcher:
    """Reads the stream until told to stop.

    Args:
        rows: makes rows of requests where that is no work.
        decoding: makes the others.
        send: takes requests that end here, without inference.
        on_gone: called when stream or group are missing, to have them made again.
        recall: finds what another consumer has already made of an item that was taken over; None for nothing.
        later: where requests of ``batch`` lanes wait, for the fetcher that reads those; None for the one of the others.

    Attributes:
        reading: held by the thread that reads.
        overlaps: set while reading overlaps with running, on a thread of its own; cleared while the executor reads.
    """

    def __init__(
        self,
        context: Context,
        rows: Rows,
        intake: Intake,
        decoding: Decoding,
        send: Callable[[Sequence[Refused]], None],
        on_gone: Callable[[], None],
        recall: Callable[[Item], Refusal | None] | None = None,
        later: Room | None = None,
    ) -> None:
        self._recall = recall
        self._claiming: Claiming = context.stream if later is None else context.stream.batch
        self._room, self._is_later = later or intake, later is not None
        self._rows_name = ROWS if later is None else LATER_ROWS
        self._context, self._rows, self._intake, self._decoding = context, rows, intake, decoding
        self._send, self._on_gone = send, on_gone
        self._stream, self._leases, self._deduplication = context.stream, context.leases, context.deduplication
        self._most_message_bytes = context.settings.max_message_bytes
        self._scan_s = context.settings.lease_ms / 1000 / SCANS_PER_LEASE
        self._next_scan_s = time.monotonic()
        self._down = False
        self.reading = threading.Lock()
        self.overlaps = threading.Event()
        self.overlaps.set()

    def run(self, stop: threading.Event) -> None:
        """Read and pass on until ``stop`` is set, except while the executor reads for itself."""
        pause = self._context.pause
        pause.add_reader(self)
        try:
            self._run(stop)
        finally:
            pause.remove_reader(self)

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            if self._is_later and not self._claiming.lanes:
                self._rest_if_asked()
                stop.wait(NO_LANES_S)
                continue
            if self.overlaps.wait(RETRY_S):
                with self.reading:
                    has_read = self.read_once(self._claiming.read)
                if not has_read:
                    stop.wait(RETRY_S)
        with self.reading:  # the executor may still be reading, and the decoders end after this
            pass

    def read_once(self, read: Read) -> bool:
        """Wait a bounded time for entries and pass them on; survives a queue that goes away and comes back.

        Args:
            read: claims entries, as the stream's ``read`` does.

        Returns:
            Whether the queue was there and reading is allowed.
        """
        if self._context.pause.asked:
            self._rest_if_asked()
            return False
        several = self._claiming.has_several_lanes()
        room = self._room.wait_for_room(POLL_S if several else RETRY_S)
        if room == 0 and not several:
            return True
        # While one that was taken over waits for its turn, there may be more: nothing new is waited for.
        has_isolated = self._intake.has_isolated()
        try:
            has_taken_over = bool(room) and not has_isolated and self._recover()
            if has_taken_over:
                entries: Sequence[Entry] = ()
            elif room:
                entries = read(room, wait=not has_isolated)
            else:  # the next batch is full, perhaps of one lane
                present = self._room.lanes()
                entries = self._claiming.read_priority(self._room.most, present) if present else ()
        except StreamGone:
            self._on_gone()
            return False
        except StreamDown as error:
            if not self._down:
                log.warning("The queue does not answer (%s); trying again until it does.", error)
            self._down = True
            return False
        if self._down:
            log.info("The queue answers again.")
            self._down = False
        self.accept(entries, priority=room == 0)
        if has_isolated and room and not entries:
            self._intake.wait_for_isolated(RETRY_S)
        return True

    def _rest_if_asked(self) -> None:
        pause = self._context.pause
        if pause.asked:
            pause.rest(self)

    def _recover(self) -> bool:
        """Take over one abandoned entry, if there is one: it runs alone, since it may be what ended its consumer."""
        if self._recall is not None and self._claiming.hears_of_hand_overs():
            self._next_scan_s = time.monotonic()
        if time.monotonic() < self._next_scan_s or not self._intake.taking_over.acquire(blocking=False):
            return False
        try:
            if self._intake.has_isolated():
                return False  # of a lane of the other kind, since this was last asked
            claimed = self._claiming.reclaim(1)
            if not claimed:
                self._next_scan_s = time.monotonic() + self._scan_s
            abandoned = [entry for entry in claimed if not self._leases.holds(entry.claim)]
            if abandoned:
                self._take_over(abandoned)
            return bool(abandoned)
        finally:
            self._intake.taking_over.release()

    def _take_over(self, entries: Sequence[Entry]) -> None:
        log.warning("Taking over %d entries that a consumer did not finish.", len(entries))
        self._context.metrics.redelivered(len(entries))
        self.accept(entries, isolated=True)

    def accept(self, entries: Sequence[Entry], *, isolated: bool = False, priority: bool = False) -> None:
        """Take claimed entries: ready ones go to the intake, pictures to the decoders, bad ones back to the sender.

        Args:
            isolated: these were taken over, and are neither decoded nor run together with others.
            priority: they go ahead of what waits in the intake.
        """
        ready: list[Item] = []
        possible_duplicates: list[Item] = []
        refused: list[Refused] = []
        unreadable: list[Dead] = []
        now_s = time.monotonic()
        now_ms = self._now_ms(entries, now_s)
        self._context.watchdog.begin(self._rows_name, now_s)
        for entry in entries:
            if not self._leases.take(entry.claim, now_s, isolated=isolated):
                continue
            try:
                item = self._item(entry, now_s, now_ms, isolated)
                self._leases.promise(entry.claim, item.deadline_s)
                item.has_priority, item.is_isolated = priority, isolated
                if self._is_later:
                    item.is_later = True
                if isolated:
                    possible_duplicates.append(item)
                elif not may_be_duplicate(item.request):
                    self._place(item, ready)
                elif not self._deduplication.joins(item):
                    # Asking costs a round trip. A producer without a reply stream sends one by one, and can spare it.
                    is_possible_duplicate = item.request.reply_to is None or self._deduplication.was_answered(item)
                    possible_duplicates.append(item) if is_possible_duplicate else self._place(item, ready)
            except WireError as error:
                if error.request_id is None:
                    unreadable.append(Dead(Completion(entry.entry_id, "", "", 0, b"", entry.lane), str(error), 0))
                else:
                    fault = RequestError(MALFORMED, str(error), field=error.field or None)
                    refused.append(Refused(entry, error.request_id, error.reply_to or "", 0, fault))
            except Refusal as refusal:
                refused.append(refusal.refused)
        for item in self._end_answered(possible_duplicates):
            try:
                self._place(item, ready)
            except Refusal as refusal:
                refused.append(refusal.refused)
        self._context.watchdog.end(self._rows_name)
        if self._is_later and entries:
            self._intake.expect_later()
        if ready:
            self._room.add(ready)
        if refused:
            self._send(refused)
        if unreadable:
            self._discard(unreadable)

    def _place(self, item: Item, ready: list[Item]) -> None:
        if self._rows.decodes(item):
            self._decoding.add(item)
        elif item.is_isolated:
            self._intake.add_isolated(item)
        else:
            self._rows.make(item)
            ready.append(item)

    def _end_answered(self, possible_duplicates: Sequence[Item]) -> Sequence[Item]:
        """End what has an answer already, and return the rest."""
        if not possible_duplicates:
            return ()
        completions = [completion_of(item, 0, b"") for item in possible_duplicates]
        try:
            answered = self._claiming.end_answered(completions)
        except (StreamDown, StreamGone):
            return possible_duplicates  # to run one once more is allowed
        left: list[Item] = []
        for item, is_answered in zip(possible_duplicates, answered, strict=True):
            if is_answered:
                self._leases.release([item.entry.claim])
                left += self._end_answered(self._deduplication.end(item.entry.lane, item.request.id, answered=True))
            else:
                left.append(item)
        return left

    def _now_ms(self, entries: Sequence[Entry], now_s: float) -> float:
        """Return Redis's time; asks for it when an entry seems to come from the future: the clock may have been set."""
        now_ms = self._stream.clock.now_ms(now_s)
        if max((entry.added_ms for entry in entries), default=0) - now_ms <= FUTURE_MS:
            return now_ms
        with suppress(StreamDown):
            self._stream.ask_time()
        return self._stream.clock.now_ms(now_s)

    def _item(self, entry: Entry, now_s: float, now_ms: float, isolated: bool) -> Item:
        request = read_entry(entry, self._most_message_bytes)
        ahead_ms = entry.added_ms - now_ms
        added_ms = now_ms if ahead_ms > FUTURE_MS else entry.added_ms
        left_s = (added_ms + request.ttl_ms - now_ms) / 1000
        item = Item(entry, request, now_s, now_s + left_s, max(0.0, now_ms - entry.added_ms) / 1000)
        # The first delivery was in company, and this one has not begun.
        crashes = max(0, entry.attempt - 2) if isolated else 0
        # First, since asking again with an id that was released would cost as many consumers once more.
        if crashes >= MOST_CRASHES:
            error = RequestError(CRASHED, "The consumer died each time it ran this request, which is not tried again.")
            raise Refusal(item, error, f"{_ended(crashes)}.", crashes)
        if isolated and self._recall is not None and (refusal := self._recall(item)) is not None:
            raise refusal
        if item.deadline_s <= now_s:
            reason = f"{_ended(crashes)}, and its deadline passed." if crashes else ""
            error = RequestError(EXPIRED, "The deadline passed while the request was queued.")
            raise Refusal(item, error, reason, crashes)
        self._rows.check_cancelled(item)
        is_ahead = ahead_ms > FUTURE_MS and entry.lane != DEFAULT_LANE and not self._stream.clock.set_backs
        if request.at is not None:
            self._fetch_body(item, request.at, is_taken=not isolated and not is_ahead)
        elif is_ahead:
            error = RequestError(MALFORMED, "The id of the entry lies in the future; let Redis make it.")
            reason = f"Its id lies {ahead_ms / 1000:.0f} s in the future; `headrace lane repair` recreates the lane."
            raise Refusal(item, error, reason)
        return item

    def _fetch_body(self, item: Item, at: str, *, is_taken: bool) -> None:
        """Take the body from shared memory.

        What was taken over, or may not run, goes back to its front end, which sends it whole: it may be what ended its
        consumer, and should it become a dead letter, that is to hold all of it.

        Raises:
            Refusal: the body is not there.
        """
        owner = Owner(self._context.model_name, item.entry.lane, item.request.id)
        body = self._context.bodies.read(at, owner) if is_taken else None
        if body is None:
            raise Refusal(item, RequestError(BODY_GONE, "The body is not in the memory of this machine any more."))
        item.request = msgspec.structs.replace(item.request, body=body, at=None)

    def _discard(self, dead: Sequence[Dead]) -> None:
        log.warning("%d entries without a readable request id are dead letters now, without a reply.", len(dead))
        self._context.metrics.malformed(len(dead))
        try:
            self._context.metrics.dead_lettered(dead, self._stream.dead_letter(dead))
        except (StreamDown, StreamGone):
            log.warning("The queue stopped answering meanwhile; they return after their lease.")
        self._leases.release(one.completion.claim for one in dead)


def _ended(crashes: int) -> str:
    return f"It ended {'a consumer' if crashes == 1 else f'{crashes} consumers'} while it ran alone"
