"""How many clients of one front end may wait for later requests, together and each. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from shared.wire.outcomes import CLIENT_LIMIT, OVERLOADED, RequestError

RETRY_AFTER_S = 5


class Waiting:
    """Counts clients that wait.

    Args:
        most: of all clients together; one that has an API key may take half of it, unless the key has a limit.

    Attributes:
        count: how many there are.
    """

    def __init__(self, most: int) -> None:
        self.most, self.count = most, 0
        self._by_holder: Counter[Hashable] = Counter()

    def enter(self, holder: Hashable = None, most: int | None = None) -> None:
        """Count one more; each that entered must leave.

        Args:
            holder: whose; None where clients are not told apart.
            most: how many this one may have; None for half of all.

        Raises:
            RequestError: ``OVERLOADED`` or ``CLIENT_LIMIT``.
        """
        if self.count >= self.most:
            message = f"This front end holds {self.most} clients that wait for later requests, as many as it may."
            raise RequestError(OVERLOADED, message, retry_after_s=RETRY_AFTER_S)
        if holder is not None:
            allowed = max(1, self.most // 2) if most is None else most
            if self._by_holder[holder] >= allowed:
                message = f"Your key may have {allowed} clients that wait for later requests at a time."
                raise RequestError(CLIENT_LIMIT, message, retry_after_s=RETRY_AFTER_S)
            self._by_holder[holder] += 1
        self.count += 1

    def leave(self, holder: Hashable = None) -> None:
        """One less."""
        self.count -= 1
        if holder is not None:
            self._by_holder[holder] -= 1
            if not self._by_holder[holder]:
                del self._by_holder[holder]
