"""How many threads the processes of a machine compute with. Pure.

A search for the fastest runtime ahead of time must assume as many as the consumers will have: another number of
threads is another machine.
"""

from __future__ import annotations


def threads_each(cores: int, consumers: int) -> int:
    """Return the threads of each of ``consumers`` processes on ``cores`` cores.

    With a process for every core one thread each; with fewer they share all cores but one, which Redis and the front
    end need: a thread that the kernel takes off its core stalls the others of its process.
    """
    if consumers >= cores:
        return 1
    return max(1, (cores - 1) // max(1, consumers))
