"""The data of the console [I/O]: what a front end knows itself, and what it asks Redis for while somebody looks."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Set
from typing import Final

import msgspec

from producer_api.queue.interface import Catalogue
from shared.metrics.waits import Waits
from shared.redis.advice import told
from shared.redis.client import Link, RedisError, connect_async
from shared.settings import Settings

from .counts import Counts, Place, taken
from .hub import Hub
from .looking import Looker
from .seen import Seen
from .state import Recent, state
from .window import WINDOW_S, Window

log = logging.getLogger("headrace.console")

PATIENCE_S: Final = 1.5
"""A server that has not answered by then counts as away: the page should say so soon."""

THOROUGH_S: Final = 10.0
"""So often the models are looked at whose details nobody sees."""

Outcomes = Mapping[tuple[str, ...], int]
"""How many requests ended, by model, outcome and lane."""


class Feed:
    """Runs as long as its front end.

    Args:
        settings: Redis address, lease, and what counts as good.
        waits: how long requests have waited for their replies.
    """

    def __init__(self, settings: Settings, waits: Waits) -> None:
        self._settings, self._waits = settings, waits
        self._outcomes: Outcomes = {}
        objective_ms = settings.goodput_ms
        self._window = Window(None if objective_ms is None else objective_ms / 1000)
        self._thorough_at_s = -THOROUGH_S
        self._last, self._last_at_s = Seen(int(1000 * time.time()), is_away=True), time.monotonic()
        self._is_away = False

    async def start(
        self, catalogue: Callable[[], Catalogue], outcomes: Outcomes, is_stopping: Callable[[], bool]
    ) -> None:
        """Begin to count.

        Args:
            catalogue: the latest snapshot of all models.
            outcomes: of the requests of this front end; grows meanwhile.
            is_stopping: this front end is about to stop, so that listeners should go.
        """
        self._catalogue, self._outcomes = catalogue, outcomes
        settings = self._settings
        self._client = connect_async(
            settings.redis_address, settings.socket_timeout_s, settings.redis_ping_s, is_spared=True
        )
        self._link = Link(self._client)
        self._looker = Looker(self._link, settings.lease_ms)
        self.hub = Hub(self._build, is_stopping)
        self._counting = asyncio.create_task(self._count())

    async def close(self) -> None:
        """End all listeners, and close the connections."""
        await self.hub.close()
        self._counting.cancel()
        await asyncio.gather(self._counting, return_exceptions=True)
        await self._link.close()
        await self._client.aclose()

    async def _count(self) -> None:
        while True:
            self._note()
            await asyncio.sleep(WINDOW_S)

    def _note(self) -> None:
        self._window.note(time.monotonic(), self._counted())

    def _counted(self) -> dict[Place, Counts]:
        return taken(list(self._outcomes.items()), {place: one.counts for place, one in self._waits.all().items()})

    async def _build(self, models: Set[str]) -> dict[str, bytes]:
        self._note()
        catalogue, seen = self._catalogue(), await self._look(models)
        span_s, counts = self._window.lately()
        recent = Recent(counts, span_s)
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
