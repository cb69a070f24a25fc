"""What a search for the fastest runtime tells the program that started it: one JSON object a line."""

from __future__ import annotations

import msgspec

from shared.state.cards import Tuning


class Waiting(msgspec.Struct, frozen=True, tag="waiting"):
    """Another process searches for this model; use its result."""


class Trying(msgspec.Struct, frozen=True, tag="trying"):
    """A runtime and a precision are tried next.

    Attributes:
        used_s: seconds of processor time that the search has taken so far.
        budget_s: those that it may take.
    """

    runtime: str
    precision: str
    used_s: float
    budget_s: float


class Found(msgspec.Struct, frozen=True, tag="found"):
    """The search is over.

    Attributes:
        runtime, precision: to be used.
        preferred: rows beyond which a batch gets hardly more done.
        searched_s: seconds of processor time that the search took.
        is_new: whether this search made it; else an earlier one did.
        folder: where it is kept.
    """

    runtime: str
    precision: str
    preferred: int
    searched_s: float
    is_new: bool
    folder: str
    tuning: Tuning


Step = Waiting | Trying | Found


def encode(step: Step) -> bytes:
    """Return the line of a step, with its end."""
    return msgspec.json.encode(step) + b"\n"


def decode(line: bytes) -> Step | None:
    """Return the step of a line; None for a line that is none."""
    try:
        step: Step = msgspec.json.decode(line, type=Step)
    except (ValueError, RecursionError):
        return None
    return step
