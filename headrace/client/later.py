"""A request whose answer is fetched later (docs/later.md). Pure."""

from __future__ import annotations

import msgspec


class Later(msgspec.Struct, frozen=True):
    """A request that was accepted and has not ended.

    Attributes:
        id, model: fetch the answer with these, from any process.
        status: ``queued`` or ``running``.
        position: how many requests are ahead of it, itself included, while it is queued.
    """

    id: str
    model: str
    status: str = "queued"
    position: int | None = None
