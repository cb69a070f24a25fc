"""What must be set before torch is imported."""

from __future__ import annotations

import os

from shared.process.allocator import keep_freed_memory


def prepare_for_torch() -> None:
    """Keep freed memory, without which the default model takes 1.6 times as long, and many compiled kernels."""
    keep_freed_memory()
    # A compiled kernel per layer and batch size: with the default of 1024 many batch sizes push each other out.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")
