"""The lease book: which entries this consumer holds, so that it never runs one twice; and what is in progress. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from consumer.queue.interface import Claim

MOST_CRASHES = 2
"""An entry that ended so many consumers while it ran alone is not tried again."""


class LeaseBook:
    """Entries between claim and commit.

    Attributes:
        releases: how often some were released: while it does not grow, nothing is answered.
    """

    def __init__(self) -> None:
        self._held: dict[Claim, float] = {}
        self.releases = 0

    def __len__(self) -> int:
        return len(self._held)

    def holds(self, claim: Claim) -> bool:
        """Say whether an entry is between claim and commit here."""
        return claim in self._held

    def take(self, claim: Claim, now_s: float = 0.0) -> bool:
        """Note that an entry was claimed; False if it is held already and must not run a second time.

        Until :meth:`promise` says more it should be answered at once.
        """
        if claim in self._held:
            return False
        self._held[claim] = now_s
        return True

    def promise(self, claim: Claim, due_s: float) -> None:
        """Note the deadline of an entry that is held."""
        self._held[claim] = due_s

    def due_s(self) -> list[float]:
        """Return the deadline of each entry that is held now; may be called from any thread."""
        return list(self._held.values())

    def held(self) -> list[Claim]:
        """Return what is held now; may be called from any thread."""
        return list(self._held)

    def release(self, claims: Iterable[Claim]) -> None:
        """Note that entries were committed or discarded."""
        for claim in claims:
            self._held.pop(claim, None)
        self.releases += 1


class Watchdog:
    """What is in progress, and since when: leases are renewed only while none of it takes too long."""

    def __init__(self) -> None:
        self._begun_s: dict[Hashable, float] = {}

    def begin(self, what: Hashable, now_s: float) -> None:
        """Note that ``what`` begins, or begins again."""
        self._begun_s[what] = now_s

    def end(self, what: Hashable) -> None:
        """Note that it has ended."""
        self._begun_s.pop(what, None)

    @property
    def is_under_way(self) -> bool:
        """Whether anything is."""
        return bool(self._begun_s)

    def longest_s(self, now_s: float) -> float:
        """Return how long the oldest has taken so far; 0 if nothing is in progress."""
        begun_s = list(self._begun_s.values())
        return max(0.0, now_s - min(begun_s)) if begun_s else 0.0
