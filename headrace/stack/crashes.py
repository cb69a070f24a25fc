"""Consumers that died and have not lived well since. Pure: time comes in as an argument."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from headrace.table import printable

from .child import ChildSpec
from .restarts import Backoff

LONGEST_WHY = 300


@dataclass(frozen=True, slots=True)
class Crash:
    """One consumer that died.

    Attributes:
        exit_code: as a shell reports it.
        deaths: how many there were in a row.
        delay_s: the pause before it is started again.
        retry_at_s: when that is, on the monotonic clock.
        why: the last line it printed; may be empty.
    """

    spec: ChildSpec
    exit_code: int
    deaths: int
    delay_s: float
    retry_at_s: float
    why: str


class Crashes:
    """Remembers each consumer's deaths and decides when it is started again.

    Args:
        on_change: is given all crashes, by the name of the consumer, whenever one comes or goes.
    """

    def __init__(
        self,
        new_backoff: Callable[[], Backoff],
        on_change: Callable[[Mapping[str, Crash]], None],
    ) -> None:
        self._new_backoff, self._on_change = new_backoff, on_change
        self._backoffs: dict[str, Backoff] = {}
        self._crashes: dict[str, Crash] = {}

    def died(self, spec: ChildSpec, exit_code: int, why: str, lived_s: float, now_s: float) -> Crash:
        """Record a death at ``now_s`` of a process that lived for ``lived_s``."""
        backoff = self._backoffs.setdefault(spec.name, self._new_backoff())
        restart = backoff.died(lived_s)
        retry_at_s = now_s + restart.delay_s
        crash = Crash(spec, exit_code, restart.deaths, restart.delay_s, retry_at_s, printable(why[:LONGEST_WHY]))
        self._crashes[spec.name] = crash
        self._tell()
        return crash

    def recovered_after_s(self, spec: ChildSpec) -> float | None:
        """Return how long a consumer that runs again must live to count as recovered; None when it has not crashed."""
        return self._backoffs[spec.name].recovered_after_s() if spec.name in self._crashes else None

    def recovered(self, spec: ChildSpec) -> bool:
        """Record that a consumer lives well; says whether it had crashed."""
        if self._crashes.pop(spec.name, None) is None:
            return False
        self._tell()
        return True

    def _tell(self) -> None:
        self._on_change(dict(self._crashes))
