"""What became of each request: columns that the engine fills, exactly one outcome per request."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["ok", "http", "timeout", "connection", "malformed", "dropped", "interrupted"]

OK: Final = 0
TIMEOUT: Final = 1
CONNECTION: Final = 2
MALFORMED: Final = 3
DROPPED: Final = 4
INTERRUPTED: Final = 5
OPEN: Final = 0xFFFF
"""Not an outcome: the request is still under way."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One way to end. `status` and `code` belong to `http`: the answer's status, and the code in its body if any."""

    kind: Kind
    status: int | None = None
    code: str | None = None


class Ledger:
    """Times in seconds on one monotonic clock; NaN where a request never came so far.

    Columns: `planned_s` (when it was due), `picked_s` (when the generator turned to it), `sent_s` (when its bytes were
    written), `done_s` (when its outcome was known), `outcome` (an index into `outcomes`), `payload`, `warm` (1 for a
    request of the warm-up).
    """

    __slots__ = (
        "_codes",
        "done_s",
        "outcome",
        "outcomes",
        "payload",
        "picked_s",
        "planned_s",
        "resent",
        "sent_s",
        "warm",
    )

    def __init__(self) -> None:
        self.planned_s, self.picked_s, self.sent_s, self.done_s = (array("d") for _ in range(4))
        self.outcome, self.payload, self.warm = array("H"), array("L"), bytearray()
        self.resent = 0
        kinds: tuple[Kind, ...] = ("ok", "timeout", "connection", "malformed", "dropped", "interrupted")
        self.outcomes = [Outcome(kind) for kind in kinds]
        self._codes: dict[tuple[int, str | None], int] = {}

    def __len__(self) -> int:
        return len(self.planned_s)

    def open(self, planned_s: float, picked_s: float, payload: int, warm: bool) -> int:
        """Enter a request that is due and return its index."""
        self.planned_s.append(planned_s)
        self.picked_s.append(picked_s)
        self.sent_s.append(math.nan)
        self.done_s.append(math.nan)
        self.outcome.append(OPEN)
        self.payload.append(payload)
        self.warm.append(warm)
        return len(self.planned_s) - 1

    def http_outcome(self, status: int, code: str | None) -> int:
        """Return the outcome for an error status and the code in its body; the thousandth distinct code is dropped."""
        key = (status, code if len(self._codes) < 1000 else None)
        found = self._codes.get(key)
        if found is None:
            found = self._codes[key] = len(self.outcomes)
            self.outcomes.append(Outcome("http", *key))
        return found

    def close(self, index: int, outcome: int, done_s: float) -> bool:
        """Give a request its outcome; False, changing nothing, when it already has one."""
        if self.outcome[index] != OPEN:
            return False
        self.outcome[index] = outcome
        self.done_s[index] = done_s
        return True
