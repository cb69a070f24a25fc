"""Work in steps: long work runs a little at a time, and the event loop serves other requests in between.

Encoding and decoding hold the interpreter whatever thread they run on, so a thread would not help: it would have the
event loop wait for the interpreter after each of its system calls. A generator that yields about once a millisecond
costs next to nothing and bounds every wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Generator
from typing import TypeVar

from shared.wire.outcomes import OVERLOADED, RequestError

T = TypeVar("T")

Steps = Generator[None, None, T]
"""A piece of work that yields between its steps and returns its result."""

LARGE_BYTES = 128 * 1024
"""Shorter bodies and answers are coded at once: they take a few milliseconds at most, whatever is in them."""

SMALL_BYTES = 1024 * 1024
UNDER_WAY_BYTES = 16 * SMALL_BYTES

_TOO_MUCH = "Too many large bodies and answers wait here to be decoded and encoded."


def at_once(steps: Steps[T]) -> T:
    """Do all steps without a pause, and return the result."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: T = done.value
            return result


class StepRunner:
    """Runs one step of the works in progress in each turn of the event loop, so that many works do not block it longer.

    Half-done work takes several times the memory of its input. So only some works run at once;
    large ones wait for each other, in order, and small ones do not wait for them.

    Args:
        most_waiting_bytes: input of the works that wait, together; beyond it they are refused.
        most_bytes: input of the works in progress, together. Small ones may take as much again.

    Attributes:
        bytes_under_way: input of the works in progress now.
    """

    def __init__(self, most_waiting_bytes: int = 1 << 60, most_bytes: int = UNDER_WAY_BYTES) -> None:
        self._turn = asyncio.Lock()
        self._most_waiting_bytes, self._most_bytes = most_waiting_bytes, most_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._waiting_bytes = self.bytes_under_way = 0

    async def run(self, steps: Steps[T], size_bytes: int = 0) -> T:
        """Do a work step by step, alternating with the others.

        Args:
            size_bytes: of what it is made from.

        Raises:
            RequestError: ``OVERLOADED``: too many wait already.
        """
        try:
            await self._enter(size_bytes)
            try:
                while True:
                    async with self._turn:
                        next(steps)
                        await asyncio.sleep(0)
            finally:
                self._leave(size_bytes)
        except StopIteration as done:
            result: T = done.value
            return result
        finally:
            steps.close()

    def _has_room(self, size_bytes: int) -> bool:
        most_bytes = self._most_bytes * (2 if size_bytes <= SMALL_BYTES else 1)
        return not self.bytes_under_way or self.bytes_under_way + size_bytes <= most_bytes

    async def _enter(self, size_bytes: int) -> None:
        if self._has_room(size_bytes) and (size_bytes <= SMALL_BYTES or not self._waiting):
            self.bytes_under_way += size_bytes
            return
        if self._waiting_bytes + size_bytes > self._most_waiting_bytes:
            raise RequestError(OVERLOADED, _TOO_MUCH, retry_after_s=1)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size_bytes, future))
        self._waiting_bytes += size_bytes
        try:
            await future
        except asyncio.CancelledError:
            if future.cancelled():
                self._begin_next()
            else:
                self._leave(size_bytes)
            raise
        finally:
            self._waiting_bytes -= size_bytes

    def _leave(self, size_bytes: int) -> None:
        self.bytes_under_way -= size_bytes
        self._begin_next()

    def _begin_next(self) -> None:
        while self._waiting:
            size_bytes, future = self._waiting[0]
            if not future.done():
                if not self._has_room(size_bytes):
                    return
                self.bytes_under_way += size_bytes
                future.set_result(None)
            self._waiting.popleft()
