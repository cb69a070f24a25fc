"""Small things that several test modules need."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest

T = TypeVar("T")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.002, 0.03
"""Between two looks. What comes soon is seen soon, and what takes long is not slowed down by looking."""


def first(count: int, cases: Iterable[Any]) -> list[Any]:
    """Return the cases of a test: the first for every run, the rest for ``make soak``.

    For cases that each start processes of their own and take the same way through them; the most telling come first.

    Args:
        cases: tuples of values, or single ones.
    """
    listed = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [pytest.param(*case, marks=[pytest.mark.soak] * (number >= count)) for number, case in enumerate(listed)]


def _pauses_s(limit_s: float) -> Iterator[float]:
    """How long to pause before each further look, until the time is over."""
    give_up_s, pause_s = time.monotonic() + limit_s, FIRST_PAUSE_S
    while time.monotonic() < give_up_s:
        yield pause_s
        pause_s = min(1.5 * pause_s, LONGEST_PAUSE_S)


def eventually(predicate: Callable[[], T | None], limit_s: float = 20.0) -> T:
    """Ask ``predicate`` again and again until it gives something true, and return that.

    Raises:
        AssertionError: it gave nothing true within ``limit_s``.
    """
    pauses_s = _pauses_s(limit_s)
    while not (found := predicate()):
        pause_s = next(pauses_s, None)
        assert pause_s is not None, f"nothing came within {limit_s:g} s; the last answer was {found!r}"
        time.sleep(pause_s)
    return found


async def eventually_async(predicate: Callable[[], T | Awaitable[T | None] | None], limit_s: float = 20.0) -> T:
    """The same on an event loop, which goes on meanwhile; what ``predicate`` gives may have to be awaited."""
    pauses_s = _pauses_s(limit_s)
    while not (found := await given if isinstance(given := predicate(), Awaitable) else given):
        pause_s = next(pauses_s, None)
        assert pause_s is not None, f"nothing came within {limit_s:g} s; the last answer was {found!r}"
        await asyncio.sleep(pause_s)
    return found


class Crew:
    """Works that go on side by side, each on a thread, until the block ends; each looks at ``over`` now and then."""

    def __init__(self, works: Iterable[Callable[[], None]]) -> None:
        self.over = threading.Event()
        self._threads = [threading.Thread(target=work) for work in works]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join()


def write_models_file(folder: Path, name: str, entry: str) -> Path:
    """Write a models file into ``folder`` that has a Python model ``name``, whose option ``folder`` is that folder."""
    path = folder / "models.toml"
    path.write_text(f'[models.{name}]\nfamily = "python"\nentry = "{entry}"\noptions = {{ folder = "{folder}" }}\n')
    return path


@contextmanager
def full_pipe() -> Iterator[tuple[int, int]]:
    """The two ends of a pipe that holds nothing more."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)
    try:
        yield reading, writing
    finally:
        os.close(reading)
        os.close(writing)
