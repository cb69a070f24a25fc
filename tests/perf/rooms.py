"""The sections by name, in the order in which they are measured and printed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tests.perf.context import Bench, Found
from tests.perf.sections import (
    batching,
    bulk,
    cache,
    direct,
    echo,
    gpu,
    memory,
    model,
    peers,
    photos,
    policy,
    runtimes,
    sizes,
    start,
    tuning,
    waiting,
)
from tests.perf.sections.doors import grpc, later, now_and_later, open_inference


@dataclass(frozen=True, slots=True)
class Room:
    """One section.

    Those that are not `usual` are measured only when they are asked for. Those `apart` stand in a block of their own.
    """

    title: str
    measure: Callable[[Bench], Found]
    usual: bool = True
    apart: bool = False


ROOMS: Final = {
    "batching": Room("Before batching and after", batching.measure),
    "runtimes": Room("The runtimes beside each other", runtimes.measure, apart=True),
    "sizes": Room("What a batch costs", sizes.measure),
    "model": Room("A quick model: REST, full queue, and the model alone", model.measure),
    "grpc": Room("The Open Inference Protocol over gRPC", grpc.measure),
    "photos": Room("The default model on photographs", photos.measure),
    "echo": Room("Echo: what the pipeline costs", echo.measure),
    "cache": Room("Repeated inputs, answered from the cache", cache.measure),
    "open-inference": Room("Echo over the Open Inference Protocol", open_inference.measure),
    "later": Room("Answered later beside answered at once", later.measure),
    "direct": Room("Echo without HTTP", direct.measure),
    "bulk": Room("Bulk batches beside a full queue", bulk.measure),
    "now-and-later": Room("Interactive requests beside a bulk batch on one device", now_and_later.measure),
    "policy": Room("Adaptive batching against fixed windows", policy.measure),
    "waiting": Room("Eight devices", waiting.measure),
    "memory": Room("Memory over a million requests", memory.measure),
    "start": Room("Start-up and memory", start.measure),
    "tuning": Room("Tuned in the background", tuning.measure),
    "gpu": Room("On a GPU", gpu.measure),
    "peers": Room("Beside mosec and LitServe", peers.measure, usual=False, apart=True),
}


def chosen(text: str | None) -> list[str]:
    """Return the names in a list with commas, in the house's order; the usual ones for None.

    Raises:
        ValueError: there is no such section.
    """
    if text is None:
        return [name for name, room in ROOMS.items() if room.usual]
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := sorted(set(names) - set(ROOMS)):
        raise ValueError(f"There is no section {', '.join(unknown)}; the sections are {', '.join(ROOMS)}.")
    return [name for name in ROOMS if name in names]


def documented() -> Sequence[str]:
    """Return the sections of the main block of docs/benchmarks.md."""
    return [name for name, room in ROOMS.items() if not room.apart]
