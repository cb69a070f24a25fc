"""What is taken out of all that waits, to make one batch. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

from .load import Batchable

T = TypeVar("T", bound=Batchable)


class Cut(NamedTuple, Generic[T]):
    """What became of all that waited; each part is in the order of arrival.

    Attributes:
        items: the batch.
        expired: what may not run any more.
        left: what goes on waiting; the first ``priority_count`` of it are ahead of all others.
        rows, units: of the batch.
    """

    items: Sequence[T]
    expired: Sequence[T]
    left: Sequence[T]
    priority_count: int
    rows: int
    units: int
