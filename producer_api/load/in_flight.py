"""How many requests a front end answers at once. Pure; metrics show it, they decide nothing."""

from __future__ import annotations

from shared.wire.outcomes import OVERLOADED, RequestError


class InFlight:
    """The places of a front end: one for each request that is being answered.

    A request whose body comes in pieces has none until the body is complete, so that slow senders keep out nobody.

    Args:
        limit: requests at once.

    Attributes:
        count: places that are taken.
    """

    __slots__ = ("count", "limit")

    def __init__(self, limit: int) -> None:
        self.limit, self.count = limit, 0

    def enter(self) -> None:
        """Take a place; each that was taken must be left.

        Raises:
            RequestError: ``OVERLOADED``.
        """
        if self.count >= self.limit:
            raise RequestError(OVERLOADED, f"This front end already has {self.count} requests waiting.")
        self.count += 1

    def leave(self) -> None:
        """Give the place back."""
        self.count -= 1
