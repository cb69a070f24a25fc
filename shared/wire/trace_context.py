"""W3C trace context, version 00: ``traceparent`` names the trace and the span that a request belongs to.

https://www.w3.org/TR/trace-context/#traceparent-header
"""

from __future__ import annotations

import re

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})\Z")


def parts(traceparent: str | None) -> tuple[str, str, int] | None:
    """Return trace id, span id (hexadecimal) and flags; None when there is none or it is malformed."""
    found = _TRACEPARENT.match(traceparent) if traceparent else None
    return (found[1], found[2], int(found[3], 16)) if found else None


def trace_id(traceparent: str | None) -> str | None:
    """Return the id of the trace, 32 hexadecimal digits; None when there is none."""
    found = parts(traceparent)
    return found[0] if found else None


def sampled_trace_id(traceparent: str | None) -> str | None:
    """Return the id of the trace if it is sampled, that is, recorded somewhere; None otherwise."""
    found = parts(traceparent)
    return found[0] if found and found[2] & 1 else None
