"""What the ring says of the last seconds: what other front ends have counted, and what nobody has waited for. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

from producer_api.console.feed.counts import Counts, Place

from .merging import Merged
from .rows import Row

RECENT_SLOTS: Final = 2
KEPT_ROWS: Final = 256

Part = tuple[float, dict[Place, Counts]]
"""Seconds, and what was counted in them."""


class Lately:
    """Keeps the latest rows of each model.

    Args:
        who: the front end that asks; it knows its own counts better.
    """

    def __init__(self, who: str) -> None:
        self._who = who
        self._rows: dict[str, deque[Row]] = {}
        self.after: dict[str, bytes] = {}

    def take(self, found: Mapping[str, Iterable[tuple[bytes, Row]]]) -> None:
        """Take rows that were written since the last time; models that are not among them are forgotten."""
        for model in self._rows.keys() - found.keys():
            del self._rows[model]
            self.after.pop(model, None)
        for model, some in found.items():
            rows = self._rows.setdefault(model, deque(maxlen=KEPT_ROWS))
            for entry_id, row in some:
                rows.append(row)
                self.after[model] = entry_id

    def parts(self, last: int) -> list[Part]:
        """Return what each other front end has counted in the latest slot it has written, if that is one of the last.

        Args:
            last: the slot that has just ended.
        """
        latest: dict[tuple[str, str], Row] = {}
        for model, rows in self._rows.items():
            for row in rows:
                if row.who != self._who and last - RECENT_SLOTS < row.slot <= last + 1 and row.lanes:
                    latest[row.who, model] = row
        return [
            (row.covered_ms / 1000, {(model, lane): one.counts() for lane, one in row.lanes.items()})
            for (_, model), row in latest.items()
        ]

    def others(self, last: int) -> dict[Place, float]:
        """Return how many requests of each lane ended per second that no front end has waited for.

        The latest slot counts of which that is known: what was written of the last one may not have been read yet.
        """
        found = {}
        for model, rows in self._rows.items():
            merged = Merged(last - RECENT_SLOTS, last + 1)
            merged.take(rows)
            known = (slot for at in range(last + 1, last - RECENT_SLOTS, -1) if (slot := merged.slots.get(at)))
            slot = next((slot for slot in known if slot.done), None)
            if slot is not None:
                rates = {lane: slot.others(lane) for lane in slot.done}
                found.update({(model, lane): rate for lane, rate in rates.items() if rate})
        return found
