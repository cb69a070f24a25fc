"""How much memory this process holds."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

_STATM = Path("/proc/self/statm")


def resident_bytes() -> int:
    """Return the resident size of this process; skips the test where the kernel does not tell."""
    if not _STATM.exists():
        pytest.skip("only Linux tells a process its size in /proc")
    gc.collect()
    return int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
