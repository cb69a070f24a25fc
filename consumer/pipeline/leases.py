"""The lease book: which entries this consumer holds, so that it never runs one twice; and what is in progress. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from consumer.queue.interface import Claim

MOST_CRASHES = 2
"""An entry that ended so many consumers while it ran alone is not tried again."""

MOST_PUT_OFF = 1000
"""Entries that are remembered as put off: one for each outage that met one, and another consumer may have it since."""


class LeaseBook:
    """Entries between claim and commit.

    Attributes:
        releases: how often some were released: while it does not grow, nothing is answered.
    """

    def __init__(self) -> None:
        self._held: dict[Claim, float] = {}
        self._put_off: dict[Claim, None] = {}
        self.releases = 0

    def __len__(self) -> int:
        return len(self._held)

    def holds(self, claim: Claim) -> bool:
        """Say whether an entry is between claim and commit here."""
        return claim in self._held

    def take(self, claim: Claim, now_s: float = 0.0, *, isolated: bool = False) -> bool:
        """Note that an entry was claimed; False if it must not run: it is held already, or was put off.

        Until :meth:`promise` says more it should be answered at once.

        Args:
            isolated: it was taken over and is to run alone, as what was put off may.
        """
        if claim in self._held or (claim in self._put_off and not isolated):
            return False
        self._put_off.pop(claim, None)
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

    def put_off(self, claim: Claim) -> None:
        """Release an entry that was taken over and could not begin alone: it is not to run in company either.

        Redis still lists it as this consumer's, so it may be read again before its lease has run out.
        """
        self._put_off[claim] = None
        if len(self._put_off) > MOST_PUT_OFF:
            self._put_off.pop(next(iter(self._put_off)), None)
        self.release([claim])

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
