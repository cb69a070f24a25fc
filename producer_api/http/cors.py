"""Cross-origin requests: which pages of other origins may ask, as the Fetch standard has it. Pure.

https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from __future__ import annotations

from collections.abc import Iterable

from producer_api.inference.codec import Headers

ANY = "*"

_METHODS = b"GET, HEAD, POST, PUT, DELETE"
_TAKEN = (
    b"Authorization, Content-Type, Accept, Idempotency-Key, traceparent, tracestate, "
    b"Prefer, Headrace-Keep, Headrace-Lane, Headrace-Deadline, Headrace-Webhook, Headrace-Webhook-Events, "
    b"Headrace-Explain"
)
_SHOWN = b"X-Request-Id, Retry-After, Location, Preference-Applied, Server-Timing"
_MAX_AGE_S = 600


class Cors:
    """The pages that may ask.

    Args:
        origins: such as ``https://app.example.org``; ``*`` for all. Cookies play no part: keys are sent in a header.
    """

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)
        self._any = ANY.encode() in self._origins

    def headers(self, origin: bytes | None) -> Headers:
        """Headers of every answer to a request with this ``Origin``, errors included."""
        if self._any:
            return [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", _SHOWN)]
        if origin is None or origin not in self._origins:
            return [(b"vary", b"Origin")]
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", _SHOWN),
            (b"vary", b"Origin"),
        ]

    def preflight(self, origin: bytes) -> Headers:
        """Headers of the answer to a browser that asks before it sends."""
        allowed = [
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", _TAKEN),
            (b"access-control-max-age", str(_MAX_AGE_S).encode()),
        ]
        return [*self.headers(origin), *(allowed if self._any or origin in self._origins else ())]
