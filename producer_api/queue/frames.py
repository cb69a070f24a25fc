"""Frames of answers that are still being made: each goes to those who wait for it once, and in order.

The reply stream is a hint, and the record is the truth: what a hint has missed is read from there [I/O].
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from shared import keys
from shared.redis.client import Link
from shared.wire.frames import Frame, decode_frames
from shared.wire.messages import WireError

from .pending import PendingReplies, PendingReply

log = logging.getLogger(__name__)

MOST_PER_READ = 256
"""Frames of one record in one read."""

MOST_RECORDS = 64
"""Records in one round trip."""


class FrameReader:
    """The frames of one lane.

    Args:
        pending_replies: those who wait in this process.

    Attributes:
        behind: those whose record has frames that they lack.
    """

    def __init__(self, pending_replies: PendingReplies, model: str, lane: str) -> None:
        self._pending_replies, self._model, self._lane = pending_replies, model, lane
        self.behind: set[PendingReply] = set()

    def take(self, data: bytes) -> bool:
        """Take the frames of a hint; says whether any record is to be read now."""
        try:
            frames = decode_frames(data)
        except WireError as error:  # direct producers may write here, too
            log.debug("A hint with frames cannot be read: %s", error)
            return False
        for frame in frames:
            for pending in tuple(self._pending_replies.of(frame.id)):  # one may leave on taking it
                if pending.parts is not None and not _deliver(pending, frame):
                    self.behind.add(pending)
        return bool(self.behind)

    def all_are_behind(self) -> None:
        """Have every record read: hints may have been lost."""
        self.behind |= self._pending_replies.streamed

    def joined_are_behind(self) -> None:
        """Have the records read whose hints go to another front end."""
        self.behind.update(one for one in self._pending_replies.streamed if not one.since_s)

    async def read(self, link: Link) -> None:
        """Read the records of those that are behind [I/O].

        Raises:
            RedisError, OSError: some are still behind.
        """
        wanted = [one for one in self.behind if not one.ended]
        self.behind.clear()
        for start in range(0, len(wanted), MOST_RECORDS):
            some = wanted[start : start + MOST_RECORDS]
            try:
                answers = await link.call_many([self._command(one) for one in some])
            except BaseException:
                self.behind.update(wanted[start:])
                raise
            for pending, rows in zip(some, answers, strict=True):
                if isinstance(rows, list) and self._took(pending, rows):
                    self.behind.add(pending)

    def _command(self, pending: PendingReply) -> tuple[Any, ...]:
        assert pending.parts is not None
        first = f"{pending.parts.next_seq + 1}-0"
        record = keys.record(self._model, self._lane, pending.request_id)
        return ("XRANGE", record, first, "+", "COUNT", MOST_PER_READ)

    def _took(self, pending: PendingReply, rows: Iterable[Any]) -> bool:
        """Give the frames of a record to one who waits; says whether it may hold more."""
        count = 0
        for _, fields in rows:
            count += 1
            for at in range(0, len(fields), 2):
                if fields[at] == b"f":
                    self._give(pending, fields[at + 1])
        return count == MOST_PER_READ

    def _give(self, pending: PendingReply, data: bytes) -> None:
        try:
            for frame in decode_frames(data):
                if frame.id == pending.request_id and not pending.ended:
                    _deliver(pending, frame)
        except WireError as error:
            log.error("A frame of a record cannot be read: %s", error)


def _deliver(pending: PendingReply, frame: Frame) -> bool:
    """Give a frame to one who waits, unless it came before; says no if frames before it are missing."""
    parts = pending.parts
    assert parts is not None
    if frame.seq != parts.next_seq:
        return frame.seq < parts.next_seq
    parts.next_seq += 1
    parts.frame(frame)
    return True
