"""The data of the console [I/O]: what a front end counts itself, what it remembers in Redis, what it asks of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Set
from typing import Final

import msgspec

from producer_api.background import forever
from producer_api.caching.equal_requests import OfModel
from producer_api.queue.interface import Catalogue
from shared.metrics.waits import Waits
from shared.redis.advice import told
from shared.redis.client import Link, RedisError, connect_async
from shared.settings import Settings

from .feed.caches import CacheCounts, CacheWindow
from .feed.counts import Counts, Place, taken
from .feed.hub import Hub
from .feed.looking import Looker, is_plain
from .feed.seen import Seen
from .feed.state import Recent, state
from .feed.window import WINDOW_S, Window
from .history.lately import Lately
from .history.reading import Reader
from .history.recorder import Recorder

log = logging.getLogger("headrace.console")

PATIENCE_S: Final = 1.5
"""A server that has not answered by then counts as away: the page should say so soon."""

THOROUGH_S: Final = 10.0
"""So often the models are looked at whose details nobody sees."""

LATELY_S: Final = 5.0
"""So often the ring is asked what other front ends have written."""

Outcomes = Mapping[tuple[str, ...], int]
"""How many requests ended, by model, outcome and lane."""


class ConsoleData:
    """Runs as long as its front end.

    Args:
        settings: Redis address, lease, what counts as good, and what the history may take.
        waits: how long requests have waited for their replies.

    Attributes:
        hub: whoever wants to see how things stand.
        reader: whoever wants to see how they stood; None where no history is kept.
    """

    reader: Reader | None = None

    def __init__(self, settings: Settings, waits: Waits) -> None:
        self._settings, self._waits = settings, waits
        self._outcomes: Outcomes = {}
        self._objective_s = None if settings.goodput_ms is None else settings.goodput_ms / 1000
        self._window, self._cache_window = Window(self._objective_s), CacheWindow()
        self._thorough_at_s = self._lately_at_s = -THOROUGH_S
        self._last, self._last_at_s = Seen(int(1000 * time.time()), is_away=True), time.monotonic()
        self._is_away = False
        self._recorder: Recorder | None = None
        self._lately = Lately("")

    async def start(
        self,
        catalogue: Callable[[], Catalogue],
        outcomes: Outcomes,
        is_stopping: Callable[[], bool],
        caches: Callable[[], Mapping[str, OfModel]],
    ) -> None:
        """Begin to count, and to remember.

        Args:
            catalogue: the latest snapshot of all models.
            outcomes: of the requests of this front end; grows meanwhile.
            is_stopping: this front end is about to stop, so that listeners should go.
            caches: the result caches of models.
        """
        self._catalogue, self._outcomes, self._caches = catalogue, outcomes, caches
        settings = self._settings
        self._client = connect_async(
            settings.redis_address, settings.socket_timeout_s, settings.redis_ping_s, is_spared=True
        )
        self._links = [Link(self._client) for _ in range(3)]
        looking, writing, reading = self._links
        self._looker = Looker(looking, settings.lease_ms)
        self.hub = Hub(self._build, is_stopping)
        works = {"Counting for the console": self._count}
        if settings.history_mb:
            limit_bytes = settings.history_mb << 20
            self._recorder = Recorder(
                writing, catalogue, self._counted, settings.lease_ms, self._objective_s, limit_bytes
            )
            self.reader, self._lately = Reader(reading, self._recorder), Lately(self._recorder.who)
            works["Writing the console's history"] = self._recorder.run
        self._tasks = [asyncio.create_task(forever(what, work)) for what, work in works.items()]

    async def close(self) -> None:
        """End all listeners, and close the connections."""
        await self.hub.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for link in self._links:
            await link.close()
        await self._client.aclose()

    async def _count(self) -> None:
        while True:
            self._note()
            await asyncio.sleep(WINDOW_S)

    def _note(self) -> None:
        now_s = time.monotonic()
        self._window.note(now_s, self._counted())
        self._cache_window.note(now_s, {name: _counts(one) for name, one in list(self._caches().items())})

    def _counted(self) -> dict[Place, Counts]:
        return taken(list(self._outcomes.items()), {place: one.counts for place, one in self._waits.all().items()})

    async def _build(self, models: Set[str]) -> dict[str, bytes]:
        self._note()
        catalogue, seen = self._catalogue(), await self._look(models)
        recent = await self._recent(seen)
        return {name: msgspec.json.encode(state(catalogue, seen, recent, name or None)) for name in models}

    async def _look(self, chosen: Set[str]) -> Seen:
        """Look at Redis; while it is away, at the clock of what was seen last."""
        now_s = time.monotonic()
        thoroughly = now_s - self._thorough_at_s >= THOROUGH_S
        try:
            async with asyncio.timeout(PATIENCE_S):
                seen = await self._looker.look(self._catalogue(), chosen, thoroughly=thoroughly)
        except (RedisError, OSError) as error:  # TimeoutError is among them
            if not self._is_away:
                log.warning("The console shows no more of Redis than that it does not answer: %s", told(error))
            self._is_away = True
            return Seen(self._last.at_ms + int(1000 * (now_s - self._last_at_s)), is_away=True)
        self._is_away, self._last, self._last_at_s = False, seen, now_s
        if thoroughly:
            self._thorough_at_s = now_s
        return seen

    async def _recent(self, seen: Seen) -> Recent:
        """Put together what this front end has counted lately, and what others have written."""
        own, recorder, reader = self._window.lately(), self._recorder, self.reader
        if recorder is None or reader is None:
            return Recent([own], caches=self._cache_window.lately())
        now_s = time.monotonic()
        if not seen.is_away and now_s - self._lately_at_s >= LATELY_S:
            self._lately_at_s = now_s
            models = [state.name for state in self._catalogue().models.values() if is_plain(state)]
            try:
                async with asyncio.timeout(PATIENCE_S):
                    self._lately.take(await reader.latest(models, self._lately.after))
            except (RedisError, OSError) as error:
                log.debug("What others have counted is not known: %s", error)
        last = recorder.last_slot
        return Recent([own, *self._lately.parts(last)], self._lately.others(last), self._cache_window.lately())


def _counts(one: OfModel) -> CacheCounts:
    answers = one.answers
    return CacheCounts(one.hits + one.joined, one.misses, len(answers), answers.used_bytes, one.settings.limit_bytes)
