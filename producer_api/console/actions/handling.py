"""Requeueing and dropping dead letters [I/O]: in pieces, with progress, and never faster than a lane can take.

Each piece is atomic in Redis, letter by letter: whatever ends this process, a letter is in its lane, or still a letter.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Final

from msgspec import Struct

from producer_api.console.redis_access import NO_RIGHT, ConsoleRedis, is_not_allowed
from shared import keys
from shared.redis import functions
from shared.wire.outcomes import QUEUE_UNAVAILABLE, RequestError

from .letters import Entry, Letter, Match, letter_of

log = logging.getLogger("headrace.console")

PIECE: Final = 100
"""Letters in one call: the server does nothing else for a millisecond or two."""

PATIENCE_S: Final = 30.0
"""A lane in which nothing becomes free for so long is given up."""

LOOK_AGAIN_S: Final = 0.25
TELL_S: Final = 1.0

_UNCLEAR: Final = "Redis did not answer in time. The last {count} letters may have been done or not: look again."


class Choice(Struct, frozen=True):
    """Which letters.

    Attributes:
        lanes: one after another.
        ids: of letters in the one lane; None for all that match.
        match: see :class:`.letters.Match`.
        up_to: newer letters are not touched.
    """

    model: str
    lanes: Sequence[str]
    ids: Sequence[str] | None
    match: str
    up_to: Entry


class Progress(Struct, frozen=True, omit_defaults=True):
    """How far it has come.

    Attributes:
        total: done and failed, and all that may still come.
        waits_for_room: the lane takes nothing more now.
    """

    done: int
    total: int
    waits_for_room: bool = False


class End(Struct, frozen=True):
    """The last line.

    Attributes:
        gone: letters that somebody else has requeued or dropped in the meantime.
        why: why it ended before everything was done; empty when everything was.
    """

    ended: bool
    done: int
    failed: int
    gone: int
    why: str


class Handling:
    """One action on dead letters. Use :meth:`work` once.

    Args:
        room: returns how many requests a lane may hold for all that is requeued.
        is_requeue: else they are dropped.
        is_over: returns a sentence when it has to stop, else an empty one.
    """

    def __init__(
        self,
        redis: ConsoleRedis,
        choice: Choice,
        room: Callable[[str], int],
        is_over: Callable[[], str],
        *,
        is_requeue: bool,
    ) -> None:
        self._redis, self._choice, self._room, self._is_over = redis, choice, room, is_over
        self._is_requeue = is_requeue
        self._matches = Match(choice.match)
        self.done = self.failed = self.gone = self._left = 0
        self.why = ""

    async def work(self) -> AsyncGenerator[Progress]:
        """Do it; yields after each piece. How it ended is in :attr:`end`."""
        try:
            if self._choice.ids is not None:
                self._left = len(self._choice.ids)
                async for progress in self._pieces(self._choice.lanes[0], self._choice.ids):
                    yield progress
                return
            places = [keys.dead_letters(self._choice.model, lane) for lane in self._choice.lanes]
            lengths = await self._redis.act(*(("XLEN", place) for place in places))
            self._left = sum(lengths)
            for at, lane in enumerate(self._choice.lanes):
                if lengths[at] and not self.why:
                    async for progress in self._all(lane):
                        yield progress
                    self._left = sum(lengths[at + 1 :])
        except RequestError as error:
            self.why = error.message

    @property
    def end(self) -> End:
        """How it ended."""
        return End(True, self.done, self.failed, self.gone, self.why)

    async def _all(self, lane: str) -> AsyncGenerator[Progress]:
        """Go through a lane from the oldest letter on: what is put back keeps its order."""
        begin, work = "-", keys.work(self._choice.model, lane)
        while not self.why:
            ((more, *rows),) = await self._redis.act(functions.letters(work, begin, PIECE, newest_first=False))
            if not rows:
                return
            letters = [letter_of(lane, row) for row in rows]
            chosen = [letter.id for letter in letters if self._is_chosen(letter)]
            self._left -= len(letters) - len(chosen)
            async for progress in self._pieces(lane, chosen):
                yield progress
            if letters[-1].entry > self._choice.up_to or (not more and len(rows) < PIECE):
                return
            begin = f"({letters[-1].id}"

    def _is_chosen(self, letter: Letter) -> bool:
        return letter.entry <= self._choice.up_to and self._matches(letter)

    async def _pieces(self, lane: str, ids: Sequence[str]) -> AsyncGenerator[Progress]:
        clock = asyncio.get_running_loop().time
        begun_s = told_s = clock()
        waiting = list(ids)
        while waiting and not self.why:
            self.why = self._is_over()
            if self.why:
                return
            piece, rest = waiting[:PIECE], waiting[PIECE:]
            kept, is_full = await (self._requeue(lane, piece) if self._is_requeue else self._drop(lane, piece))
            now_s = clock()
            waiting = kept + rest
            if len(kept) < len(piece):
                begun_s = told_s = now_s
                yield self._progress(is_full)
            elif now_s - begun_s > PATIENCE_S:
                self.why = (
                    f"Lane {lane} has no room: requeued letters fill it to half of its limit at most, and nothing "
                    f"became free for {PATIENCE_S:g} s. Go on later, or raise the limit."
                )
            else:
                if now_s - told_s >= TELL_S:
                    told_s = now_s
                    yield self._progress(True)
                await asyncio.sleep(LOOK_AGAIN_S)

    def _progress(self, waits: bool) -> Progress:
        done = self.done + self.failed + self.gone
        return Progress(done, done + max(0, self._left), waits)

    async def _requeue(self, lane: str, ids: Sequence[str]) -> tuple[list[str], bool]:
        """Put letters back; returns those for which there is no room yet, and whether the lane is full."""
        command = functions.requeue_within(keys.work(self._choice.model, lane), self._room(lane), ids)
        (answer,) = await self._act(command, len(ids))
        kept, is_full = [], False
        for letter_id, status in zip(ids, answer[1:], strict=True):
            if status in (b"full", b"later"):
                kept.append(letter_id)
                is_full = is_full or status == b"full"
                continue
            self._left -= 1
            if status == b"gone":
                self.gone += 1
            elif status.startswith(b"error"):
                self._refused(status.decode("utf-8", "replace"))
            else:
                self.done += 1
        return kept, is_full

    def _refused(self, status: str) -> None:
        self.failed += 1
        if is_not_allowed(status):
            self.why = NO_RIGHT
        elif self.failed == 1:
            log.warning("A dead letter cannot be put back: %s", status[:200])

    async def _drop(self, lane: str, ids: Sequence[str]) -> tuple[list[str], bool]:
        (count,) = await self._act(("XDEL", keys.dead_letters(self._choice.model, lane), *ids), len(ids))
        self.done += count
        self.gone += len(ids) - count
        self._left -= len(ids)
        return [], False

    async def _act(self, command: Sequence[object], count: int) -> list[Any]:
        try:
            return await self._redis.act(command)
        except RequestError as error:
            if error.outcome is QUEUE_UNAVAILABLE:
                error.message = _UNCLEAR.format(count=count)
            raise
