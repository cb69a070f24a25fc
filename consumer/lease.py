"""The lease book: which entries this consumer holds, so that it never takes one twice. Pure."""

from __future__ import annotations

from collections.abc import Iterable


class LeaseBook:
    """Entries between claim and commit."""

    def __init__(self) -> None:
        self._held: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._held)

    def holds(self, entry_id: bytes) -> bool:
        """Say whether an entry is between claim and commit here."""
        return entry_id in self._held

    def take(self, entry_id: bytes) -> bool:
        """Note that an entry was claimed; False when it is held already and must not be run a second time."""
        if entry_id in self._held:
            return False
        self._held.add(entry_id)
        return True

    def release(self, entry_ids: Iterable[bytes]) -> None:
        """Note that entries were committed or discarded."""
        self._held.difference_update(entry_ids)
