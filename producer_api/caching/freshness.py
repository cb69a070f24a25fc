"""What ``Cache-Control`` of a request says (RFC 9111, section 5.2.1). Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

MOST_HEADER_BYTES = 256
"""A longer header is read up to here."""

MOST_DIGITS = 10


@dataclass(frozen=True, slots=True)
class Freshness:
    """Which answers a client takes.

    Attributes:
        may_read: it takes one that was made for another request.
        may_store: others may get the one that is made for it; without that it takes none of others, either.
        max_age_s: older ones it does not take.
    """

    may_read: bool = True
    may_store: bool = True
    max_age_s: float = math.inf


ANY = Freshness()


def freshness_of(header: bytes | None) -> Freshness:
    """Read the header; None or a directive that nobody here knows asks for nothing.

    ``max-age`` that is no number counts as 0: whoever sent it wants something fresh.
    """
    if header is None:
        return ANY
    may_read, may_store, max_age_s = True, True, math.inf
    for directive in header[:MOST_HEADER_BYTES].lower().split(b","):
        name, _, value = directive.strip().partition(b"=")
        if name == b"no-store":
            may_read = may_store = False
        elif name == b"no-cache":
            may_read = False
        elif name == b"max-age":
            digits = value.strip(b'" ')
            max_age_s = min(max_age_s, int(digits) if digits.isdigit() and len(digits) <= MOST_DIGITS else 0)
    return Freshness(may_read and max_age_s > 0, may_store, max_age_s)
