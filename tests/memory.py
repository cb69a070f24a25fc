"""How much memory a process holds."""

from __future__ import annotations

import gc
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def resident_bytes() -> int:
    """Return the resident size of this process; skips the test where the kernel does not tell."""
    gc.collect()
    return resident_bytes_of(os.getpid())


def resident_bytes_of(pid: int) -> int:
    """Return the resident size of a process; skips the test where the kernel does not tell."""
    told = Path(f"/proc/{pid}/statm")
    if not told.exists():
        pytest.skip("only Linux tells the size of a process in /proc")
    return int(told.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_bytes(step: Callable[[], Any]) -> int:
    """Return the most that Python's objects made by ``step`` took at once."""
    tracemalloc.start()
    try:
        step()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
