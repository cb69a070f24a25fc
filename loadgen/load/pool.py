"""[I/O] Opens, keeps and discards connections, up to a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Final

from .connection import Connection

_LONGEST_IDLE_S: Final = 2.0
"""Connections idle for longer are not used again: servers close them after 5 s (uvicorn) or more, and a request that
crosses such a close on its way would be lost."""


class Pool:
    """The connections of one run.

    Args:
        make: returns a new connection that belongs to the pool's user.
        ready: is called with each connection that has been opened.
        failed: is called for each that could not be.
    """

    def __init__(
        self,
        make: Callable[[], Connection],
        ready: Callable[[Connection], None],
        failed: Callable[[], None],
        address: tuple[str, int],
        limit: int,
        timeout_s: float,
    ) -> None:
        self._make, self._ready, self._failed = make, ready, failed
        self._address, self._limit, self._timeout_s = address, limit, timeout_s
        self._idle: list[Connection] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._opening = 0
        self._alive = 0

    def take(self, now_s: float) -> Connection | None:
        """Return the idle connection that was used last, or None."""
        while self._idle:
            connection = self._idle.pop()
            if now_s - connection.idle_since_s <= _LONGEST_IDLE_S:
                return connection
            connection.abandon()
            self._alive -= 1
        return None

    def keep(self, connection: Connection) -> None:
        """Take back a connection that nothing waits for."""
        self._idle.append(connection)

    def gone(self, connection: Connection) -> None:
        """A connection that had been opened is no more."""
        self._alive -= 1
        if connection in self._idle:
            self._idle.remove(connection)

    def grow(self, waiting: int) -> None:
        """Open connections until as many are on their way as requests wait for one, within the limit."""
        while self._opening < waiting and self._alive < self._limit:
            self._alive += 1
            self._opening += 1
            task = asyncio.get_running_loop().create_task(self._open())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                _, connection = await asyncio.get_running_loop().create_connection(self._make, *self._address)
        except Exception:  # mostly an OSError, which TimeoutError is, too; nothing else reads a task's exception
            self._opening -= 1
            self._alive -= 1
            self._failed()
            return
        self._opening -= 1
        connection.idle_since_s = perf_counter()
        self._ready(connection)

    async def shut(self) -> None:
        """Close what is idle and give up what is being opened."""
        for connection in self._idle:
            connection.abandon()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
