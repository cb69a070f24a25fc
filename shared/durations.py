"""How people write durations, the same in every command. Pure."""

from __future__ import annotations

import re
from typing import Final

_UNITS_S: Final = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_NUMBER: Final = r"[0-9]{1,12}(?:\.[0-9]{1,9})?"
_BARE: Final = re.compile(_NUMBER)
_PARTS: Final = re.compile("".join(rf"(?:(?P<{unit}>{_NUMBER}){unit}(?![a-z]))?" for unit in _UNITS_S))


def parse_duration_s(text: str, least_s: float = 0.0, most_s: float = 86_400.0) -> float:
    """Return the seconds in ``250ms``, ``5s``, ``2m``, ``1m30s``, ``1h`` or ``7d``; a bare number counts seconds.

    Raises:
        ValueError: it is none, or not between the two; one sentence.
    """
    text = text.strip()
    if _BARE.fullmatch(text):
        seconds = float(text)
    else:
        match = _PARTS.fullmatch(text)
        if match is None or not any(match.groups()):
            raise ValueError(f"{text[:40]!r} is not a duration; write 250ms, 5s, 1m30s or 2h.")
        seconds = sum(float(match[unit] or 0) * size_s for unit, size_s in _UNITS_S.items())
    if not least_s <= seconds <= most_s:
        between = f"between {duration(least_s)} and {duration(most_s)}"
        raise ValueError(f"{text[:40]!r} is not a duration {between}.")
    return seconds


def duration(seconds: float) -> str:
    """Write a duration in the largest unit that shows it without a fraction, else in seconds: ``2m``, ``90s``."""
    for unit, size_s in _UNITS_S.items():
        count = seconds / size_s
        if seconds and abs(count - round(count)) < 1e-6 and round(count) >= 1:
            return f"{round(count)}{unit}"
    return f"{seconds:g}s"
