"""How many threads one batch has."""

from __future__ import annotations

from shared.machine import usable_cores
from shared.settings import Settings


def threads_of(settings: Settings, device: str = "cpu") -> int:
    """Return the threads for one batch: as set, else one beside a GPU, and on a CPU all cores but one.

    That one is for Redis and the front end. With a thread on every core, one that the kernel takes away stalls all
    others at the end of each layer: batches of milliseconds then take seconds on a busy machine
    (``docs/benchmarks.md``). Of several consumers `headrace up` gives each its share (``headrace/sizing.py``).
    """
    return settings.torch_threads or (1 if device == "cuda" else max(1, usable_cores() - 1))
