"""How many threads one batch has."""

from __future__ import annotations

from shared.process.machine import usable_cores
from shared.process.threads import threads_each
from shared.settings import Settings


def threads_of(settings: Settings, device: str = "cpu") -> int:
    """Return the threads for one batch: as set, else one beside a GPU, and on a CPU those of a consumer that is alone.

    With a thread on every core, one that the kernel takes away stalls all others at the end of each layer: batches of
    milliseconds then take seconds on a busy machine (``docs/benchmarks.md``). Of several consumers `headrace up` gives
    each its share (``headrace/sizing.py``).
    """
    return settings.torch_threads or (1 if device == "cuda" else threads_each(usable_cores(), consumers=1))
