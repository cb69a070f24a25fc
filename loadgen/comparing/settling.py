"""[I/O] Waits until a stack has found its fastest runtime: before, a measurement would be of two things at once."""

from __future__ import annotations

import time
from typing import Final

from loadgen.errors import LoadgenError
from loadgen.load.service import NotServed, Unreachable, read_card
from loadgen.scenario import Target

_LOOK_S: Final = 0.5
_LOOKS: Final = 6
"""So many checks in a row must find no search: consumers switch one by one, and each of them writes the card."""

_ASK_S: Final = 5.0


def settle(target: Target, model: str, limit_s: float, look_s: float = _LOOK_S) -> bool:
    """Wait until none of the model's consumers looks for a faster runtime; False when the time is out.

    A version that has no tuning, or a model that needs none, is settled at once.
    """
    end_s, calm = time.monotonic() + limit_s, 0
    while calm < _LOOKS:
        if time.monotonic() > end_s:
            return False
        state = _state(target, model)
        if not state:
            return True
        calm = 0 if state == "searching" else calm + 1
        time.sleep(look_s)
    return True


def _state(target: Target, model: str) -> str:
    """Return how far the tuning is, as the card says; empty where it says nothing."""
    try:
        card = read_card(target, model, _ASK_S) or {}
    except NotServed:  # between two runtimes
        return "searching"
    except (Unreachable, LoadgenError):  # the measurement will find out why
        return ""
    tuning = card.get("tuning")
    return str(tuning.get("state", "")) if isinstance(tuning, dict) else ""
