"""One batch while it runs: which items wait, are in the lane, are answered. Pure; times are the caller's, in seconds.

An item is numbered and done once: whatever is heard of it afterwards, from a hint that came twice or from a consumer
that ran it again, changes nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from shared.wire.outcomes import EXPIRED, LANE_FULL

from .parts import Record

DIGITS: Final = 6
"""Of the item's number in the id of its request: ``BATCH-000123``."""

PART_ITEMS: Final = 2048
PART_BYTES: Final = 1024 * 1024
PART_S: Final = 0.5
"""Answers are stored when there are so many, or so many bytes of them, or when the first has waited so long."""

MOST_PART_ITEMS: Final = 4 * PART_ITEMS
MOST_PART_BYTES: Final = 4 * PART_BYTES
"""Of one part, where the store is slow and more have come meanwhile; one answer of any size."""

MOST_UNSTORED_ITEMS: Final = 16 * PART_ITEMS
MOST_UNSTORED_BYTES: Final = 16 * PART_BYTES
"""So much may wait for a slow store before no more items are added."""

OVERDUE_S: Final = 2.0
MOST_ATTEMPTS: Final = 5
_AGAIN = frozenset({EXPIRED.code, LANE_FULL.code})
"""Ends that are not the item's: it goes into the lane again."""

_NONE: Final[Mapping[int, bytes]] = {}


class Flight(Struct):
    """An item in the lane.

    Attributes:
        since_s: when it was added, or last looked for.
        entry: its entry in the stream, empty until that is known.
    """

    record: Record
    since_s: float
    attempts: int = 1
    entry: bytes = b""


class _Verdict(Struct):
    """What a batch has to know of a reply."""

    ok: bool = True
    final: bool = True
    error: _Code | None = None


class _Code(Struct):
    code: str = ""


_verdicts = msgspec.msgpack.Decoder(_Verdict)


class Run:
    """The items of one batch.

    Args:
        total: how many there are.
        done: the numbers of those whose answers are stored.

    Attributes:
        waiting: those that were read and are not in the lane.
        in_flight: those in the lane, by number.
        waiting_bytes, in_flight_bytes: what those take.
        found_no_room: an answer found no room in the lane; whoever sees it resets it.
    """

    def __init__(self, total: int, done: Iterable[int]) -> None:
        self.total = total
        self._done = bytearray(total)
        self._left = total
        for index in done:
            if not self._done[index]:
                self._done[index] = 1
                self._left -= 1
        self.waiting: deque[Flight] = deque()
        self.in_flight: dict[int, Flight] = {}
        self.waiting_bytes = self.in_flight_bytes = 0
        self.found_no_room = False
        self._answers: list[Record] = []
        self._answers_bytes = 0
        self._first_answer_s = 0.0

    @property
    def done(self) -> int:
        """How many are answered, stored or not."""
        return self.total - self._left

    @property
    def is_done(self) -> bool:
        """Whether all are answered."""
        return not self._left

    def needs(self, index: int) -> bool:
        """Say whether an item has no answer yet."""
        return not self._done[index]

    def load(self, records: Iterable[Record], now_s: float, replies: Mapping[int, bytes] = _NONE) -> None:
        """Take items that were read from the store; what is done already is left out, what was refused is answered.

        Args:
            replies: of those that an earlier driver had put into the lane, by number.
        """
        for record in records:
            number = record.number
            if number >= self.total or self._done[number] or number in self.in_flight:
                continue
            if record.has_error:
                self._finish(record, record.payload, now_s, has_error=True)
                continue
            flight, size = Flight(record, now_s), len(record.payload)
            reply = replies.get(number)
            if reply is None:
                self.waiting.append(flight)
                self.waiting_bytes += size
            else:
                self.in_flight[number] = flight
                self.in_flight_bytes += size
                self.answered(number, reply, now_s)

    def take(self, most: int, most_bytes: int, below: int, now_s: float) -> list[Flight]:
        """Return what is added to the lane next; it counts as in the lane from now on.

        Args:
            most, most_bytes: what is taken at once; one item of any size.
            below: only items with lower numbers.
        """
        taken: list[Flight] = []
        waiting, in_flight, left_bytes = self.waiting, self.in_flight, most_bytes
        while waiting and len(taken) < most:
            flight = waiting[0]
            size = len(flight.record.payload)
            left_bytes -= size
            if flight.record.number >= below or (left_bytes < 0 and taken):
                break
            waiting.popleft()
            self.waiting_bytes -= size
            if self._done[flight.record.number]:
                continue
            flight.since_s = now_s
            in_flight[flight.record.number] = flight
            self.in_flight_bytes += size
            taken.append(flight)
        return taken

    def adopt(self, entries: Iterable[tuple[int, bytes]], now_s: float) -> None:
        """Take note of items that an earlier driver put into the lane and that are still there."""
        found = dict(entries)
        left: deque[Flight] = deque()
        for flight in self.waiting:
            entry = found.get(flight.record.number)
            if entry is None:
                left.append(flight)
            else:
                flight.entry, flight.since_s = entry, now_s
                self.in_flight[flight.record.number] = flight
                self.in_flight_bytes += len(flight.record.payload)
                self.waiting_bytes -= len(flight.record.payload)
        self.waiting = left

    def put_back(self, flights: Sequence[Flight]) -> None:
        """Let items wait that the lane did not take."""
        for flight in reversed(flights):
            if self.in_flight.pop(flight.record.number, None) is not None:
                self.in_flight_bytes -= len(flight.record.payload)
                self.waiting_bytes += len(flight.record.payload)
                flight.entry = b""
                self.waiting.appendleft(flight)

    def lost(self, index: int) -> None:
        """Let an item run again that is in the lane no more, without an answer."""
        flight = self.in_flight.get(index)
        if flight is not None:
            flight.attempts += 1
            self.put_back((flight,))

    def answered(self, index: int, reply: bytes, now_s: float) -> bool:
        """Take an answer; returns whether the item ended by it.

        One that expired, or whose answer found no room, goes into the lane again, a few times.
        """
        if index >= self.total or self._done[index]:
            return False
        has_error = False
        try:
            verdict = _verdicts.decode(reply)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            has_error = True  # whoever reads the results is told
        else:
            if not verdict.final:
                return False
            if verdict.error is not None:
                has_error = True
                flight = self.in_flight.get(index)
                if flight is not None and verdict.error.code in _AGAIN and flight.attempts < MOST_ATTEMPTS:
                    self.found_no_room |= verdict.error.code == LANE_FULL.code
                    self.lost(index)
                    return False
        flight = self.in_flight.pop(index, None)
        if flight is None:
            return False  # not read yet, or about to go again: its reply is found then
        self.in_flight_bytes -= len(flight.record.payload)
        self._finish(flight.record, reply, now_s, has_error)
        return True

    def _finish(self, record: Record, reply: bytes, now_s: float, has_error: bool) -> None:
        self._done[record.number] = 1
        self._left -= 1
        if not self._answers:
            self._first_answer_s = now_s
        self._answers.append(Record(record.number, record.name, reply, has_error))
        self._answers_bytes += len(reply)

    def overdue(self, now_s: float, most: int) -> list[Flight]:
        """Return items that have been in the lane for long, the ones first that were looked for longest ago."""
        found: list[Flight] = []
        for flight in self.in_flight.values():  # in the order in which they were added
            if now_s - flight.since_s > OVERDUE_S:
                found.append(flight)
                if len(found) == most:
                    break
        for flight in found:
            flight.since_s = now_s
            self.in_flight[flight.record.number] = self.in_flight.pop(flight.record.number)
        return found

    def has_part(self, now_s: float) -> bool:
        """Say whether answers should be stored now."""
        if not self._answers:
            return False
        is_late = now_s - self._first_answer_s >= PART_S
        return is_late or self.is_done or len(self._answers) >= PART_ITEMS or self._answers_bytes >= PART_BYTES

    @property
    def is_clogged(self) -> bool:
        """Whether so many answers wait to be stored that no more should be asked for."""
        return self._answers_bytes >= MOST_UNSTORED_BYTES or len(self._answers) >= MOST_UNSTORED_ITEMS

    def cut(self, now_s: float) -> list[Record]:
        """Return the next part of answers; they are no longer held here."""
        size = count = 0
        for record in self._answers:
            if count == MOST_PART_ITEMS or (count and size + len(record.payload) > MOST_PART_BYTES):
                break
            count, size = count + 1, size + len(record.payload)
        part, self._answers = self._answers[:count], self._answers[count:]
        self._answers_bytes -= size
        self._first_answer_s = now_s
        return part


def request_id(batch_id: str, index: int) -> str:
    """Return the id of an item's request."""
    return f"{batch_id}-{index:0{DIGITS}d}"


def index_of(prefix: bytes, name: bytes) -> int | None:
    """Return the number of the item whose request has this id; None for another batch's or none.

    Args:
        prefix: the batch's id and a hyphen.
    """
    digits = name[-DIGITS:]
    return int(digits) if name[:-DIGITS] == prefix and digits.isdigit() else None
