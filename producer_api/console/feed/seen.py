"""What Redis says of models, workers and lanes beyond the catalogue: facts, and how answers are read. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Final

from msgspec import Struct

from shared.names import is_name
from shared.state.lanes import MOST_DIGITS

MOST_TEXT: Final = 200
"""Characters of a text that a worker says of itself; whoever may write there may write anything."""


class WorkerSeen(Struct, frozen=True):
    """A live worker: when it was last seen on Redis's clock, and some or all fields of its hash."""

    name: str
    at_ms: int
    fields: Mapping[str, str]

    def text(self, name: str) -> str | None:
        """Return a field; None where it is empty or unknown."""
        return self.fields.get(name) or None

    def number(self, name: str) -> float | None:
        """Return a field that is a number and not negative; None where it is none."""
        try:
            value = float(self.fields.get(name, "")[:MOST_DIGITS])
        except ValueError:
            return None
        return value if isfinite(value) and value >= 0 else None

    def whole(self, name: str) -> int | None:
        """Return a field that is a whole number."""
        value = self.number(name)
        return None if value is None else int(value)


class LaneSeen(Struct, frozen=True):
    """A lane of the chosen model: requests that run, the time of the oldest one on Redis's clock, and dead letters."""

    running: int | None = None
    oldest_ms: int | None = None
    dead: int | None = None


class LaneSettingsSeen(Struct, frozen=True):
    """What a model's hash of lanes says."""

    weights: Mapping[str, float] = {}
    paused: frozenset[str] = frozenset()
    batch: frozenset[str] = frozenset()


class ModelSeen(Struct, frozen=True):
    """One model.

    Attributes:
        lanes: of a chosen model; empty for others.
        dead: dead letters of all lanes; None where that is not known.
    """

    workers: Sequence[WorkerSeen] = ()
    settings: LaneSettingsSeen = LaneSettingsSeen()
    lanes: Mapping[str, LaneSeen] = {}
    dead: int | None = None


class Seen(Struct, frozen=True):
    """Everything at one moment of Redis's clock; nothing is known of models while Redis is away."""

    at_ms: int
    is_away: bool = False
    memory_used: int | None = None
    memory_limit: int | None = None
    evicts: bool = False
    models: Mapping[str, ModelSeen] = {}


def milliseconds(clock: Any) -> int:
    """Read what TIME answered."""
    return int(clock[0]) * 1000 + int(clock[1]) // 1000


def entry_ms(entry_id: Any) -> int | None:
    """Return the time in an entry's id."""
    if not isinstance(entry_id, bytes):
        return None
    head = entry_id.partition(b"-")[0]
    return int(head) if head.isdigit() and len(head) <= MOST_DIGITS else None


def memory_of(info: Any) -> tuple[int | None, int | None, bool]:
    """Read used memory, its limit, and whether the server evicts keys, from INFO memory; None for what it hides."""
    if not isinstance(info, bytes):
        return None, None, False
    fields = dict(line.split(b":", 1) for line in info.splitlines() if b":" in line)
    used, limit = (_count(fields.get(name)) for name in (b"used_memory", b"maxmemory"))
    return used, limit or None, fields.get(b"maxmemory_policy", b"noeviction") != b"noeviction"


def _count(text: bytes | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None


def scored_names(answer: Any) -> list[tuple[str, int]]:
    """Read names and scores from what ZRANGE WITHSCORES answered."""
    if not isinstance(answer, list):
        return []
    pairs = zip(answer[::2], answer[1::2], strict=False)
    found = [(raw.decode(errors="replace"), int(float(score))) for raw, score in pairs]
    return [(name, score) for name, score in found if is_name(name)]


def texts(names: Sequence[str], answer: Any) -> dict[str, str]:
    """Read what HMGET answered of these fields."""
    if not isinstance(answer, list):
        return {}
    return {
        name: value[:MOST_TEXT].decode(errors="replace")
        for name, value in zip(names, answer, strict=False)
        if isinstance(value, bytes) and value
    }
