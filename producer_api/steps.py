"""Work in steps: what takes long is done a little at a time, and the event loop serves everybody else in between.

Encoding and decoding hold the interpreter whatever thread they run on, so a thread would not help: it would have the
event loop wait for the interpreter after each of its system calls. A generator that yields about once a millisecond
costs nothing to speak of and bounds what anybody waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")

Steps = Generator[None, None, T]
"""A piece of work that yields between its steps and returns its result."""

LARGE_BYTES = 128 * 1024
"""Shorter bodies and answers are coded at once: they take a few milliseconds at most, whatever is in them."""


def at_once(steps: Steps[T]) -> T:
    """Do all steps without a pause, and return the result."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: T = done.value
            return result


class Turns:
    """Lets one step of all works run in each turn of the event loop, so that many at once hold it up no longer."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def take(self, steps: Steps[T]) -> T:
        """Do a work step by step, taking turns with the others; whoever waits longest is next."""
        try:
            while True:
                async with self._turn:
                    next(steps)
                    await asyncio.sleep(0)
        except StopIteration as done:
            result: T = done.value
            return result
        finally:
            steps.close()
