"""Writes the ring [I/O]: every ten seconds on Redis's clock, three round trips at the most, nothing for idle models."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec.structs import replace

from producer_api.console.feed.counts import Counts, Place, grown
from producer_api.console.feed.looking import is_plain
from producer_api.console.feed.seen import milliseconds
from producer_api.queue.interface import Catalogue
from shared import keys
from shared.redis.advice import told
from shared.redis.client import Link, RedisError, ServerError
from shared.redis.clock import RedisClock

from .gauging import gauge
from .pace import JUMP_MS, Cap, Ledger, pause_s, slot_ended
from .rows import DAY_SLOTS, FIELD, STEP_MS, Gauges, Row, encode

log = logging.getLogger("headrace.console")

TURN_MS: Final = 25_000
KEEP_MS: Final = 172_800_000
"""The ring of a model of which nothing is written goes after two days; one day is lost when a clock is set forward."""

TRIM_TICKS: Final = 60
TRIM_SLACK_MS: Final = 600_000
AT_ONCE: Final = 200
"""Rows that are written in one round trip."""


class Recorder:
    """One front end's part of the history of all models.

    Args:
        link: its own connection.
        catalogue: the latest snapshot of all models.
        counted: everything counted so far.
        alive_ms: a worker whose last heartbeat is older than this counts as gone.
        objective_s: answers that take no longer are good; None for all.
        limit_bytes: what the ring of a model may take.

    Attributes:
        who: its name in the rows.
        last_slot: the latest one of which it has written; 0 for none.
    """

    def __init__(
        self,
        link: Link,
        catalogue: Callable[[], Catalogue],
        counted: Callable[[], dict[Place, Counts]],
        alive_ms: int,
        objective_s: float | None,
        limit_bytes: int,
    ) -> None:
        self._link, self._catalogue, self._counted = link, catalogue, counted
        self._alive_ms, self._objective_s = alive_ms, objective_s
        self.who = secrets.token_hex(4)
        self._clock, self._ledger = RedisClock(), Ledger(self.who)
        self._caps: defaultdict[str, Cap] = defaultdict(lambda: Cap(limit_bytes))
        self._before_s, self._before = time.monotonic(), counted()
        self.last_slot, self._is_away = 0, False
        self._untrimmed_until_s = self._ticked_s = 0.0
        self._ticked_ms: float | None = None

    def now_ms(self) -> float:
        """Return Redis's time, or this machine's where Redis has never answered."""
        try:
            return self._clock.now_ms()
        except RuntimeError:
            return time.time() * 1000

    @property
    def watching_since(self) -> int:
        """Return the slot since which it has watched without a gap; the one after the last where it has not."""
        last = self.last_slot or slot_ended(self.now_ms())
        return last + 1 - self._ledger.ticks

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await asyncio.sleep(pause_s(self.now_ms()))
            await self.tick()

    async def tick(self) -> None:
        """Write what was counted since the last tick, and what was not written before."""
        now_s, now = time.monotonic(), self._counted()
        counts, covered_ms = grown(now, self._before, self._objective_s), max(1, int(1000 * (now_s - self._before_s)))
        known = self._catalogue().models
        counts = {place: one for place, one in counts.items() if place[0] in known}
        self._before_s, self._before = now_s, now
        try:
            async with asyncio.timeout(STEP_MS / 2000):
                gauges = await self._look(now_s)
        except (RedisError, OSError) as error:  # TimeoutError is among them
            self._away(error)
            self._ledger.lost_sight()
            self._ledger.tick(slot_ended(self.now_ms()), covered_ms, counts, {})
            self._ledger.lost_sight()
            return
        self.last_slot = slot_ended(self._clock.now_ms(now_s))
        self._ledger.tick(self.last_slot, covered_ms, counts, gauges)
        await self._write()

    async def _look(self, now_s: float) -> dict[str, Gauges]:
        """Ask for the time and for the turns, and look at the models whose turn is this front end's."""
        models = [state for state in self._catalogue().models.values() if is_plain(state)]
        turns = [("SET", keys.history_turn(state.name), self.who, "NX", "GET", "PX", TURN_MS) for state in models]
        before_s = time.monotonic()
        clock, *holders = await self._link.call_many([("TIME",), *turns])
        if isinstance(clock, ServerError):
            raise clock
        self._note_clock(milliseconds(clock), before_s, time.monotonic(), now_s)
        held = [state for state, one in zip(models, holders, strict=True) if one == self.who.encode()]
        mine = [*held, *(state for state, one in zip(models, holders, strict=True) if one is None)]
        kept: list[Sequence[Any]] = [("PEXPIRE", keys.history_turn(state.name), TURN_MS) for state in held]
        if self._ledger.ticks % TRIM_TICKS == TRIM_TICKS - 1 and now_s > self._untrimmed_until_s:
            oldest = milliseconds(clock) - DAY_SLOTS * STEP_MS - TRIM_SLACK_MS
            kept += (("XTRIM", keys.history(state.name), "MINID", "~", oldest) for state in mine)
        return await gauge(self._link, mine, milliseconds(clock), self._alive_ms, kept) if mine else {}

    def _note_clock(self, now_ms: int, before_s: float, after_s: float, now_s: float) -> None:
        """Take in Redis's time. After a jump nothing is trimmed for a day: the clock may be set right again."""
        self._clock.observe(now_ms, before_s, after_s)
        if self._ticked_ms is not None and abs((now_ms - self._ticked_ms) - 1000 * (now_s - self._ticked_s)) > JUMP_MS:
            log.warning("Redis's clock was set; the history goes on at its new time.")
            self._ledger.lost_sight()
            self._untrimmed_until_s = now_s + DAY_SLOTS * STEP_MS / 1000
        self._ticked_ms, self._ticked_s = now_ms, now_s

    async def _write(self) -> None:
        """Write what is pending, and keep the turns."""
        pending, now = self._ledger.pending, slot_ended(self.now_ms())
        if self._catalogue().memory_full:  # what is left is for answers
            pending.clear()
        try:
            async with asyncio.timeout(STEP_MS / 2000):
                while pending:
                    some = [pending[at] for at in range(min(AT_ONCE, len(pending)))]
                    answers = await self._link.call_many([*self._commands(some, now)])
                    for _ in some:
                        pending.popleft()
                    refused = next((one for one in answers if isinstance(one, ServerError)), None)
                    if refused is not None:
                        raise refused
        except (RedisError, OSError) as error:
            self._away(error)
            return
        if self._is_away:
            log.info("The console's history is written again.")
        self._is_away = False

    def _commands(self, rows: Sequence[tuple[str, Row]], now: int) -> list[Sequence[Any]]:
        commands: list[Sequence[Any]] = []
        for model, row in rows:
            message, key = encode(replace(row, now=now)), keys.history(model)
            most = self._caps[model].entries(len(message))
            commands += (
                ("XADD", key, "MAXLEN", "~", most, "*", FIELD, message),
                ("PEXPIRE", key, KEEP_MS),
            )
        return commands

    def _away(self, error: Exception) -> None:
        if not self._is_away:
            log.warning("The console's history waits: %s", told(error))
        self._is_away = True
