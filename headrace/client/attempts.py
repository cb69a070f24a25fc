"""When to try again, and when not. Pure: time comes in as an argument, in seconds."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from .errors import CONNECTION_FAILED, HeadraceError

AGAIN = frozenset({429, 502, 503, 504})
"""Statuses after which the same request with the same id may succeed; 502 and 504 are also those of proxies."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How a client tries again: after 0.1 s, then twice as long each time, and never sooner than ``Retry-After``.

    A pause is drawn between half of that and all of it, so that many clients do not return together.

    Attributes:
        attempts: at most so many, the first one included; 1 never tries again.
        first_s: longest pause after the first attempt.
        longest_s: longest pause after any, unless the service asks for more.
        jitter: returns numbers from 0 up to 1.

    Raises:
        ValueError: there is no attempt, or a pause is negative.
    """

    attempts: int = 6
    first_s: float = 0.1
    longest_s: float = 5.0
    jitter: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts must be at least 1, not {self.attempts}.")
        if not (self.first_s >= 0 and self.longest_s >= 0):
            raise ValueError("first_s and longest_s must be at least 0.")


class Attempts:
    """The attempts of one request.

    Args:
        begun_s: when it began.
        timeout_s: how long all attempts may take together.
    """

    def __init__(self, retries: Retries, begun_s: float, timeout_s: float) -> None:
        if not timeout_s > 0:
            raise ValueError(f"timeout_s must be above 0, not {timeout_s:g}.")
        self.timeout_s = timeout_s
        self._retries, self._deadline_s, self._failed = retries, begun_s + timeout_s, 0

    def left_s(self, now_s: float) -> float:
        """Return how much time is left."""
        return max(0.0, self._deadline_s - now_s)

    def pause_s(self, error: HeadraceError, now_s: float) -> float | None:
        """Note that an attempt failed; return how long to wait before the next, None if there is to be none."""
        self._failed += 1
        may_succeed = error.status in AGAIN or (error.status is None and error.code == CONNECTION_FAILED)
        if not may_succeed or self._failed >= self._retries.attempts:
            return None
        longest_s = min(self._retries.longest_s, self._retries.first_s * 2.0 ** (self._failed - 1))
        pause_s = longest_s * (0.5 + 0.5 * self._retries.jitter())
        if error.retry_after_s is not None:
            pause_s += error.retry_after_s
        return pause_s if now_s + pause_s < self._deadline_s else None
