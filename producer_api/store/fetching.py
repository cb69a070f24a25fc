"""From pieces of a body to parts in the store: bounded, hashed on the way, and gone again if it does not end well."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Final

from shared.results.references import SLACK_S, StoredBody, body_prefix, part_key
from shared.results.store import Store, StoreError, StoreFull
from shared.wire.outcomes import (
    BODY_TOO_LARGE,
    OVERLOADED,
    REFERENCE_FAILED,
    STORE_FULL,
    STORE_UNAVAILABLE,
    RequestError,
    invalid,
)

from .aside import StoreAside
from .reference import Reference
from .uploads import Owner

AT_ONCE: Final = 4
"""Bodies that are fetched at a time; each holds one part in memory."""

MOST_WAITING: Final = 64


class Fetching:
    """Brings bodies into the store.

    Args:
        most_bytes: of a body.
        part_bytes: what one object holds.
    """

    def __init__(self, store: StoreAside, most_bytes: int, part_bytes: int) -> None:
        self._store, self._most_bytes, self._part_bytes = store, most_bytes, part_bytes
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    async def fetch(
        self, pieces: AsyncIterator[bytes], reference: Reference, owner: Owner, keep_s: float
    ) -> StoredBody:
        """Store a body; returns where it is.

        Raises:
            RequestError: what ``pieces`` raises, ``BODY_TOO_LARGE``, ``INVALID_INPUT`` where it is not what was
                declared, ``OVERLOADED``, ``STORE_FULL``, ``STORE_UNAVAILABLE``.
        """
        if self._waiting >= MOST_WAITING:
            raise RequestError(OVERLOADED, "Too many bodies are being fetched here.", retry_after_s=5)
        self._waiting += 1
        try:
            async with self._turn:
                return await self._fetch(pieces, reference, owner, keep_s)
        finally:
            self._waiting -= 1

    async def _fetch(
        self, pieces: AsyncIterator[bytes], reference: Reference, owner: Owner, keep_s: float
    ) -> StoredBody:
        body_id, digest = secrets.token_hex(16), hashlib.sha256()
        prefix = body_prefix(owner.lane, owner.name, body_id)
        part, size_bytes, number = bytearray(), 0, 0

        async def put() -> None:
            nonlocal number
            number += 1
            data, key = bytes(part[: self._part_bytes]), part_key(prefix, number)
            del part[: self._part_bytes]

            def write(store: Store) -> None:
                digest.update(data)
                store.put(key, data, keep_s + SLACK_S)

            await self._store.run(write)

        try:
            async with aclosing(pieces):  # type: ignore[type-var]
                async for piece in pieces:
                    size_bytes += len(piece)
                    if size_bytes > self._most_bytes:
                        raise RequestError(BODY_TOO_LARGE, f"A large body may have at most {self._most_bytes} bytes.")
                    part += piece
                    while len(part) >= self._part_bytes:
                        await put()
            if part:
                await put()
            found = StoredBody(owner.name, body_id, number, size_bytes, digest.hexdigest())
            _check(found, reference)
            return found
        except BaseException as error:
            await self._drop(prefix, number)
            if isinstance(error, StoreFull):
                raise RequestError(
                    STORE_FULL, "The result store is full; come again later.", retry_after_s=30
                ) from None
            if isinstance(error, StoreError):
                raise RequestError(STORE_UNAVAILABLE, "The result store does not answer; try again.") from None
            raise

    async def _drop(self, prefix: str, parts: int) -> None:
        if parts:
            with suppress(StoreError):  # it expires
                await asyncio.shield(self._store.delete_below(prefix))


def _check(found: StoredBody, reference: Reference) -> None:
    if not found.size_bytes:
        raise RequestError(REFERENCE_FAILED, "The body is empty.", field=f"reference.{reference.kind}")
    if reference.bytes is not None and reference.bytes != found.size_bytes:
        raise invalid(f"The body has {found.size_bytes} bytes, and {reference.bytes} were declared.", "reference.bytes")
    if reference.sha256 is not None and reference.sha256 != found.sha256:
        raise invalid(f"The body's SHA-256 is {found.sha256}, and {reference.sha256} was declared.", "reference.sha256")
