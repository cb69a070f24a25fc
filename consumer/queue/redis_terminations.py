"""Which entries ended without a consumer, read from Redis; for :class:`consumer.queue.redis_stream.RedisStream`.

A direct producer may write into the stream of ends of its lane whatever it likes, in any length. So each stream is
weighed before it is read, and nothing of it is kept but what looks like the id of an entry.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from typing import Any

from shared import keys, limits
from shared.redis.client import ServerError, SyncLink

from .interface import Claim
from .redis_lanes import MOST_FIELDS

log = logging.getLogger(__name__)

MOST_NEWS = 100
"""Entries of each lane that one read takes."""

WEIGH_S = 1.0
_ENTRY = b"entry"
_HANDED = b"handed"
_ENTRY_ID = re.compile(rb"\d{1,20}-\d{1,20}\Z")
_BEHIND_ALL = b"18446744073709551615-18446744073709551615"


class TerminationsReader:
    """Reads the lanes' streams of ends, each from where it was left.

    Args:
        link: the connection; it is waited on for at most ``block_ms``.

    Attributes:
        hears_of_hand_overs: some consumer has handed entries over; whoever looks for them resets it.
    """

    def __init__(self, link: SyncLink, model: str, block_ms: int) -> None:
        self._link, self._model, self._block_ms = link, model, block_ms
        self._read_up_to: dict[str, bytes] = {}
        self._weigh_at_s: dict[str, float] = {}
        self._too_large: set[str] = set()
        self.hears_of_hand_overs = False

    def read(self, lanes: Sequence[str]) -> list[Claim]:
        """Wait for news of these lanes.

        Raises:
            RedisError: the server does not answer.
        """
        self._weigh(lanes, time.monotonic())
        lane_of = {keys.terminations(self._model, lane).encode(): lane for lane in lanes}
        cursors = [self._cursor(lane) for lane in lanes]
        wait = ("COUNT", MOST_NEWS, "BLOCK", self._block_ms)
        claims: list[Claim] = []
        for stream, news in self._link.call("XREAD", *wait, "STREAMS", *lane_of, *cursors) or ():
            lane = lane_of[stream]
            self.hears_of_hand_overs = self.hears_of_hand_overs or any(_HANDED in fields[:1] for _, fields in news)
            claims += [(lane, entry_id) for _, fields in news if (entry_id := _entry(fields)) is not None]
            self._read_up_to[lane] = news[-1][0]
            self._weigh_at_s.pop(lane, None)  # where something comes more may have come behind it
        return claims

    def _cursor(self, lane: str) -> bytes:
        return _BEHIND_ALL if lane in self._too_large else self._read_up_to.get(lane, b"0-0")

    def _weigh(self, lanes: Sequence[str], now_s: float) -> None:
        """Find the streams that are too large to be honest: those with news, and all of them now and then.

        They are trimmed and given an end first, since a direct producer writes there by itself, perhaps without bounds.
        """
        due = [lane for lane in lanes if self._weigh_at_s.get(lane, now_s) <= now_s]
        if not due:
            return
        self._link.send(*(command for lane in due for command in _weighing(keys.terminations(self._model, lane))))
        answers = self._link.receive_many(3 * len(due))
        for lane, size_bytes in zip(due, answers[2::3], strict=True):
            self._weigh_at_s[lane] = now_s + WEIGH_S
            self._note(lane, size_bytes)

    def _note(self, lane: str, size_bytes: int | ServerError | None) -> None:
        """Take note of a stream's size: None where there is no stream, an error where this user may not ask."""
        if size_bytes is None:
            self._read_up_to.pop(lane, None)  # the next stream starts again, perhaps with smaller ids
        if isinstance(size_bytes, int) and size_bytes > limits.ENDS_BYTES:
            if lane not in self._too_large:
                self._too_large.add(lane)
                log.warning(
                    "The termination stream of lane %s takes %d bytes and is not read any more: cancelled requests "
                    "may run. `lane guard` switches off its writer, `lane repair` clears it.",
                    lane,
                    size_bytes,
                )
        elif lane in self._too_large:
            self._too_large.discard(lane)
            log.info("The termination stream of lane %s is read again.", lane)


def _weighing(stream: str) -> tuple[tuple[Any, ...], ...]:
    return (
        ("XTRIM", stream, "MAXLEN", "~", limits.ENDS_CAP, "LIMIT", 0),
        ("PEXPIRE", stream, limits.ENDS_MS, "NX"),
        ("MEMORY", "USAGE", stream, "SAMPLES", 0),
    )


def _entry(fields: list[bytes]) -> bytes | None:
    """Return the id of an entry that the fields name, None where they name none."""
    for at in range(0, min(len(fields), 2 * MOST_FIELDS), 2):
        if fields[at] == _ENTRY:
            return fields[at + 1] if _ENTRY_ID.match(fields[at + 1]) else None
    return None
