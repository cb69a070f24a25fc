"""What the storm does each second, drawn from its seed. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """What may happen."""

    KILL_CONSUMER = "kill consumer"
    PAUSE_CONSUMER = "pause consumer"
    KILL_FRONT_END = "kill front end"
    PAUSE_FRONT_END = "pause front end"
    RESTART_REDIS = "restart Redis"
    PAUSE_REDIS = "pause Redis"
    CUT_ALL = "cut all connections"
    CUT_SOME = "cut some connections"
    SCALE = "change the number of consumers"
    HOSTILE = "a hostile client"


class Hostility(StrEnum):
    """What a hostile client may do."""

    MAPS = "half a million empty maps as a body"
    DIRECT_MAPS = "half a million empty maps as a message in the producers' lane"
    ENDLESS = "a body in chunks that does not end"
    ZEROS = "a Content-Length with thousands of zeros"
    SCANS = "a JPEG with hundreds of scans"
    DEAF_TO_QUESTIONS = "pipelined questions from clients that never read"
    DEAF_TO_ANSWERS = "large requests from clients that never read"
    DEAF_TO_REDIS = "ECHO of large texts from a client of Redis that never reads"


WEIGHTS = {
    Fault.KILL_CONSUMER: 3,
    Fault.PAUSE_CONSUMER: 3,
    Fault.KILL_FRONT_END: 2,
    Fault.PAUSE_FRONT_END: 1,
    Fault.RESTART_REDIS: 1,
    Fault.PAUSE_REDIS: 1,
    Fault.CUT_ALL: 1,
    Fault.CUT_SOME: 3,
    Fault.SCALE: 1,
    Fault.HOSTILE: 6,
}

PAUSES_S = {Fault.PAUSE_CONSUMER: (0.1, 4.0), Fault.PAUSE_FRONT_END: (0.1, 2.0), Fault.PAUSE_REDIS: (0.05, 1.5)}
"""Shortest and longest pause; those of consumers are often longer than a lease."""

SPARED_PAUSE_S = 1.8
"""Longest pause of who is spared: a consumer stopped for longer than the longest batch ends itself afterwards."""

DOWN_S = (0.0, 1.0)
"""Shortest and longest time for which Redis is away."""

LEAST_CONSUMERS, MOST_CONSUMERS = 2, 4


@dataclass(frozen=True, slots=True)
class Step:
    """One fault: to whom (empty for Redis and connections), for how long, which share of connections, how hostile."""

    fault: Fault
    whom: str = ""
    lasts_s: float = 0.0
    share: float = 1.0
    hostility: Hostility | None = None

    def __str__(self) -> str:
        parts = [self.hostility or self.fault.value, self.whom, f"{self.lasts_s:.1f} s" if self.lasts_s else ""]
        return " ".join(part for part in parts if part)


def draw(rng: random.Random, consumers: Sequence[str], front_ends: Sequence[str], spared: Sequence[str]) -> Step:
    """Draw the next fault; ``spared`` are paused and cut off, but not killed any more."""
    fault = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    lasts_s = rng.uniform(*PAUSES_S.get(fault, DOWN_S))
    share = rng.uniform(0.1, 0.6)
    hostility = rng.choice(list(Hostility))
    of_kind = {
        Fault.KILL_CONSUMER: [name for name in consumers if name not in spared],
        Fault.PAUSE_CONSUMER: list(consumers),
        Fault.KILL_FRONT_END: [name for name in front_ends if name not in spared],
        Fault.PAUSE_FRONT_END: list(front_ends),
        Fault.HOSTILE: list(front_ends),
    }.get(fault)
    whom = rng.choice(of_kind) if of_kind else ""
    if fault is Fault.HOSTILE:
        return Step(fault, whom, hostility=hostility)
    if whom in spared:
        lasts_s = min(lasts_s, SPARED_PAUSE_S)
    if fault in (Fault.PAUSE_CONSUMER, Fault.PAUSE_FRONT_END, Fault.PAUSE_REDIS, Fault.RESTART_REDIS):
        return Step(fault, whom, lasts_s)
    return Step(fault, whom, 0.0, share if fault is Fault.CUT_SOME else 1.0)
