"""Where a batch's parts lie in the result store, and the threads that wait for the store [I/O]."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from shared.results.store import Store, delete_below

T = TypeVar("T")

THREADS: Final = 4


class StoreRoom:
    """The result store of a front end, as batches use it. Calls run on threads that wait for nothing else."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="bulk-store")

    async def _do(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def put(self, key: str, data: bytes, keep_s: float) -> None:
        """See :meth:`Store.put`."""
        await self._do(lambda: self._store.put(key, data, keep_s))

    async def get(self, key: str, most_bytes: int) -> bytes:
        """See :meth:`Store.get`."""
        return await self._do(lambda: self._store.get(key, most_bytes))

    async def names(self, prefix: str) -> list[str]:
        """Return the last names of the keys below a prefix, in their order."""
        return await self._do(lambda: [found.key.rpartition("/")[2] for found in self._store.list(prefix)])

    async def delete_below(self, prefix: str) -> None:
        """Delete everything below a prefix."""
        await self._do(lambda: delete_below(self._store, prefix))

    def close(self) -> None:
        """End the threads; the store is its owner's to close."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def folder(model: str, lane: str, batch_id: str) -> str:
    """Return the prefix of all that a batch has in the store."""
    return f"batches/{model}/{lane}/{batch_id}"


def items_folder(model: str, lane: str, batch_id: str) -> str:
    """Return the prefix of the parts that came in; each is named by the number of its first item."""
    return f"{folder(model, lane, batch_id)}/in"


def results_folder(model: str, lane: str, batch_id: str) -> str:
    """Return the prefix of the parts of results."""
    return f"{folder(model, lane, batch_id)}/out"
