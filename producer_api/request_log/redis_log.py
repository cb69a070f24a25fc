"""The request log on Redis [I/O]: what ended here is added to it, and what it has of one id is looked up."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from producer_api.background import forever
from producer_api.queue.admission import refusal
from shared import keys
from shared.redis.client import Link, RedisError, ServerError, connect_async
from shared.redis.request_log import Cap, add, cut, weigh
from shared.settings import Settings
from shared.state.lanes import batch_lanes
from shared.wire.outcomes import OVERLOADED, QUEUE_UNAVAILABLE
from shared.wire.request_log import BY_FRONT_END, MOST_ENTRY_BYTES, MOST_FOUND, ConsumerHalf, Half, encode, halves

from .ended import EndedRequests
from .story import SLACK_MS

log = logging.getLogger(__name__)

FLUSH_S = 0.2
"""At most one entry in this time, unless more has ended than one takes."""

MOST_PER_ENTRY = 2_000

MOST_LOOKUPS, MOST_WAITING = 2, 16
"""Lookups at a time, and those that wait for their turn."""

PIECE_BYTES = 1 << 20
"""A lookup reads about so much at once, and then rests for a while: three times as long as that took."""

MOST_ROWS = 512
REST_S = 0.05
LOOKUP_S = 5.0
"""A lookup ends after this time, with what it has found."""

THREAD_BYTES = 1 << 16
"""To look through more, another thread is asked."""


@dataclass(slots=True)
class Found:
    """What a lookup has come to.

    Attributes:
        now_ms: Redis's time.
        oldest_ms: when the oldest entry was added that was looked at; None where there is none.
        is_complete: all entries were looked at that can have anything.
        batch_lanes: the model's lanes of kind ``batch``.
        newest: where what has been added since begins.
    """

    now_ms: float
    oldest_ms: float | None = None
    is_complete: bool = True
    batch_lanes: frozenset[str] = frozenset()
    newest: str = "-"
    halves: list[Half] = field(default_factory=list)

    @property
    def is_enough_at_ms(self) -> float:
        """What was added before this says nothing of the same request any more; minus infinity where that is open."""
        begun = [_begun_ms(one) for one in self.halves if isinstance(one, ConsumerHalf) or one.admission_s is None]
        return min(begun, default=-math.inf) - SLACK_MS


def _begun_ms(one: Half) -> float:
    return one.ended_ms - one.total_s * 1000


class RedisRequestLog:
    """Adds what ended to the logs of its models, and looks ids up in them.

    Args:
        instance: this front end's name.
        ended: what is to be added.
        dropped: counts requests of a model that are not in the log.
    """

    def __init__(
        self, settings: Settings, instance: str, ended: EndedRequests, dropped: Callable[[str, int], None]
    ) -> None:
        self._settings, self._instance, self._dropped, self.ended = settings, instance, dropped, ended
        self._limit_bytes = settings.request_log_mb << 20
        self._caps: dict[str, Cap] = {}
        self._waiting = 0
        self._is_closed = False

    async def start(self) -> None:
        """Begin to write; connects when there is something."""
        settings = self._settings
        self._client = connect_async(settings.redis_address, settings.socket_timeout_s, settings.redis_ping_s)
        self._adding = Link(self._client)
        self._looking = [Link(self._client) for _ in range(MOST_LOOKUPS)]
        self._turns = asyncio.Semaphore(MOST_LOOKUPS)
        self._task = asyncio.create_task(
            forever("Writing the request log", self._write_forever, lambda: self._is_closed)
        )

    async def close(self) -> None:
        """Write what is left, and stop."""
        self._is_closed = True
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._flush()
        for link in (self._adding, *self._looking):
            await link.close()
        await self._client.aclose()

    async def _write_forever(self) -> None:
        while not self._is_closed:
            await asyncio.sleep(FLUSH_S)
            await self._flush()

    async def _flush(self) -> None:
        dropped, self.ended.dropped = self.ended.dropped, {}
        for model, count in dropped.items():
            self._dropped(model, count)
        for model, ends in self.ended.take().items():
            for start in range(0, len(ends), MOST_PER_ENTRY):
                some = ends[start : start + MOST_PER_ENTRY]
                if not await self._add(model, encode(self._instance, perf_counter(), some)):
                    self._dropped(model, len(some))

    async def _add(self, model: str, packed: bytes) -> bool:
        """Add an entry; False when it was not added."""
        if len(packed) > MOST_ENTRY_BYTES:
            return False
        cap = self._caps.get(model)
        if cap is None:
            cap = self._caps[model] = Cap(self._limit_bytes)
        is_weighed = cap.is_due(len(packed), perf_counter())
        commands = [*add(model, BY_FRONT_END, packed), *(weigh(model) if is_weighed else ())]
        try:
            answers = await self._adding.call_many(commands)
            if is_weighed and (most := cap.most_entries(*answers[-2:])) is not None:
                await self._adding.call(*cut(model, most))
        except (RedisError, OSError) as error:
            log.debug("The request log cannot be written: %s", error)
            return False
        return not isinstance(answers[0], ServerError)

    async def look_up(
        self, models: Collection[str], request_id: str, since: Mapping[str, Found] | None = None
    ) -> Mapping[str, Found]:
        """Return what the logs of some models have of an id, by model; reads the newest entries first.

        Args:
            since: what an earlier lookup of the same models has come to: what it has seen is not read again, and
                belongs to the result.

        Raises:
            RequestError: ``OVERLOADED``: too many are being looked up; ``QUEUE_UNAVAILABLE``.
        """
        if self._waiting >= MOST_WAITING:
            raise refusal(OVERLOADED, "Too many requests are being looked up; ask again.", request_id)
        self._waiting += 1
        try:
            async with self._turns:
                link = self._looking.pop()
                try:
                    give_up_s = perf_counter() + LOOKUP_S
                    earlier = {} if since is None else since
                    return {
                        model: await self._look(link, model, request_id, give_up_s, earlier.get(model))
                        for model in models
                    }
                finally:
                    self._looking.append(link)
        except (RedisError, OSError) as error:
            log.warning("Looking into the request log failed: %s", error)
            raise refusal(QUEUE_UNAVAILABLE, "Redis did not answer in time; ask again.", request_id) from None
        finally:
            self._waiting -= 1

    async def _look(self, link: Link, model: str, request_id: str, give_up_s: float, before: Found | None) -> Found:
        key = keys.request_log(model)
        (seconds, microseconds), lanes = await link.call_many((("TIME",), ("HGETALL", keys.lanes(model))))
        pairs = [*zip(lanes[::2], lanes[1::2], strict=True)]
        found = Found(int(seconds) * 1000 + int(microseconds) / 1000, batch_lanes=batch_lanes(pairs))
        end, begin, rows = "+", "-", 4
        if before is not None:
            begin, found.oldest_ms, found.is_complete = before.newest, before.oldest_ms, before.is_complete
            found.halves += before.halves
        while True:
            begun_s = perf_counter()
            if begun_s > give_up_s:
                found.is_complete = False
                return found
            entries = await link.call("XREVRANGE", key, end, begin, "COUNT", rows)
            size = sum(len(value) for _, fields in entries for value in fields)
            if size > THREAD_BYTES:
                found.halves += await asyncio.to_thread(_halves, entries, request_id)
            else:
                found.halves += _halves(entries, request_id)
            if entries and end == "+":
                found.newest = "(" + entries[0][0].decode()
            if entries and before is None:
                found.oldest_ms = float(_milliseconds(entries[-1][0]))
            if entries:
                end = "(" + entries[-1][0].decode()
            is_enough = len(found.halves) >= MOST_FOUND  # a client may give all of its requests the same id
            if is_enough or len(entries) < rows or (found.oldest_ms or 0.0) < found.is_enough_at_ms:
                return found
            rows = max(1, min(MOST_ROWS, 2 * rows, rows * PIECE_BYTES // max(size, 1)))
            await asyncio.sleep(min(REST_S, 3 * (perf_counter() - begun_s)))


def _halves(entries: Sequence[Any], request_id: str) -> list[Half]:
    found: list[Half] = []
    for entry_id, fields in entries:
        for at in range(0, len(fields) - 1, 2):
            found += halves(fields[at], fields[at + 1], _milliseconds(entry_id), request_id)
        if len(found) >= MOST_FOUND:
            break
    return found


def _milliseconds(entry_id: bytes) -> int:
    return int(entry_id.split(b"-")[0])
