"""Makes comparisons for tests."""

from __future__ import annotations

import random
from typing import Any, Literal

import msgspec

from loadgen.results.comparefile import FORMAT, VERSION, Answer, CompareFile, Pair, Plan, Side, Window
from loadgen.results.runfile import Machine


def window(mean_ms: float = 30.0, p95_ms: float = 40.0, throughput_per_s: float = 600.0, **changes: Any) -> Window:
    made = Window(100, 100, {}, mean_ms, p95_ms, throughput_per_s, 0.5, 0.1)
    return msgspec.structs.replace(made, **changes)


def pair(number: int, ratio: float = 1.0, batch: Literal[1, 2] = 1, **changes: Any) -> Pair:
    """A pair whose candidate is `ratio` times as slow in everything."""
    slow = msgspec.structs.replace(window(30.0 * ratio, 40.0 * ratio, 600.0 / ratio), **changes)
    return Pair(batch, 1000 * batch + number, "base" if number % 2 == 0 else "candidate", window(), slow)


def noisy_pairs(count: int, ratio: float, noise: float, seed: int, batch: Literal[1, 2] = 1) -> list[Pair]:
    rng = random.Random(f"{seed}:{batch}")
    return [pair(number, ratio * rng.lognormvariate(0, noise), batch) for number in range(count)]


def answer(**changes: Any) -> Answer:
    """What a candidate answered to one input: the same as the base."""
    return msgspec.structs.replace(Answer("cat.jpg", "0" * 64, None, None, 0.0, "", 0.0), **changes)


def comparison_of(pairs: list[Pair], model: str = "imagenet", **changes: Any) -> CompareFile:
    side = Side("git:main", {}, None, None, {"name": model, "precision": "fp32"}, None, 100 * len(pairs))
    made = CompareFile(
        format=FORMAT,
        version=VERSION,
        started_at="2026-11-23T10:00:00.000+00:00",
        partial=False,
        plan=Plan(model, 40.0, "poisson", 3.0, 0.3, 64, 16, 10_000.0, 1, 10, 20, []),
        machine=Machine("Linux", None, 2, None, "3.11", None),
        base=side,
        candidate=side,
        answers=[answer()],
        pairs=pairs,
    )
    return msgspec.structs.replace(made, **changes)
