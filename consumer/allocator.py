"""Memory that a model frees is kept for its next batch.

glibc gives large blocks back to the kernel as soon as they are freed. A network's activations are such blocks, so every
batch would fault all its pages in again: 283,000 faults a call for the default model at 32 rows, and 1.6 times the time
(``docs/performance-notes.md``). The price is that the process keeps its largest size.
"""

from __future__ import annotations

import ctypes
import os
import sys

# Numbers of mallopt(3) in <malloc.h>.
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

_OPTIONS = {
    _M_MMAP_THRESHOLD: 1 << 30,  # blocks of up to 1 GiB come from the heap
    _M_TRIM_THRESHOLD: (1 << 31) - 1,  # whose top is never given back
    _M_TOP_PAD: 64 << 20,  # and which grows in large steps
    _M_ARENA_MAX: 1,  # one heap: the blocks one thread frees serve the others
}


def keep_freed_memory() -> bool:
    """Tell the C library to keep freed memory; says whether it could be told (glibc only)."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(option, value) == 1 for option, value in _OPTIONS.items())


def prepare_for_torch() -> None:
    """Settings that must be made before torch is imported."""
    keep_freed_memory()
    # A compiled kernel per layer and batch size: with the default of 1024 many batch sizes push each other out.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")
