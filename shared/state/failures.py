"""What a supervisor reports about consumers that died and have not run well since.

It is in a hash of the model's namespace (``keys.failures``), a field for each place that a consumer has. Consumers
cannot say it themselves: some are killed, or die in the middle of a library.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

KEPT_MS = 20_000
"""A failure counts no longer than this after its supervisor spoke of it last."""

MOST_WHY = 300


class Failure(msgspec.Struct, frozen=True):
    """One consumer that died.

    Attributes:
        exit_code: as a shell reports it.
        deaths: how many there were in a row.
        retry_at_ms: when it is started again, or was, on Redis's clock.
        seen_ms: when the supervisor said this, on Redis's clock.
        why: the last line that it printed; may be empty.
    """

    exit_code: int
    deaths: int
    retry_at_ms: int
    seen_ms: int
    why: str = ""

    def sentence(self, now_ms: int) -> str:
        """Say what happened and what comes next, without what the process printed."""
        often = "once" if self.deaths == 1 else f"{self.deaths} times in a row"
        left_s = (self.retry_at_ms - now_ms) / 1000
        then = f"it is started again in {left_s:.0f} s" if left_s > 0 else "it was started again"
        return f"It ended {often}, last with exit status {self.exit_code}; {then}."


def encode(failure: Failure) -> bytes:
    """Encode for a field of the hash."""
    return msgspec.json.encode(msgspec.structs.replace(failure, why=failure.why[:MOST_WHY]))


def decode(fields: Mapping[bytes, bytes], now_ms: int) -> dict[str, Failure]:
    """Return the failures that count, by place; what cannot be read, because another version wrote it, is left out."""
    found = {}
    for place, value in fields.items():
        try:
            failure = msgspec.json.decode(value, type=Failure)
            if now_ms - failure.seen_ms <= KEPT_MS:
                found[place.decode()] = failure
        except (msgspec.MsgspecError, UnicodeError):
            continue
    return dict(sorted(found.items()))
