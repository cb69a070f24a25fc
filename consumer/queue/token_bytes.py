"""How many bytes a thousand prompt tokens take in each lane: whole messages, as they were read. Pure.

Front ends have no tokenizer, so a lane's limit in prompt tokens is held by bytes. What a token takes depends on the
language, and on how long texts are, since each message has a head.
"""

from __future__ import annotations

KEPT = 0.98
"""Weight of a request relative to the next one: what counts is the last fifty or so."""

LEAST_BYTES, MOST_BYTES = 1, 100
"""Of a token, as it is published: a message may hold next to no text, and a lot besides."""


class TokenBytes:
    """Measures it. One thread at a time calls :meth:`measure`; any may ask."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}

    def measure(self, lane: str, message_bytes: int, tokens: float) -> None:
        """Note a message whose prompt has so many tokens. One whose text is elsewhere says nothing."""
        if tokens < 1 or message_bytes < tokens:
            return
        seen_bytes, seen_tokens = self._sums.get(lane, (0.0, 0.0))
        self._sums[lane] = KEPT * seen_bytes + message_bytes, KEPT * seen_tokens + tokens

    def published(self) -> str:
        """Return what is known, as ``hr1_heartbeat`` takes it: ``LANE=BYTES`` of a thousand tokens, for each lane."""
        return ",".join(
            f"{lane}={round(1000 * min(MOST_BYTES, max(LEAST_BYTES, seen_bytes / seen_tokens)))}"
            for lane, (seen_bytes, seen_tokens) in sorted(self._sums.copy().items())
        )
