"""What became of each request: columns that the engine fills, exactly one outcome per request."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["ok", "http", "aborted", "timeout", "connection", "malformed", "dropped", "interrupted"]

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
    """One way to end.

    `status` and `code` belong to `http`: the answer's status, and the code in its body if any. `aborted` is an answer
    that began with status 200 and broke off; its `code` is that of the error in it.
    """

    kind: Kind
    status: int | None = None
    code: str | None = None


@dataclass(slots=True)
class Told:
    """What the answer to one request of a workload said, as far as it came. Tokens the service does not tell are None.

    `first_s`, `last_s` are when the first and the last part with a text came, NaN before; `worst_gap_s` is the longest
    time between two parts.
    """

    texts: int = 1
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    first_s: float = math.nan
    last_s: float = math.nan
    worst_gap_s: float = 0.0


class Ledger:
    """Times in seconds on one monotonic clock; NaN where a request never came so far.

    Columns: `planned_s` (when it was due), `picked_s` (when the generator turned to it), `sent_s` (when its bytes were
    written), `done_s` (when its outcome was known), `outcome` (an index into `outcomes`), `payload`, `warm` (1 for a
    request of the warm-up). `told` has what answers to a workload said, by the request's index.

    Args:
        reads_texts: whether it is one of a workload.
    """

    __slots__ = (
        "_codes",
        "done_s",
        "outcome",
        "outcomes",
        "payload",
        "picked_s",
        "planned_s",
        "reads_texts",
        "resent",
        "sent_s",
        "told",
        "warm",
    )

    def __init__(self, reads_texts: bool = False) -> None:
        self.reads_texts = reads_texts
        self.planned_s, self.picked_s, self.sent_s, self.done_s = (array("d") for _ in range(4))
        self.outcome, self.payload, self.warm = array("H"), array("L"), bytearray()
        self.resent = 0
        self.told: dict[int, Told] = {}
        kinds: tuple[Kind, ...] = ("ok", "timeout", "connection", "malformed", "dropped", "interrupted")
        self.outcomes = [Outcome(kind) for kind in kinds]
        self._codes: dict[tuple[int | None, str | None], int] = {}

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
        return self._coded("http", status, code)

    def aborted_outcome(self, code: str | None) -> int:
        """Return the outcome for an answer that broke off, with the code of the error in it."""
        return self._coded("aborted", None, code)

    def _coded(self, kind: Kind, status: int | None, code: str | None) -> int:
        key = (status, code if len(self._codes) < 1000 else None)
        found = self._codes.get(key)
        if found is None:
            found = self._codes[key] = len(self.outcomes)
            self.outcomes.append(Outcome(kind, *key))
        return found

    def close(self, index: int, outcome: int, done_s: float) -> bool:
        """Give a request its outcome; False, changing nothing, when it already has one."""
        if self.outcome[index] != OPEN:
            return False
        self.outcome[index] = outcome
        self.done_s[index] = done_s
        return True
