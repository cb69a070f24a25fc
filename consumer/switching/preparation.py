"""Searching before a switch: for a precision that only an exported network has, while the model still serves.

The heartbeat's thread asks at each heartbeat until there is an answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from consumer.tuning.store import Store
from consumer.tuning.tuner import SearchRequest, Tuner

SEARCHED = ("int8",)
"""Precisions that torch has on no device."""


@dataclass(frozen=True, slots=True)
class Sought:
    """What is searched for, and where the result will be."""

    store: Store
    search_request: SearchRequest


class Preparation:
    """Starts the search that a desired precision needs.

    Args:
        seek: says what is to be searched for; None where no search can help.
    """

    def __init__(self, tuner: Tuner, seek: Callable[[str], Sought | None]) -> None:
        self._tuner, self._seek = tuner, seek
        self._sought: dict[str, Sought | None] = {}

    def refusal(self, precision: str) -> str | None:
        """Say in a sentence why a precision cannot be had; empty when it can, None while that is being found out."""
        if precision not in SEARCHED:
            return ""
        if precision not in self._sought:
            self._sought[precision] = self._seek(precision)  # the weights are read for it
        sought = self._sought[precision]
        return "" if sought is None else self._found(precision, sought)

    def _found(self, precision: str, sought: Sought) -> str | None:
        entry = sought.store.find()
        if entry is not None:
            is_had = entry.finding.precision == precision
            return "" if is_had else f"precision {precision} is refused: {entry.finding.refusal}"
        if self._tuner.is_searching:
            return None
        if self._tuner.was_tried(sought.search_request):
            return f"precision {precision} needs a search, which failed. {self._tuner.failure}"
        if not sought.store.is_being_searched():
            self._tuner.begin(sought.search_request)
        return None
