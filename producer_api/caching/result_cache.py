"""Answers of one model, the least used first to go. Pure: time comes in as an argument, in seconds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from shared.wire.messages import Reply

ENTRY_BYTES = 600
"""What an entry takes besides the data of its reply."""

LARGEST_SHARE = 8
"""An answer that takes more than one part in so many of the cache is not kept: it would push out too many others."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer.

    Attributes:
        is_short: encoding it takes no time worth mentioning.
        stored_s: when the model made it.
        size_bytes: what it counts as.
    """

    reply: Reply
    is_short: bool
    stored_s: float
    size_bytes: int


class ResultCache:
    """Answers by their keys, within a number of bytes.

    Attributes:
        used_bytes: what all of them count as.
        evicted: how many have made room for others.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes, self.used_bytes, self.evicted = limit_bytes, 0, 0
        self._entries: OrderedDict[Hashable, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable, now_s: float, max_age_s: float) -> Entry | None:
        """Return the answer to a key unless it is older than ``max_age_s``. One from the future counts as old."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if not 0.0 <= now_s - entry.stored_s < max_age_s:
            return None
        self._entries.move_to_end(key)
        return entry

    def put(self, key: Hashable, reply: Reply, data_bytes: int, now_s: float, *, is_short: bool) -> bool:
        """Keep an answer, in place of an older one; returns whether there is room for it.

        Args:
            data_bytes: what the reply holds.
        """
        self._remove(key)
        size_bytes = data_bytes + ENTRY_BYTES
        if size_bytes * LARGEST_SHARE > self.limit_bytes:
            return False
        self._entries[key] = Entry(reply, is_short, now_s, size_bytes)
        self.used_bytes += size_bytes
        self._make_room()
        return True

    def set_limit(self, limit_bytes: int) -> None:
        """Keep to another number of bytes from now on."""
        self.limit_bytes = limit_bytes
        self._make_room()

    def drop_older(self, now_s: float, max_age_s: float, most: int) -> None:
        """Drop answers that nobody may get any more, looking at the ``most`` least used ones."""
        for key in [key for key, _ in zip(self._entries, range(most), strict=False)]:
            if now_s - self._entries[key].stored_s >= max_age_s:
                self._remove(key)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.used_bytes = 0

    def _make_room(self) -> None:
        while self.used_bytes > self.limit_bytes:
            self._remove(next(iter(self._entries)))
            self.evicted += 1

    def _remove(self, key: Hashable) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.used_bytes -= entry.size_bytes
