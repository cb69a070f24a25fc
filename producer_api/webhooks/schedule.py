"""When a webhook is tried again, and when it is given up. Pure: time and chance are arguments.

Waits grow exponentially and are drawn anew between zero and their bound ("full jitter"), so that receivers that were
away do not get everything at once when they are back:
https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Final

FIRST_WAIT_S: Final = 5.0
FACTOR: Final = 4.0
LONGEST_WAIT_S: Final = 6 * 3600.0
MOST_ATTEMPTS: Final = 10
LONGEST_S: Final = 24 * 3600.0
"""An event that is older is given up, however few attempts its receiver's other events left it."""

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 300.0

GONE: Final = 410


class Verdict(Enum):
    """What an answer's status means for the event."""

    DELIVERED = "delivered"
    RETRY = "retry"
    GIVE_UP = "give up"


def verdict(status: int) -> Verdict:
    """Judge a status: 2xx is delivered; 410 says that nobody wants it any more. All others may be repaired: redirects,
    which are not followed, other 4xx, as after a deployment or a rotated secret, and 5xx."""
    if 200 <= status < 300:
        return Verdict.DELIVERED
    return Verdict.GIVE_UP if status == GONE else Verdict.RETRY


def bound_s(attempts: int) -> float:
    """Return the longest wait after so many attempts: 5 s, 20 s, 80 s, … 6 hours."""
    return min(LONGEST_WAIT_S, FIRST_WAIT_S * math.pow(FACTOR, attempts - 1))


def wait_s(attempts: int, chance: float, retry_after_s: float | None = None) -> float | None:
    """Return how long to wait for the next attempt; None if this was the last.

    Args:
        attempts: made so far, at least 1.
        chance: between 0 and 1.
        retry_after_s: what the receiver asked for; up to six hours it is respected, and up to a tenth comes on top.
    """
    if attempts >= MOST_ATTEMPTS:
        return None
    drawn_s = chance * bound_s(attempts)
    asked_s = min(retry_after_s or 0.0, LONGEST_WAIT_S)
    return max(drawn_s, asked_s * (1 + chance / 10))


def pause_s(failures: int) -> float:
    """Return how long a host rests that could not be reached so many times in a row: 1 s, 2 s, 4 s, … five minutes."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * math.pow(2, min(failures - 1, 10)))


def retry_after_s(text: str | None, now_s: float) -> float | None:
    """Read a ``Retry-After`` header, which is a number of seconds or a date; None if it is neither, or absent."""
    if text is None:
        return None
    if text.isdecimal() and text.isascii():
        return float(text[:10])
    try:
        date = parsedate_to_datetime(text)
        wait_s = (date if date.tzinfo else date.replace(tzinfo=UTC)) - datetime.fromtimestamp(now_s, UTC)
    except (ValueError, OverflowError):
        return None
    return max(0.0, wait_s.total_seconds())
