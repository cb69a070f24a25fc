"""Pinning this process to cores [I/O].

With a thread of torch for each core, a process that wanders finds cold caches and another's thread on its new core.
All threads of a consumer stay together: threads that decode or commit would otherwise push another
consumer's model off its core.
"""

from __future__ import annotations

import os

from shared.settings import SettingsError


def parse(text: str) -> frozenset[int]:
    """Return the cores that ``--cores`` names, such as ``0`` or ``2,3``; none for an empty text.

    Raises:
        SettingsError: it is no list of numbers.
    """
    try:
        cores = frozenset(int(part) for part in text.split(",")) if text.strip() else frozenset[int]()
    except ValueError:
        raise SettingsError(f"--cores must be numbers separated by commas, such as 0 or 2,3, not {text!r}.") from None
    if any(core < 0 for core in cores):
        raise SettingsError(f"--cores must not be negative, but is {text!r}.")
    return cores


def pin(cores: frozenset[int]) -> frozenset[int]:
    """Run the calling thread, and all that it starts from here on, on ``cores`` only; nothing when there are none.

    Must come before torch is imported, which counts the cores it finds.

    Returns:
        The cores that could be used before, for what is started and is to run elsewhere; none if that is unchanged.

    Raises:
        SettingsError: this process may not use one of them, or this system cannot pin.
    """
    if not cores:
        return frozenset()
    if not hasattr(os, "sched_setaffinity"):
        raise SettingsError("--cores: this system cannot tie a process to cores; leave it out.")
    allowed = os.sched_getaffinity(0)
    if not cores <= allowed:
        wrong = ", ".join(map(str, sorted(cores - allowed)))
        raise SettingsError(f"--cores: core {wrong} is not one of those this process may use ({_listed(allowed)}).")
    os.sched_setaffinity(0, cores)
    return frozenset(allowed)


def _listed(cores: set[int]) -> str:
    return ", ".join(map(str, sorted(cores)))
