"""What a consumer says of itself before it serves, and when it cannot: its model loads, or failed to.

It is in a hash of the model's namespace (``keys.starts``), a field for each place that a consumer has, so that what a
consumer says replaces what its predecessor said. Which workers live is elsewhere: ``keys.workers``.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

KEPT_MS = 3_600_000
"""The hash goes this long after the last word of any consumer."""

MOST_DETAIL = 500
"""Characters of ``detail`` that are kept."""


class Phase(StrEnum):
    """How far a consumer is.

    Attributes:
        LOADING: its model is being loaded, compared, warmed up or rehearsed.
        FAILED: the model cannot be loaded; the consumer has ended.
        READY: it serves; ``keys.workers`` says whether it lives.
    """

    LOADING = "loading"
    FAILED = "failed"
    READY = "ready"


class Start(msgspec.Struct, frozen=True):
    """One consumer's start.

    Attributes:
        worker: its name.
        since_ms: when it began to load, on Redis's clock.
        seen_ms: when it said this, on Redis's clock.
        detail: where in its code it loads, or why it failed; one sentence.
    """

    worker: str
    phase: Phase
    since_ms: int
    seen_ms: int
    detail: str = ""

    def is_current(self, now_ms: int, alive_ms: int) -> bool:
        """Say whether it is worth showing: a failure, or a loading that was spoken of within ``alive_ms``."""
        return self.phase is Phase.FAILED or (self.phase is Phase.LOADING and now_ms - self.seen_ms <= alive_ms)


def encode(start: Start) -> bytes:
    """Encode for a field of the hash."""
    return msgspec.json.encode(msgspec.structs.replace(start, detail=start.detail[:MOST_DETAIL]))


def decode(fields: Mapping[bytes, bytes]) -> dict[str, Start]:
    """Return the starts by place; what cannot be read, because another version wrote it, is left out."""
    found = {}
    for place, value in fields.items():
        try:
            found[place.decode()] = msgspec.json.decode(value, type=Start)
        except (msgspec.MsgspecError, UnicodeError):
            continue
    return dict(sorted(found.items()))
