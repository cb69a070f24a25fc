"""Pages of dead letters [I/O]: newest first, of one lane or of several merged, with bounded work for each page."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from producer_api.console.redis_access import ConsoleRedis
from shared import keys
from shared.redis import functions

from .letters import Cursor, Letter, Match, letter_of

MOST_LOOKED_AT: Final = 4000
"""Letters that are looked at for one page; a match further down is on one of the next."""

AT_ONCE, AT_ONCE_OF_MANY = 200, 50
"""Letters that are asked for in one call, of one lane and of each of several."""


class Page(Struct, frozen=True):
    """A page of dead letters.

    Attributes:
        letters: newest first.
        next: what to ask for with ``after``; None at the end.
        total: letters in these lanes.
        matching: those that match, as far as they were looked at.
        matching_is_exact: all were.
    """

    letters: list[Letter]
    next: str | None
    total: int
    matching: int
    matching_is_exact: bool


class _Lane:
    """Reads the letters of one lane from the newest on."""

    def __init__(self, model: str, name: str, begin: str) -> None:
        self.name, self._work, self._begin = name, keys.work(model, name), begin
        self.rows: deque[Letter] = deque()
        self.is_over = False

    def ask(self, count: int) -> Sequence[object]:
        """Return the command that asks for more."""
        return functions.letters(self._work, self._begin, count, newest_first=True)

    def take(self, answer: Sequence[Sequence[object]], count: int) -> None:
        """Take what it answered."""
        more, *rows = answer
        self.rows.extend(letter_of(self.name, row) for row in rows)
        self.is_over = not more and len(rows) < count
        if self.rows:
            self._begin = f"({self.rows[-1].id}"


class Listing:
    """Reads the letters of some lanes in one order."""

    def __init__(self, redis: ConsoleRedis, model: str, lanes: Sequence[str], after: Cursor | None) -> None:
        self._redis = redis
        begins = {name: "+" if after is None else after.begin(name) for name in lanes}
        self._lanes = [_Lane(model, name, begin) for name, begin in sorted(begins.items())]
        self._at_once = AT_ONCE if len(lanes) == 1 else AT_ONCE_OF_MANY
        self._order: list[tuple[int, int, int]] = []
        self.looked_at = 0

    async def next(self) -> Letter | None:
        """Return the next letter; None at the end."""
        if not self._order:
            await self._fill(range(len(self._lanes)))
        if not self._order:
            return None
        *_, index = heapq.heappop(self._order)
        lane = self._lanes[index]
        letter = lane.rows.popleft()
        self.looked_at += 1
        if lane.rows:
            self._push(index)
        elif not lane.is_over:
            await self._fill((index,))
        return letter

    async def _fill(self, indexes: Sequence[int]) -> None:
        lanes = [(index, self._lanes[index]) for index in indexes if not self._lanes[index].is_over]
        answers = await self._redis.look(*(lane.ask(self._at_once) for _, lane in lanes))
        for (index, lane), answer in zip(lanes, answers, strict=True):
            lane.take(answer, self._at_once)
            if lane.rows:
                self._push(index)

    def _push(self, index: int) -> None:
        entry = self._lanes[index].rows[0].entry
        heapq.heappush(self._order, (-entry.ms, -entry.seq, index))


async def page_of(
    redis: ConsoleRedis, model: str, lanes: Sequence[str], after: Cursor | None, match: str, limit: int
) -> Page:
    """Return a page of letters.

    Raises:
        RequestError: Redis does not answer, or does not allow it.
    """
    lengths = await redis.look(*(("XLEN", keys.dead_letters(model, lane)) for lane in lanes))
    filled = [lane for lane, length in zip(lanes, lengths, strict=True) if length]
    total, matches = sum(lengths), Match(match)
    listing = Listing(redis, model, filled, after)
    found: list[Letter] = []
    last: Letter | None = None
    following: Letter | None = None
    matching, ended = 0, False
    while listing.looked_at < MOST_LOOKED_AT:
        letter = await listing.next()
        if letter is None:
            ended = True
            break
        if not matches(letter):
            last = letter if len(found) < limit else last
            continue
        matching += 1
        if len(found) < limit:
            found.append(letter)
            last = letter
            continue
        following = following or letter
        if not match:
            break
    more = following is not None or not ended
    next_one = Cursor(last.entry, last.lane).text if more and last is not None else None
    if not match:
        return Page(found, next_one, total, total, True)
    return Page(found, next_one, total, matching, ended and after is None)
