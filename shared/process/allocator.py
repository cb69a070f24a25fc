"""Memory that a process frees is kept for its next use, instead of going back to the kernel.

glibc gives large blocks back as soon as they are freed. A network's activations are such blocks, and so are the bodies
of requests: every one would fault all its pages in again (``docs/performance-notes.md``). The price is that a process
keeps the largest size it had, up to a bound.
"""

from __future__ import annotations

import ctypes
import sys

# Numbers of mallopt(3) in <malloc.h>.
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

WITHOUT_BOUND = (1 << 31) - 1
LARGEST_BLOCK = 1 << 30


def keep_freed_memory(most_bytes: int = WITHOUT_BOUND, step_bytes: int = 64 << 20) -> bool:
    """Tell the C library to keep freed memory; says whether it could be told (glibc only).

    Args:
        most_bytes: how much may lie unused at the end of the heap before it is given back.
        step_bytes: by how much the heap grows.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    options = {
        _M_MMAP_THRESHOLD: LARGEST_BLOCK,  # blocks of up to 1 GiB come from the heap
        _M_TRIM_THRESHOLD: most_bytes,
        _M_TOP_PAD: step_bytes,
        _M_ARENA_MAX: 1,  # one heap: the blocks one thread frees serve the others
    }
    return mallopt is not None and all(mallopt(option, value) == 1 for option, value in options.items())


def give_back_freed_memory() -> None:
    """Give back to the kernel, once, what is free now (glibc only)."""
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
