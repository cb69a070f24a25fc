"""What `tests/perf/programs/runtimes.py` prints, for those who read it without importing torch."""

from __future__ import annotations

import msgspec

PLAIN = "torch, plain code"
SIZES = (1, 4, 8, 32)


class Column(msgspec.Struct, kw_only=True):
    """What a runtime did in a precision.

    Attributes:
        rates: rows per second of processor time by size, a value for each round.
        built_s: processor time of making it, export and opening included.
        refused: one sentence on why Headrace would not use it; empty where it would.
        data: the data folder in which a consumer finds it; empty where there is nothing to find.
    """

    runtime: str
    precision: str
    rates: dict[int, list[float]] = {}
    built_s: float = 0.0
    refused: str = ""
    data: str = ""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """All of them; those of which nothing could be measured have no rates."""

    kind: str
    columns: list[Column]
