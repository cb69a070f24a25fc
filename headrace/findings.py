"""What the doctor finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        check: name of the check.
        state: ``ok``, ``warning``, ``problem``, or ``unknown`` when we may not look.
        detail: what was found, and what to do when it is not well.
    """

    check: str
    state: str
    detail: str
