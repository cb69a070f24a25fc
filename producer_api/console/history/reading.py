"""Reading the ring [I/O]: backwards until it is older than what is asked for, then merged a piece at a time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

import msgspec

from producer_api.queue.admission import refusal
from shared import keys
from shared.redis.client import Link, RedisError, ServerError
from shared.wire.outcomes import OVERLOADED, QUEUE_UNAVAILABLE

from .columns import columns, per_point
from .merging import Merged
from .pace import slot_ended
from .recorder import Recorder
from .rows import STEP_MS, Row, decode, messages_of, pieces, rows_of

AT_ONCE: Final = 500
MOST_ROWS: Final = 100_000
CROSSED_SLOTS: Final = 6
"""Rows of several front ends, or of before and after an outage, cross by so much."""

PATIENCE_S: Final = 5.0
"""For one answer of Redis."""

MOST_WAITING: Final = 20
MOST_KEPT: Final = 32
LATEST: Final = 64
"""Rows of a model with which to begin: two of each of some thirty front ends."""

MERGED_BYTES: Final = 8192
"""Rows that are decoded and merged before others have their turn on the event loop: about 2 ms."""

Question = tuple[str, str, int, int]
"""Model, lane, minutes, points."""


class Reader:
    """Answers questions about the past, one at a time.

    An answer is kept until the next ten seconds are written; where a point lasts longer, for a quarter of that.

    Args:
        link: its own connection.
        recorder: knows Redis's clock, and since when this front end has watched.
    """

    def __init__(self, link: Link, recorder: Recorder) -> None:
        self._link, self._recorder = link, recorder
        self._one_at_a_time, self._waiting = asyncio.Lock(), 0
        self._kept: OrderedDict[Question, tuple[int, bytes]] = OrderedDict()

    async def read(self, model: str, lane: str, minutes: int, points: int) -> bytes:
        """Return the columns as JSON.

        Args:
            lane: empty for all.

        Raises:
            RequestError: ``QUEUE_UNAVAILABLE``; ``OVERLOADED`` if too many ask at once.
        """
        if self._waiting >= MOST_WAITING:
            raise refusal(OVERLOADED, f"{MOST_WAITING} others ask for the history right now.")
        self._waiting += 1
        try:
            async with self._one_at_a_time:
                return await self._answer((model, lane, minutes, points))
        finally:
            self._waiting -= 1

    async def _answer(self, question: Question) -> bytes:
        last = self._recorder.last_slot or slot_ended(self._recorder.now_ms())
        model, lane, minutes, points = question
        size = per_point(minutes, points)
        kept = self._kept.get(question)
        if kept is not None and 0 <= last - kept[0] < max(1, size // 4):
            return kept[1]
        first = last + 1 - minutes * 60_000 // STEP_MS
        first -= first % size
        try:
            messages = await self._messages(model, first)
        except (RedisError, OSError):
            raise refusal(QUEUE_UNAVAILABLE, "Redis does not answer, and the history is there.") from None
        merged = Merged(first, last)
        for rows in pieces(messages, MERGED_BYTES):
            merged.take(rows)
            await asyncio.sleep(0)
        steps = columns(merged, first, last, size, lane, self._recorder.watching_since)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                answer = msgspec.json.encode(done.value)
                break
            await asyncio.sleep(0)
        self._kept[question] = (last, answer)
        self._kept.move_to_end(question)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return answer

    async def _messages(self, model: str, first: int) -> list[bytes]:
        """Return the encoded rows that say something of the time from a slot on, in the order they were written."""
        messages: list[bytes] = []
        end: bytes | str = "+"
        while len(messages) < MOST_ROWS:
            command = ("XREVRANGE", keys.history(model), end, "-", "COUNT", AT_ONCE)
            async with asyncio.timeout(PATIENCE_S):
                answer = await self._link.call(*command)
            some = [message for _, message in messages_of(answer)]
            messages += some
            oldest = next((row for row in map(decode, reversed(some)) if row is not None), None)
            if len(answer) < AT_ONCE or (oldest is not None and oldest.slot < first - CROSSED_SLOTS):
                break
            end = b"(" + answer[-1][0]
        messages.reverse()
        return messages

    async def latest(self, models: list[str], after: dict[str, bytes]) -> dict[str, list[tuple[bytes, Row]]]:
        """Return the rows of some models that are newer than those of before; at first the latest ones.

        Args:
            after: by model, the entry after which to read.

        Raises:
            shared.redis.RedisError: Redis does not answer.
        """
        commands = [
            ("XRANGE", keys.history(model), b"(" + after[model], "+", "COUNT", AT_ONCE)
            if model in after
            else ("XREVRANGE", keys.history(model), "+", "-", "COUNT", LATEST)
            for model in models
        ]
        async with self._one_at_a_time:
            answers = await self._link.call_many(commands) if commands else []
        found = {}
        for model, answer in zip(models, answers, strict=True):
            rows = [] if isinstance(answer, ServerError) else rows_of(answer)
            found[model] = rows if model in after else rows[::-1]
        return found
