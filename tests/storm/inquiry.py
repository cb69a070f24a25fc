"""What became of a request through REST that was not answered in time: a 504 has a cause, or it is a loss [I/O].

Clients ask again after a 504, so a request that the service dropped would be answered in the end, and nobody would see
that it had been lost. So Redis itself is asked what it knows of the id. One thing nothing excuses, whatever was killed
or cut: an entry that is gone before its time is over, without a reply. That is looked for all the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from producer_api.inference.request_ids import id_of_key
from shared import keys
from shared.redis.client import RedisError, connect_async
from tests.storm.ledger import Case, Kind, Ledger
from tests.storm.world import SETTINGS, Child, World

REMEMBERED = (Kind.OWN, Kind.KEY)
"""Of these it is remembered which entry is under way. Of an id that was made up it is when a client asks with it."""
WATCH_S = 0.25
EARLY_MS = 1000.0
"""A consumer that starts while Redis is paused may take its clock to be half a socket timeout further than it is."""
TOLD_S = 2.5
"""A front end looks at the reply keys itself after a second, and then four times a second: nobody hears later than this
of a reply that is there, whatever hint was lost before."""
GRACE_S = 2.0
"""So long after a pause, a restart or a cut a front end may be occupied with connecting anew."""
SETTLE_S = 6.0
"""So long after anything at all requests may still wait for a lease, a search, and a process that starts."""
BUSY_S = 1.0
"""Who is so late was not scheduled: nothing follows then from what took long."""
OVERTAKERS = 50
"""So many that were sent later and answered earlier show that it was not the machine."""
LATER_S = 0.5
KEPT_MS = 4 * (int(SETTINGS["LEASE_MS"]) + int(SETTINGS["LONGEST_BATCH_MS"]))
"""How much longer than its request's time to live a reply is kept; see ``Settings.reply_expiry_ms``."""
NO_ENTRY = b"0-1"


class Why(StrEnum):
    """Why there was no answer in time, as far as Redis knows.

    Attributes:
        UNDER_WAY: its entry is still in the lane.
        EXPIRED: its entry is gone, there is no reply, and its time is over.
        VANISHED: the same, and its time is not over.
        JUST_ANSWERED: its reply came hardly before the end of its time.
        NOT_TOLD: its reply was there for long enough, and the front end did not give it.
        NOT_ADMITTED: nothing is known of it, although it would be remembered for longer.
        FORGOTTEN: nothing is known of it, as is right for an id that was made up.
    """

    UNDER_WAY = "still under way"
    EXPIRED = "its time was over"
    VANISHED = "gone before its time was over"
    JUST_ANSWERED = "answered at the last moment"
    NOT_TOLD = "answered, and not told so"
    NOT_ADMITTED = "not admitted"
    FORGOTTEN = "of a made id, without a reply"


@dataclass(frozen=True, slots=True)
class Look:
    """What Redis knows of an id, all in one moment.

    Attributes:
        now_ms: Redis's time.
        entry: the entry that is remembered; empty when none is.
        deadline_ms: end of that entry's time.
        is_there: that entry is in the lane.
        left_ms: how long its reply is still kept; None when there is none.
    """

    now_ms: float
    entry: bytes
    deadline_ms: int
    is_there: bool
    left_ms: int | None

    @property
    def known(self) -> bytes:
        """What there is of it: its reply, its entry, or nothing."""
        return b"reply" if self.left_ms is not None else self.entry if self.is_there else b""

    def replied_s(self, ttl_ms: int) -> float:
        """For how long the reply has been there; infinite when there is none."""
        return float("inf") if self.left_ms is None else (ttl_ms + KEPT_MS - self.left_ms) / 1000

    def why(self, ttl_ms: int, is_remembered: bool) -> Why:
        """Say why the request was not answered in time; ``is_remembered``: what is under way of its id is noted."""
        if self.left_ms is not None:
            return Why.NOT_TOLD if self.replied_s(ttl_ms) > TOLD_S else Why.JUST_ANSWERED
        if not self.entry:
            return Why.NOT_ADMITTED if is_remembered else Why.FORGOTTEN
        if self.is_there:
            return Why.UNDER_WAY
        return Why.VANISHED if self.now_ms < self.deadline_ms - EARLY_MS else Why.EXPIRED


@dataclass(frozen=True, slots=True)
class Circumstances:
    """In which a request was not answered in time.

    Attributes:
        age_s: for how long its client waited.
        ttl_s: for how long it was to wait.
        replied_s: for how long its reply was there.
        service_s: for how long nothing had happened to Redis, its connections and the front end.
        calm_s: for how long nothing had happened to anybody.
        overtakers: how many that were sent later had been answered.
    """

    age_s: float
    ttl_s: float
    replied_s: float
    service_s: float
    calm_s: float
    overtakers: int

    def tolerate(self, why: Why) -> bool:
        """Say whether ``why`` has a cause: something that was done to somebody, or a busy machine."""
        if why is Why.VANISHED:
            return False
        if self.age_s > self.ttl_s + BUSY_S:
            return True
        if why is Why.NOT_TOLD and min(self.replied_s, self.age_s, self.service_s - GRACE_S) > TOLD_S:
            return False
        if why is Why.NOT_ADMITTED and self.service_s > self.age_s + GRACE_S:
            return False
        return self.calm_s < self.age_s + SETTLE_S or self.overtakers < OVERTAKERS


def id_of(case: Case) -> str:
    """Return the id under which a request of ``REMEMBERED`` is known."""
    return id_of_key(case.request_id.encode()) if case.kind is Kind.KEY else case.request_id


class Inquiry:
    """Asks Redis about requests of the default lane, on connections of its own."""

    def __init__(self, world: World, ledger: Ledger, stop: asyncio.Event) -> None:
        self._world, self._ledger, self._stop = world, ledger, stop
        self._redis = connect_async(world.server.url, 5.0)
        self._vanished: set[str] = set()

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def watch(self) -> None:
        """Look at all that is under way, until told to stop and everything has ended."""
        while not self._stop.is_set() or self._ledger.open:
            cases = [case for case in self._ledger.open.values() if case.kind in REMEMBERED and case.tries]
            with contextlib.suppress(RedisError, OSError):
                looks = await self._look([id_of(case) for case in cases]) if cases else []
                for case, look in zip(cases, looks, strict=True):
                    self._ledger.seen["looked at while under way"] += 1
                    if look is not None and look.why(case.ttl_ms, is_remembered=True) is Why.VANISHED:
                        self._note_vanished(case, look)
            await asyncio.sleep(WATCH_S)

    async def _look(self, ids: Sequence[str]) -> list[Look | None]:
        """Ask what is known of ids; None for one of which something was noted in between.

        Raises:
            RedisError, OSError: Redis did not answer.
        """
        model, lane = self._world.model, keys.DEFAULT_LANE
        flights = [keys.flight(model, lane, one) for one in ids]
        async with self._redis.pipeline(transaction=False) as pipe:
            for flight in flights:
                pipe.get(flight)
            noted: list[Any] = await pipe.execute()
        entries = [note.split(b" ")[0] if note else b"" for note in noted]
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.time()
            for one, flight, entry in zip(ids, flights, entries, strict=True):
                pipe.get(flight)
                pipe.pttl(keys.reply(model, lane, one))
                pipe.xrange(keys.work(model, lane), entry or NO_ENTRY, entry or NO_ENTRY)
            (seconds, microseconds), *answers = await pipe.execute()
        looks: list[Look | None] = []
        for place, (note, entry) in enumerate(zip(noted, entries, strict=True)):
            again, left_ms, found = answers[3 * place : 3 * place + 3]
            deadline_ms = int(note.split(b" ")[1]) if note else 0
            now_ms, kept_ms = seconds * 1000 + microseconds / 1000, left_ms if left_ms >= 0 else None
            looks.append(Look(now_ms, entry, deadline_ms, bool(found), kept_ms) if again == note else None)
        return looks

    async def known(self, request_id: str) -> bytes:
        """Return what there is of a request, see ``Look.known``; empty when that cannot be said."""
        with contextlib.suppress(RedisError, OSError):
            (look,) = await self._look([request_id])
            return b"" if look is None else look.known
        return b""

    async def is_lost(self, case: Case, request_id: str, child: Child, sent_s: float, ttl_ms: int) -> bool:
        """Find out why ``child`` answered with 504 just now; say whether that is a loss, which is a breach."""
        begun_s = time.monotonic()
        look: Look | None = None
        with contextlib.suppress(RedisError, OSError):
            (look,) = await self._look([request_id])
        if look is None or time.monotonic() > begun_s + BUSY_S:
            self._ledger.seen["504: Redis could not be asked"] += 1
            return False
        why = look.why(case.ttl_ms, is_remembered=bool(case.request_id))
        self._ledger.seen[f"504: {why}"] += 1
        circumstances = Circumstances(
            time.monotonic() - sent_s,
            ttl_ms / 1000,
            look.replied_s(case.ttl_ms),
            self._world.quiet_s(child),
            self._world.calm_s(),
            self._ledger.overtakers(sent_s + LATER_S),
        )
        if why is Why.VANISHED:
            self._note_vanished(case, look)
        elif not circumstances.tolerate(why):
            sentence = f"{case.nonce}: 504 from {child.name} without a cause, {why}: {look}, {circumstances}."
            self._ledger.breach("unanswered", sentence)
        return not circumstances.tolerate(why)

    def _note_vanished(self, case: Case, look: Look) -> None:
        if case.nonce not in self._vanished:
            self._vanished.add(case.nonce)
            early_ms = look.deadline_ms - look.now_ms
            sentence = f"{case.nonce}: its entry {look.entry!r} is gone {early_ms:.0f} ms early, without a reply."
            self._ledger.breach("vanished", sentence)

    def note_calm(self, age_s: float) -> None:
        """Count requests that no fault can excuse: these show what a storm without a breach has shown."""
        if self._world.calm_s() > age_s + SETTLE_S:
            self._ledger.seen["asked through REST while nothing happened to anybody"] += 1
