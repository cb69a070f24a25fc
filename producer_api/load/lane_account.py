"""What a lane takes in bytes and in prompt tokens, as far as a front end knows. Pure.

``hr1_admit`` itself holds small requests to the lane's limit. Large ones are added without it, since it would copy
them: a front end adds them without asking Redis while the lane has plenty of room.
"""

from __future__ import annotations

import math

from shared.state.lanes import LaneBytes

from .wait_estimate import MOST_RETRY_AFTER_S

MEBIBYTE = 1 << 20

UNASKED_SHARE = 0.25
"""Up to this share of the limit a front end does not ask: its inverse is how many may send at once within the limit.
Where more share a port, it is less."""


class LaneAccount:
    """The bytes of one lane: as last seen, and what this process has sent since.

    Args:
        front_ends: that share the port of this one, itself included; those of other ports are not known here.

    Attributes:
        shared_bytes: what bodies of its requests take in this process's shared memory, of which Redis knows nothing.
    """

    def __init__(self, front_ends: int = 1) -> None:
        self._unasked_share = min(UNASKED_SHARE, 1 / max(1, front_ends))
        self._seen: LaneBytes | None = None
        self._sent = 0
        self.shared_bytes = 0

    @property
    def _added(self) -> int:
        return self._sent + self.shared_bytes

    def seen(self, found: LaneBytes | None) -> None:
        """Take in the lane's bytes of now; with None keep what was known before."""
        if found is not None:
            self._seen, self._sent = found, 0

    def sent(self, count_bytes: int) -> None:
        """Note what was added."""
        self._sent += count_bytes

    def surely_takes(self, count_bytes: int) -> bool:
        """Say whether so much more fits, whatever others have sent meanwhile; False until something is known."""
        seen = self._seen
        if seen is None:
            return False
        share, more = self._unasked_share, self._added + count_bytes
        if seen.most_tokens and seen.tokens + seen.tokens_in(more) > seen.most_tokens * share:
            return False
        return seen.queued + seen.stored + more <= seen.limit * share

    def takes(self, count_bytes: int) -> bool:
        """Say whether so much more fits, also where nothing is known. An empty lane takes one of any size."""
        seen = self._seen
        if seen is None:
            return True
        return self._has_bytes(seen, count_bytes) and self._has_tokens(seen, count_bytes)

    def _has_bytes(self, seen: LaneBytes, count_bytes: int) -> bool:
        return count_bytes <= seen.left - self._added or seen.queued + seen.stored + self._added == 0

    def _has_tokens(self, seen: LaneBytes, count_bytes: int) -> bool:
        queued = seen.tokens + seen.tokens_in(self._added)
        return not seen.most_tokens or not queued or queued + seen.tokens_in(count_bytes) <= seen.most_tokens

    def refusal(self, count_bytes: int, drained_s: int = 1) -> tuple[str, int]:
        """Return the sentence for a request without room, and the seconds after which there should be some.

        Args:
            count_bytes: what it takes.
            drained_s: seconds after which half of the lane's requests will have ended.
        """
        seen = self._seen
        if seen is None:
            return "The lane's requests and stored answers take all the bytes that they may.", 1
        if seen.most_tokens and self._has_bytes(seen, count_bytes):  # so it was not refused for its bytes
            queued, own = round(seen.tokens + seen.tokens_in(self._added)), math.ceil(seen.tokens_in(count_bytes))
            sentence = (
                f"The lane's requests have about {queued:,} prompt tokens and this one has about {own:,}; "
                f"together they may have {seen.most_tokens:,}."
            )
            return sentence, drained_s
        sentence = (
            f"The lane's requests take {_mib(seen.queued + self._added)} and its stored answers {_mib(seen.stored)}; "
            f"together they may take {_mib(seen.limit)}."
        )
        expires_s = seen.expires_s if seen.stored > seen.queued else 1
        return sentence, min(MOST_RETRY_AFTER_S, max(1, expires_s))


def _mib(count_bytes: int) -> str:
    return f"{count_bytes / MEBIBYTE:,.1f} MiB"
