"""The result store in threads [I/O]: the event loop never waits for a disk, and nobody waits for ever.

The threads are daemons: a store that hangs does not keep the process from ending.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final, TypeVar

from shared.results.store import Found, Store, StoreError, delete_below

log = logging.getLogger(__name__)

T = TypeVar("T")

THREADS: Final = 4
TIMEOUT_S: Final = 15.0
"""For one call, waiting for a thread included."""

SWEEP_S: Final = 60.0
SWEEP_SHARE: Final = 100.0
MOST_LISTED: Final = 10_000


class StoreAside:
    """Calls a store without blocking the event loop.

    Raises:
        StoreError: from every call: also when the store does not answer in time.
    """

    def __init__(self, store: Store, threads: int = THREADS, timeout_s: float = TIMEOUT_S) -> None:
        self._store, self._timeout_s, self._most_threads = store, timeout_s, threads
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._threads, self._sweep_s = 0, 0.0

    async def put(self, key: str, data: bytes, keep_s: float) -> None:
        """See :class:`shared.results.store.Store`, as for the others."""
        await self.run(lambda store: store.put(key, data, keep_s))

    async def get(self, key: str, most_bytes: int) -> bytes:
        """Return what is stored."""
        return await self.run(lambda store: store.get(key, most_bytes))

    async def keep(self, key: str, keep_s: float) -> None:
        """Let an object stay for longer."""
        await self.run(lambda store: store.keep(key, keep_s))

    async def delete(self, key: str) -> bool:
        """Free the room of an object."""
        return await self.run(lambda store: store.delete(key))

    async def delete_below(self, prefix: str) -> int:
        """Free the room of all objects below ``prefix``."""
        return await self.run(lambda store: delete_below(store, prefix))

    async def list(self, prefix: str, most: int = MOST_LISTED) -> Sequence[Found]:
        """Return the first ``most`` objects below ``prefix``."""
        return await self.run(lambda store: list(islice(store.list(prefix), most)))

    async def sweep(self) -> None:
        """Delete what is over, about once a minute: made for a task that calls it again and again.

        In a very large store less often, so that it takes a hundredth of a core at most.
        """
        await asyncio.sleep(max(SWEEP_S, SWEEP_SHARE * self._sweep_s))
        try:
            begun_s = time.monotonic()
            await self.run(lambda store: store.sweep(time.time()), timeout_s=3600.0)
            self._sweep_s = time.monotonic() - begun_s
        except StoreError as error:
            log.warning("What is over stays in the result store for now: %s", error)

    async def run(self, work: Callable[[Store], T], timeout_s: float | None = None) -> T:
        """Do several calls in a row on one thread.

        Raises:
            StoreError: as ``work`` does, or it takes too long; it goes on in vain then.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def job() -> None:
            if future.cancelled():  # nobody waits any more: most of what queues behind a store that hangs
                return
            try:
                result = work(self._store)
            except BaseException as error:
                _tell(loop, future, future.set_exception, error)
            else:
                _tell(loop, future, future.set_result, result)

        self._jobs.put(job)
        if self._threads < self._most_threads:
            self._threads += 1
            threading.Thread(target=self._serve, name="store", daemon=True).start()
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        try:
            async with asyncio.timeout(limit_s):
                return await future
        except TimeoutError:
            raise StoreError(f"The result store has not answered for {limit_s:g} s.") from None

    def _serve(self) -> None:
        while True:
            self._jobs.get()()

    def close(self) -> None:
        """Give connections and files back."""
        self._store.close()


def _tell(loop: asyncio.AbstractEventLoop, future: asyncio.Future[T], tell: Callable[..., None], what: object) -> None:
    def once() -> None:
        if not future.done():
            tell(what)

    with suppress(RuntimeError):  # the loop is closed: the process ends
        loop.call_soon_threadsafe(once)
