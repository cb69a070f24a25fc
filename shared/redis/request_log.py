"""How much the request log may take, which is bounded by bytes. Pure: what to ask of Redis, and when.

A stream can be cut by its number of entries only, and entries differ in size. So whoever adds to the log now and then
asks what it takes and how many entries it has, and cuts it to what that says; between two questions it adds little.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shared import keys

UNUSED_MS = 3_600_000
"""So long after its last entry the log goes."""

WEIGH_S = 5.0
WEIGHED_SHARE = 64
"""A writer asks what the log takes every few seconds in which it adds something, and when it has added this share of
the limit. Asking reads through the whole stream, in a fraction of a millisecond."""

LEFT_SHARE = 0.875
"""What a cut leaves of the limit, so that not every entry is followed by one."""

Command = Sequence[Any]


class Cap:
    """When to ask what one model's log takes, and what to cut. For one writer.

    Args:
        limit_bytes: what the log may take, about.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._added_bytes = 0
        self._weighed_s: float | None = None

    def is_due(self, size_bytes: int, now_s: float) -> bool:
        """Note that so much is being added; say whether to ask now what the log takes."""
        self._added_bytes += size_bytes
        last_s = self._weighed_s
        if last_s is None or self._added_bytes * WEIGHED_SHARE >= self._limit_bytes or now_s - last_s >= WEIGH_S:
            self._weighed_s, self._added_bytes = now_s, 0
            return True
        return False

    def most_entries(self, used_bytes: Any, length: Any) -> int | None:
        """Return to how many entries the log is to be cut; None for not at all.

        Args:
            used_bytes, length: what Redis answered to :func:`weigh`.
        """
        if type(used_bytes) is not int or type(length) is not int or used_bytes <= self._limit_bytes:
            return None
        return int(length * LEFT_SHARE * self._limit_bytes / used_bytes)


def add(model: str, field: bytes, packed: bytes) -> list[Command]:
    """Return the commands that add an entry."""
    key = keys.request_log(model)
    return [("XADD", key, "*", field, packed), ("PEXPIRE", key, UNUSED_MS)]


def weigh(model: str) -> list[Command]:
    """Return the commands that ask what the log takes, and how many entries it has."""
    key = keys.request_log(model)
    return [("MEMORY", "USAGE", key, "SAMPLES", 0), ("XLEN", key)]


def cut(model: str, most_entries: int) -> Command:
    """Return the command that drops the oldest entries."""
    return ("XTRIM", keys.request_log(model), "MAXLEN", most_entries)
