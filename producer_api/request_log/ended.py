"""What a front end holds of ended requests until it is written to the request log. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MOST_HELD = 20_000
"""Requests of one model that are held until they are written; what does not fit is not logged."""

End = tuple[Any, ...]
"""The members of :class:`shared.wire.request_log.RequestEnd`, in their order; the last ones may be missing."""


class EndedRequests:
    """Takes a tuple for each request that ended; for the event loop only.

    Attributes:
        dropped: requests that did not fit since the last :meth:`take`, by model.
    """

    def __init__(self) -> None:
        self._of_model: dict[str, list[Any]] = {}
        self.dropped: dict[str, int] = {}

    def note(self, model: str, end: End) -> None:
        """Note one request."""
        held = self._of_model.get(model)
        if held is None:
            held = self._of_model[model] = []
        if len(held) < MOST_HELD:
            held.append(end)
        else:
            self.dropped[model] = self.dropped.get(model, 0) + 1

    def take(self) -> Mapping[str, Sequence[Any]]:
        """Return what is held, by model, and hold nothing."""
        taken, self._of_model = self._of_model, {}
        return taken
