"""Looks after the batches of all models [I/O]: drives those without a driver, deletes those whose time is over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from producer_api.background import forever
from producer_api.parsing.bulk_schemas import State
from producer_api.queue.interface import Catalogue
from shared.redis.advice import told
from shared.redis.client import AsyncClient, RedisError
from shared.results.store import StoreError

from .deadlines.hurry import UrgentBatches
from .driver import Driver
from .lane import BatchLane
from .registry import Claim, Registry
from .store_room import StoreRoom, folder

log = logging.getLogger(__name__)

POLL_S = 1.0
MOST_DRIVEN = 4
"""Batches that one front end drives at once: each holds some parts in memory. The others wait, or others drive them."""

STOP_S = 3.0


class Keeper:
    """One front end's share of the work on batches.

    Args:
        lane_limit: that of lanes without one of their own.
        lease_ms: how long a batch may go without news of its driver until another front end goes on.
    """

    def __init__(
        self,
        room: StoreRoom,
        registry: Registry,
        client: AsyncClient,
        catalogue: Callable[[], Catalogue],
        lane_limit: int,
        lease_ms: int,
    ) -> None:
        self._room, self._registry, self._client, self._catalogue = room, registry, client, catalogue
        self._lane_limit, self._lease_ms = lane_limit, lease_ms
        self._urgent = UrgentBatches()
        self._drivers: dict[str, tuple[Driver, asyncio.Task[None]]] = {}
        self._look_now = asyncio.Event()
        self._is_closed = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        work = forever("Looking after batches", self._work, lambda: self._is_closed)
        self._task = asyncio.create_task(work)

    def look(self) -> None:
        """Look for work now: a batch has come in."""
        self._look_now.set()

    async def _work(self) -> None:
        while not self._is_closed:
            for model in list(self._catalogue().models):
                try:
                    await self._claim_all(model)
                except (RedisError, OSError) as error:
                    log.debug("Looking for batches of %s failed: %s", model, told(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._look_now.wait()
            self._look_now.clear()

    async def _claim_all(self, model: str) -> None:
        while len(self._drivers) < MOST_DRIVEN and not self._is_closed:
            claim = await self._registry.claim(model, self._lease_ms)
            if claim is None:
                return
            record = await self._registry.read(claim.model, claim.lane, claim.id)
            if record is None or record.has_ended or record.state is State.RECEIVING:
                await self._delete(claim)
                continue
            lane = BatchLane(self._client, claim.model, claim.lane, claim.id)
            of_all = (self._catalogue, self._lane_limit, self._lease_ms, self._urgent)
            driver = Driver(self._room, self._registry, lane, claim, record, *of_all)
            self._drivers[claim.id] = driver, asyncio.create_task(self._drive(claim, driver))

    async def _drive(self, claim: Claim, driver: Driver) -> None:
        try:
            await driver.drive()
        except Exception:  # another one goes on when the lease is over, this front end perhaps
            log.exception("Driving batch %s failed.", claim.id)
        finally:
            self._drivers.pop(claim.id, None)
            self._look_now.set()

    async def _delete(self, claim: Claim) -> None:
        """Delete a batch whose time is over, or whose upload was broken off."""
        try:
            await self._room.delete_below(folder(claim.model, claim.lane, claim.id))
            await self._registry.forget(claim)
        except (StoreError, RedisError, OSError) as error:
            log.warning("Batch %s cannot be deleted yet: %s", claim.id, error)

    async def close(self) -> None:
        """Store what has been answered, and let other front ends go on."""
        self._is_closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for driver, _ in self._drivers.values():
            driver.stop()
        tasks = [task for _, task in self._drivers.values()]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=STOP_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
