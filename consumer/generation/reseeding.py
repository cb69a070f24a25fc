"""Seeds for libraries whose random numbers come one after another. Pure."""

from __future__ import annotations

_MULTIPLIER = 0x9E3779B97F4A7C15
_BITS = (1 << 63) - 1


def seed_from(seed: int, made: int) -> int:
    """Return the seed for a sequence that goes on after ``made`` tokens: from 0 to 2**63 - 1.

    The library begins its numbers anew there. With the same seed, the draws of the beginning would come once more.
    """
    return (seed + made * _MULTIPLIER) & _BITS
