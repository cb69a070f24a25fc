"""Small things that several test modules need."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.005


def eventually(probe: Callable[[], T], within_s: float = 10.0) -> T:
    """Ask ``probe`` again and again until it gives something true, and return that.

    Raises:
        AssertionError: it gave nothing true within ``within_s``.
    """
    pause = threading.Event()
    give_up_s = time.monotonic() + within_s
    while not (found := probe()):
        assert time.monotonic() < give_up_s, f"nothing came within {within_s:g} s; the last answer was {found!r}"
        pause.wait(POLL_S)
    return found


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
