"""What the doctor finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: what was looked at.
        state: ``ok``, ``warning``, ``problem``, or ``unknown`` when we may not look.
        detail: what was found, and what to do when it is not well.
    """

    check: str
    state: str
    detail: str
