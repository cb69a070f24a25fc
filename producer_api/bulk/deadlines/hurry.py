"""A batch's deadline while it is driven: whether its items wait for gaps, and what others have to know of that [I/O].

The deadline is taken from Redis's clock once, when the batch is claimed, and kept by a clock that only goes forward: a
clock that is set meanwhile moves no deadline.
"""

from __future__ import annotations

import logging
from time import perf_counter

from producer_api.bulk.record import Record
from producer_api.bulk.registry import Claim, Registry
from producer_api.load.wait_estimate import Service
from shared.redis.advice import told
from shared.redis.client import RedisError
from shared.wire.urgent import urgent

from .urgency import Urgency

log = logging.getLogger(__name__)

HURRY_FOR_MS = 3000
"""Said again every second: a front end that is killed leaves nobody in a hurry for long."""


class UrgentBatches:
    """Those that this front end drives. In a lane with one, the others put nothing in: it would be before its items."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], set[str]] = {}

    def note(self, claim: Claim, *, is_urgent: bool) -> None:
        """Note whether a batch is urgent."""
        ids = self._found.setdefault((claim.model, claim.lane), set())
        (ids.add if is_urgent else ids.discard)(claim.id)
        if not ids:
            del self._found[claim.model, claim.lane]

    def are_before(self, claim: Claim) -> bool:
        """Say whether a batch waits, since another one of its lane is urgent and it is not."""
        ids = self._found.get((claim.model, claim.lane), ())
        return len(ids) > 0 and claim.id not in ids


class Deadline:
    """Of one batch that this process drives.

    Attributes:
        is_urgent: its items wait for gaps no longer.
        is_in_batch_lane: its lane is a batch lane; elsewhere nothing waits for gaps.
    """

    def __init__(self, registry: Registry, claim: Claim, record: Record, batches: UrgentBatches) -> None:
        self._registry, self._claim, self._record, self._batches = registry, claim, record, batches
        self.is_urgent = self.is_in_batch_lane = False

    async def start(self, done: int) -> None:
        """Find out how much time is left.

        Args:
            done: items that have ended already.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        left_ms = self._record.ends_by_ms - await self._registry.now_ms()
        begun_s = perf_counter()
        self._deadline_s, self._done = begun_s + left_ms / 1000, done
        self._urgency = Urgency(begun_s, self._deadline_s)

    def is_over(self, now_s: float) -> bool:
        """Say whether it has passed."""
        return now_s > self._deadline_s

    def look(self, now_s: float, done: int, left: int, service: Service | None, *, is_batch_lane: bool) -> bool:
        """Look how the batch gets on; returns whether that has changed anything."""
        before, self.is_in_batch_lane = self.is_urgent, is_batch_lane
        rate = 0.0 if service is None else service.rate
        self.is_urgent = is_batch_lane and self._urgency.look(now_s, done - self._done, left, rate)
        if before is self.is_urgent:
            return False
        self._batches.note(self._claim, is_urgent=self.is_urgent)
        how = "is urgent: the gaps will not do" if self.is_urgent else "waits for gaps again"
        log.info("Batch %s of model %s %s; %d items are left.", self._claim.id, self._claim.model, how, left)
        return True

    def waits(self) -> bool:
        """Say whether it puts nothing in, since another batch of its lane is urgent."""
        return self.is_in_batch_lane and self._batches.are_before(self._claim)

    def message(self, request: bytes) -> bytes:
        """Return an item's request as it goes into the lane now."""
        return urgent(request) if self.is_urgent else request

    @property
    def field(self) -> dict[str, str | int]:
        """What the batch's record says of it."""
        return {"urgent": int(self.is_urgent)} if self.is_in_batch_lane else {}

    async def tell(self) -> None:
        """Tell the consumers if it is urgent: then nothing that is before its items in the lane waits for gaps."""
        if not self.is_urgent:
            return
        try:
            await self._registry.hurry(self._claim.model, self._claim.lane, HURRY_FOR_MS)
        except (RedisError, OSError) as error:  # it is told again with the next save
            log.debug("Nobody knows that batch %s is urgent: %s", self._claim.id, told(error))

    def end(self) -> None:
        """Note that it is driven no longer."""
        self._batches.note(self._claim, is_urgent=False)
