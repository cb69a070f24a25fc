"""The interface of the result store, its names and its errors. Pure.

A key is a path of names such as ``batches/ID/in/000001``. Each object has a time limit, after which it is gone: no read
finds it, and a sweep frees its room.

Every call may block for as long as a disk or a network takes: call it in a thread that nothing else waits for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol

MOST_PARTS: Final = 8
"""Names in a key."""

_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}\Z")


class StoreError(Exception):
    """The store cannot be used now; the message is one sentence that names the store and no secret."""


class StoreFull(StoreError):
    """There is no room: the quota is used up, or the disk is full."""


class StoreMissing(StoreError):
    """There is no such object, or its time is over."""


class StoreTooLarge(StoreError):
    """The object is larger than the reader allows."""


class Found(NamedTuple):
    """An object of the store.

    Attributes:
        key: its name.
        size_bytes: what it holds.
        expires_s: end of its time, in seconds of the Unix epoch; None where only reading it would say.
    """

    key: str
    size_bytes: int
    expires_s: float | None


class Store(Protocol):
    """Keeps bytes under keys.

    All methods raise ValueError for what is no key, and StoreError if the store cannot be used.
    """

    def put(self, key: str, data: bytes, keep_s: float) -> None:
        """Store ``data`` for ``keep_s`` seconds. Others see all of it or nothing; an object of this key is replaced.

        Raises:
            StoreFull: there is no room for it; an object of this key stays as it is.
        """
        ...

    def get(self, key: str, most_bytes: int) -> bytes:
        """Return what is stored.

        Raises:
            StoreMissing: nothing is, or its time is over.
            StoreTooLarge: it is larger than ``most_bytes``.
        """
        ...

    def keep(self, key: str, keep_s: float) -> None:
        """Let an object stay for at least ``keep_s`` seconds from now.

        Raises:
            StoreMissing: there is none.
        """
        ...

    def delete(self, key: str) -> bool:
        """Free the room of an object; say whether there was one."""
        ...

    def list(self, prefix: str) -> Iterator[Found]:
        """Go through the objects below ``prefix``, a path of names (empty for all), in the order of their keys."""
        ...

    def sweep(self, now_s: float) -> int:
        """Delete everything whose time was over at ``now_s``, in seconds of the Unix epoch; return how many objects."""
        ...

    def close(self) -> None:
        """Give connections and files back. What is stored stays."""
        ...


def parts_of(key: str) -> tuple[str, ...]:
    """Return the names of a key.

    Raises:
        ValueError: it is none. No name begins with a dot, so that none leads out of a folder.
    """
    parts = tuple(key.split("/"))
    if len(parts) > MOST_PARTS or not all(map(_PART.match, parts)):
        raise ValueError(f"A key of the store has 1 to {MOST_PARTS} names out of A-Z a-z 0-9 . _ -, not {key[:200]!r}.")
    return parts


def delete_below(store: Store, prefix: str) -> int:
    """Delete every object below ``prefix``; return how many.

    Raises:
        StoreError: the store cannot be used.
    """
    parts_of(prefix)
    return sum(store.delete(found.key) for found in store.list(prefix))
