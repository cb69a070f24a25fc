"""What ``hr:{m}:lanes`` says of a model's lanes: their limits and weights. Pure.

A value is ``LIMIT,WEIGHT`` where an operator has set it. ``default`` has the plain ``LIMIT`` of the consumers' settings
until then. What a lane may take in bytes stands in a field of its own, ``LANE:bytes``, which older versions pass over;
so do what it may take in prompt tokens, ``LANE:tokens``, that an operator has paused it, ``LANE:paused``, and its kind,
``LANE:kind``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from shared.keys import DEFAULT_LANE
from shared.names import is_name

MOST_LANES = 64
"""Most lanes of a model: each is looked at before each batch. Those beyond, by name, are not served."""

MOST_LIMIT = 10_000_000
LEAST_BYTES, MOST_BYTES = 1 << 20, 1 << 50
MOST_TOKENS = 1_000_000_000_000
LEAST_WEIGHT, MOST_WEIGHT = 0.001, 1000.0

_VALUE = re.compile(rb"([0-9]{1,8})(?:,([0-9]{1,4}(?:\.[0-9]{1,6})?))?\Z")


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """One lane.

    Attributes:
        limit: requests it may hold, None for as many as the settings say.
        weight: its share while lanes compete, relative to the others'.
    """

    limit: int | None = None
    weight: float = 1.0


MOST_DIGITS = 16
"""Of a number that others may have written into Redis. Longer ones are none of ours, and thousands cannot be read."""


def parse(value: bytes) -> LaneSettings:
    """Read one value; one that is none of ours counts as not set."""
    match = _VALUE.match(value)
    if match is None or match[2] is None:
        return LaneSettings()
    limit, weight = int(match[1]), float(match[2])
    if not (1 <= limit <= MOST_LIMIT and LEAST_WEIGHT <= weight <= MOST_WEIGHT):
        return LaneSettings()
    return LaneSettings(limit, weight)


def encode(limit: int, weight: float) -> str:
    """Write one value.

    Raises:
        ValueError: limit or weight is out of range.
    """
    if not 1 <= limit <= MOST_LIMIT:
        raise ValueError(f"The limit must lie between 1 and {MOST_LIMIT}, not {limit}.")
    if not (math.isfinite(weight) and LEAST_WEIGHT <= weight <= MOST_WEIGHT):
        raise ValueError(f"The weight must lie between {LEAST_WEIGHT:g} and {MOST_WEIGHT:g}, not {weight:g}.")
    return f"{limit},{weight:.6f}".rstrip("0").rstrip(".")


def bytes_field(lane: str) -> str:
    """Return the field that says what a lane may take, in bytes."""
    return f"{lane}:bytes"


def encode_bytes(limit_bytes: int) -> str:
    """Write what a lane may take.

    Raises:
        ValueError: it is out of range.
    """
    if not LEAST_BYTES <= limit_bytes <= MOST_BYTES:
        raise ValueError(f"The limit in bytes must lie between {LEAST_BYTES} and {MOST_BYTES}, not {limit_bytes}.")
    return str(limit_bytes)


def tokens_field(lane: str) -> str:
    """Return the field that says what a lane's requests may have in prompt tokens."""
    return f"{lane}:tokens"


def encode_tokens(most_tokens: int) -> str:
    """Write what a lane's requests may have in prompt tokens, 0 for any number.

    Raises:
        ValueError: it is out of range.
    """
    if not 0 <= most_tokens <= MOST_TOKENS:
        raise ValueError(f"The limit in prompt tokens must lie between 0 and {MOST_TOKENS}, not {most_tokens}.")
    return str(most_tokens)


PAUSED = b"1"


def paused_field(lane: str) -> str:
    """Return the field that says that consumers claim nothing of a lane, with ``1``; missing otherwise."""
    return f"{lane}:paused"


def paused(pairs: Iterable[tuple[bytes, bytes]]) -> frozenset[str]:
    """Read from the hash which lanes consumers claim nothing of."""
    names = (raw.decode(errors="replace").partition(":") for raw, value in pairs if value == PAUSED)
    return frozenset(lane for lane, _, what in names if what == "paused" and is_name(lane))


BATCH, ORDINARY = KINDS = ("batch", "ordinary")
"""Kinds of lanes. Requests of the first run while nothing else waits; ``default`` is never one."""


def kind_field(lane: str) -> str:
    """Return the field that says what kind a lane is, ``batch``; missing for an ordinary one."""
    return f"{lane}:kind"


def batch_lanes(pairs: Iterable[tuple[bytes, bytes]]) -> frozenset[str]:
    """Read from the hash which lanes are of kind ``batch``; a kind of a later version counts as ordinary."""
    names = (raw.decode(errors="replace").partition(":") for raw, value in pairs if value == BATCH.encode())
    return frozenset(lane for lane, _, what in names if what == "kind" and is_name(lane) and lane != DEFAULT_LANE)


@dataclass(frozen=True, slots=True)
class LaneBytes:
    """What a lane takes, in bytes and in prompt tokens, as ``hr1_bytes`` says.

    Attributes:
        queued: its requests, waiting and running.
        stored: its stored replies.
        limit: what both may take together.
        expires_s: seconds until the oldest stored reply expires; 0 where there is none.
        tokens: prompt tokens of its requests, as estimated from their bytes.
        most_tokens: limit of these; 0 for none.
        kilotoken_bytes: bytes that a thousand of them take; 0 where the model counts none.
    """

    queued: int = 0
    stored: int = 0
    limit: int = MOST_BYTES
    expires_s: int = 0
    tokens: int = 0
    most_tokens: int = 0
    kilotoken_bytes: int = 0

    @property
    def left(self) -> int:
        """What more it may take."""
        return max(0, self.limit - self.queued - self.stored)

    def tokens_in(self, count_bytes: int) -> float:
        """Return how many prompt tokens so many bytes of requests have; 0 where the model counts none."""
        return count_bytes * 1000 / self.kilotoken_bytes if self.kilotoken_bytes else 0.0


def bytes_from(answer: object) -> LaneBytes | None:
    """Read what ``hr1_bytes`` answered; None where an older version of the functions does not have it.

    One of before there were tokens says four; a later version may say more behind the seven.
    """
    known = answer[:7] if isinstance(answer, list) else ()
    return LaneBytes(*known) if len(known) >= 4 and all(isinstance(one, int) for one in known) else None


def from_pairs(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, LaneSettings]:
    """Read the hash: every lane by name, ``default`` first, whether it is there or not."""
    found = {raw.decode(errors="replace"): parse(value) for raw, value in pairs}
    default = found.pop(DEFAULT_LANE, LaneSettings())
    others = sorted(name for name in found if is_name(name))[: MOST_LANES - 1]
    return {DEFAULT_LANE: default, **{name: found[name] for name in others}}
