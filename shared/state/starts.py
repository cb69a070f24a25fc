"""What a consumer says of itself before it serves, and when it cannot: its model loads, or failed to.

It is in a hash of the model's namespace (``keys.starts``), a field for each place that a consumer has, so that what a
consumer says replaces what its predecessor said. Which workers live is elsewhere: ``keys.workers``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum

import msgspec

KEPT_MS = 7 * 24 * 3_600_000
"""The hash goes this long after the last word of any consumer: it says how long a start takes."""

SHOWN_MS = 3_600_000
"""A failure is worth showing for this long."""

ALIVE_MS = 10_000
"""A consumer says every second that it loads; one that has been silent for so long is gone."""

PRESUMED_MS = 10_000
"""What a start takes where no consumer of the model has told yet."""

FIRST_BEAT_MS = 5000
"""Within this time the first heartbeat follows on the word that a model is ready."""

MOST_MS = 3_600_000
"""No start is expected to take longer."""

MOST_DETAIL = 500
"""Characters of ``detail`` that are kept."""

MOST_PLACES = 64
"""Fields that are kept: an engine that gives every container a name of its own must not make the hash grow."""


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
        took_ms: what the last start on this place took that came to serving; 0 when there was none.
        failed: how many starts on this place, one after the other, ended before they served.
    """

    worker: str
    phase: Phase
    since_ms: int
    seen_ms: int
    detail: str = ""
    took_ms: int = 0
    failed: int = 0

    def is_current(self, now_ms: int) -> bool:
        """Say whether to show it: a recent failure, or a loading that was reported within ``ALIVE_MS``."""
        limits_ms = {Phase.FAILED: SHOWN_MS, Phase.LOADING: ALIVE_MS, Phase.READY: -1}
        return now_ms - self.seen_ms <= limits_ms[self.phase]

    def is_under_way(self, now_ms: int) -> bool:
        """Say whether its consumer loads, or has told a moment ago that it is ready: its first heartbeat follows."""
        if self.phase is Phase.READY:
            return now_ms - self.seen_ms <= FIRST_BEAT_MS
        return self.phase is Phase.LOADING and self.is_current(now_ms)

    def successor(self) -> tuple[int, int]:
        """Return ``took_ms`` and ``failed`` of the next start on this place."""
        return self.took_ms, 0 if self.phase is Phase.READY else self.failed + 1


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


def surplus(fields: Mapping[bytes, bytes], most: int = MOST_PLACES) -> list[bytes]:
    """Return the fields beyond ``most`` that spoke longest ago; those that cannot be read come first."""
    seen = {place.encode(): start.seen_ms for place, start in decode(fields).items()}
    return sorted(fields, key=lambda place: seen.get(place, -1))[: max(0, len(fields) - most)]


def ready_in_ms(found: Mapping[str, Start], now_ms: int, hopeless: Collection[str] = ()) -> int | None:
    """Return how long it probably takes until a consumer serves that loads now; None when none loads.

    Args:
        found: the starts by place.
        now_ms: Redis's clock.
        hopeless: places from which nothing is expected.
    """
    usual_ms = usual(found)
    left = [
        left_ms(one.took_ms if one.took_ms > 0 else usual_ms, now_ms - one.since_ms)
        for place, one in found.items()
        if one.phase is Phase.LOADING and one.is_current(now_ms) and place not in hopeless
    ]
    return min(left, default=None)


def usual(found: Mapping[str, Start]) -> int:
    """Return what a start takes on a place that has not told: as long as on the place that spoke last."""
    told = [(one.seen_ms, one.took_ms) for one in found.values() if one.took_ms > 0]
    return max(told)[1] if told else PRESUMED_MS


def left_ms(usual_ms: int, passed_ms: int) -> int:
    """Return what is probably left of a start, at least a second.

    One that takes longer than usual is expected to take a quarter longer than so far: the longer it has taken, the less
    is known of its end.
    """
    passed_ms = max(0, passed_ms)
    left = usual_ms - passed_ms if passed_ms < usual_ms else passed_ms // 4
    return min(MOST_MS, max(1000, left))
