"""Listeners of the feed: one look at Redis and one document per tick and model, however many there are.

Nothing runs while nobody listens. A listener that is slow finds the latest document when it comes back, and nothing
between: there is no queue.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Set
from contextlib import suppress
from typing import Final

from producer_api.background import forever
from shared.wire.outcomes import OVERLOADED, RequestError

TICK_S: Final = 2.0
LEAST_S: Final = 0.5
"""Between two looks at Redis, however many listeners come and go."""

POLL_S: Final = 0.25
MOST_LISTENERS: Final = 100
RETRY_AFTER_S: Final = 10

Build = Callable[[Set[str]], Awaitable[dict[str, bytes]]]
"""Looks once, and returns the encoded state for each of these models; the empty name stands for none."""


class Listener:
    """One client that listens.

    Attributes:
        model: which one it sees in detail; empty for none.
        is_over: it is to end: the front end stops.
    """

    def __init__(self, model: str) -> None:
        self.model, self.is_over = model, False
        self._latest: bytes | None = None
        self._has_news = asyncio.Event()

    def take(self, document: bytes) -> None:
        """Take the latest state; one that has not been fetched is forgotten."""
        self._latest = document
        self._has_news.set()

    def end(self) -> None:
        """End it."""
        self.is_over = True
        self._has_news.set()

    async def next(self, within_s: float) -> bytes | None:
        """Return the next state; None where none came in time, or it is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._has_news.wait()
        self._has_news.clear()
        latest, self._latest = self._latest, None
        return latest


class Hub:
    """Ticks while somebody listens.

    Args:
        build: makes the documents; must not raise for what may happen.
        is_stopping: the front end is about to stop.
    """

    def __init__(self, build: Build, is_stopping: Callable[[], bool], tick_s: float = TICK_S) -> None:
        self._build, self._is_stopping, self._tick_s = build, is_stopping, tick_s
        self._listeners: set[Listener] = set()
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._made: dict[str, tuple[float, bytes]] = {}

    @property
    def count(self) -> int:
        """Return how many listen."""
        return len(self._listeners)

    def enter(self, model: str) -> Listener:
        """Begin to listen.

        Raises:
            RequestError: ``OVERLOADED``: there are as many as there may be.
        """
        if len(self._listeners) >= MOST_LISTENERS:
            message = f"{MOST_LISTENERS} clients listen to the console of this front end, as many as may."
            raise RequestError(OVERLOADED, message, retry_after_s=RETRY_AFTER_S)
        listener = Listener(model)
        self._listeners.add(listener)
        self._wanted.set()
        if self._task is None:
            self._task = asyncio.create_task(forever("Feeding the console", self._run))
        return listener

    def leave(self, listener: Listener) -> None:
        """Listen no more."""
        self._listeners.discard(listener)
        if not self._listeners and self._task is not None:
            self._task.cancel()
            self._task = None

    async def once(self, model: str) -> bytes:
        """Return the state now; one that is hardly older than now is not made again."""
        async with self._lock:
            made = self._made.get(model)
            if made is None or time.monotonic() - made[0] > LEAST_S:
                await self._make({model})
            return self._made[model][1]

    async def close(self) -> None:
        """End all listeners."""
        task, self._task = self._task, None
        for listener in self._listeners:
            listener.end()
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _make(self, models: Set[str]) -> None:
        documents = await self._build(models)
        now_s = time.monotonic()
        self._made = {model: (now_s, document) for model, document in documents.items()}

    async def _run(self) -> None:
        while self._listeners:
            self._wanted.clear()
            begun_s = time.monotonic()
            async with self._lock:
                await self._make({listener.model for listener in self._listeners})
            for listener in self._listeners:
                made = self._made.get(listener.model)
                if made is not None:  # else it has come meanwhile
                    listener.take(made[1])
            await self._pause(begun_s)

    async def _pause(self, begun_s: float) -> None:
        """Wait for the next tick, or for a new listener, who is not to wait so long."""
        while (passed_s := time.monotonic() - begun_s) < self._tick_s:
            if self._is_stopping():
                for listener in self._listeners:
                    listener.end()
                await asyncio.sleep(POLL_S)
                return
            if self._wanted.is_set() and passed_s >= LEAST_S:
                return
            await asyncio.sleep(min(POLL_S, self._tick_s - passed_s))
