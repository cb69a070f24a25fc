"""Delivers the webhooks of all lanes [I/O]. Every front end does; a host is leased to one of them at a time."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

from producer_api.background import forever
from producer_api.net.addresses import AddressRefused, parse
from producer_api.net.egress import BadAnswer, Egress, Limits, Unreachable
from shared import webhook_secrets
from shared.process.logs import about
from shared.redis.advice import told
from shared.redis.client import AsyncClient, Link, RedisError
from shared.version import __version__

from . import payload, schedule, signing
from .hook import Hook
from .outbox import LEASE_MS, End, Lane, Leased, Outbox, Standing
from .payload import Event
from .schedule import Verdict

log = logging.getLogger("headrace.webhooks")

POLL_S: Final = 0.5
CLOSE_S: Final = 5.0
"""How long attempts may go on at the end; what is broken off is sent again."""

MOST_HOSTS: Final = 64
"""Hosts that one front end delivers to at once."""

MOST_HOSTS_OF_A_LANE: Final = 32
AT_ONCE: Final = 8
"""Attempts at one host at once; 1 after it could not be reached."""

KNOWN_HOSTS: Final = 10_000
LONGEST_REASON: Final = 200

Result = Callable[[str, str, str], Awaitable[bytes | None]]
"""Returns the result of a request (model, lane, id) in JSON if it is small, else None."""


class Instruments(Protocol):
    """What deliveries are measured with."""

    def delivered(self, duration_s: float) -> None:
        """An attempt succeeded, and took so long."""

    def failed(self, why: str, duration_s: float) -> None:
        """An attempt failed: ``unreachable``, ``status`` or ``refused``."""

    def given_up(self) -> None:
        """An event became a dead letter."""

    def stands(self, standings: Mapping[str, tuple[int, float]]) -> None:
        """So many requests and batches of each model wait, and the oldest for so many seconds."""


class Courier:
    """Runs as long as its front end.

    Args:
        client: of Redis; closed with this.
        egress: sends.
        secrets: the operator's, to sign with; without any, nothing is delivered.
        lanes: all models and lanes there are now.
        result: finds results that are to be sent.
        base_url: see :func:`payload.body`.
        instruments: what is measured.
        limits: of one attempt.
        lease_ms: how long a host is this front end's after its last word.
    """

    def __init__(
        self,
        client: AsyncClient,
        egress: Egress,
        secrets: Sequence[str],
        lanes: Callable[[], Iterable[Lane]],
        result: Result,
        base_url: str,
        instruments: Instruments,
        limits: Limits | None = None,
        lease_ms: int = LEASE_MS,
    ) -> None:
        self._client, self._link = client, Link(client)
        self._outbox, self._egress, self._secrets = Outbox(self._link, lease_ms), egress, tuple(secrets)
        self._lanes, self._result, self._base_url, self._instruments = lanes, result, base_url, instruments
        self._limits = limits or Limits()
        self._visits: dict[asyncio.Task[None], Lane] = {}
        self._failures: OrderedDict[tuple[Lane, bytes], int] = OrderedDict()
        self._standings: dict[Lane, Standing] = {}
        self._one_at_a_time, self._was_away, self.is_closing = asyncio.Lock(), False, False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to deliver."""
        if self._secrets:
            self._task = asyncio.create_task(forever("Delivering webhooks", self._run))

    async def close(self) -> None:
        """Begin no more attempts, and return once those that run have ended, or after five seconds."""
        self.is_closing = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if visits := list(self._visits):
            await asyncio.wait(visits, timeout=CLOSE_S)
            for visit in visits:
                visit.cancel()
            await asyncio.gather(*visits, return_exceptions=True)
        await self._link.close()
        await self._client.aclose()

    async def _run(self) -> None:
        while True:
            try:
                await self._claim()
                if self._was_away:
                    log.info("Webhooks are delivered again.")
                self._was_away = False
            except (RedisError, OSError) as error:
                if not self._was_away:
                    log.warning("Webhooks wait, since Redis does not answer: %s", told(error))
                self._was_away = True
            await asyncio.sleep(POLL_S)

    async def _claim(self) -> None:
        lanes = sorted(self._lanes())
        async with self._one_at_a_time:
            found = await self._outbox.claim(lanes, self._shares(lanes))
        self._standings = {lane: standing for lane, (standing, _) in found.items()}
        self._instruments.stands(_of_models(self._standings))
        for lane, (_, hosts) in found.items():
            for leased in hosts:
                task = asyncio.create_task(self._visit(leased))
                self._visits[task] = lane
                task.add_done_callback(self._visits.pop)

    def _shares(self, lanes: Sequence[Lane]) -> list[int]:
        """Return how many more hosts each lane may have: those where something waits share what is free."""
        taken, free = Counter(self._visits.values()), MOST_HOSTS - len(self._visits)
        waiting = sum(standing.pending > 0 for standing in self._standings.values())
        share = max(1, free // max(1, waiting)) if free > 0 else 0
        return [max(0, min(share, MOST_HOSTS_OF_A_LANE - taken[lane])) for lane in lanes]

    async def _visit(self, leased: Leased) -> None:
        """Deliver what is due at a host, until nothing is, or it cannot be reached."""
        try:
            await _Visit(self, leased).run()
        except (RedisError, OSError) as error:
            log.warning("Delivering webhooks broke off; they are due again within a minute: %s", told(error))
        except Exception:
            log.exception("Delivering webhooks failed; they are due again within a minute.")

    @property
    def renew_s(self) -> float:
        """See :class:`Outbox`."""
        return self._outbox.renew_s

    async def step(
        self, leased: Leased, ends: Iterable[End], count: int, busy: Sequence[str]
    ) -> list[tuple[Event, Hook]]:
        """See :meth:`Outbox.step`."""
        async with self._one_at_a_time:
            return await self._outbox.step(leased, ends, count, busy)

    async def release(self, leased: Leased, ends: Iterable[End], pause_s: float) -> None:
        """See :meth:`Outbox.release`."""
        async with self._one_at_a_time:
            await self._outbox.release(leased, ends, pause_s)

    def failures(self, leased: Leased) -> int:
        """Return how often in a row a host could not be reached."""
        return self._failures.get((leased.lane, leased.host), 0)

    def note(self, leased: Leased, reached: bool) -> None:
        """Remember whether a host could be reached."""
        place = (leased.lane, leased.host)
        failures = self._failures.pop(place, 0)
        if not reached:
            self._failures[place] = failures + 1
            if len(self._failures) > KNOWN_HOSTS:
                self._failures.popitem(last=False)

    async def attempt(self, lane: Lane, event: Event, hook: Hook) -> tuple[End, bool]:
        """Send an event once; returns what became of it, and whether its host could be reached."""
        begun_s, status = time.monotonic(), 0
        try:
            body = payload.body(event, lane[0], self._base_url, await self._wanted(lane, event, hook))
            status, retry_after = await self._post(lane[1], event, hook, body)
            took_s = time.monotonic() - begun_s
            verdict = schedule.verdict(status)
            if verdict is Verdict.DELIVERED:
                self._instruments.delivered(took_s)
                log.debug("%s was delivered.", event.type, extra=about(event.name))
                return End(event, "done"), True
            self._instruments.failed("status", took_s)
            reason = f"it answered {status}"
            if verdict is Verdict.GIVE_UP:
                return self._given_up(lane, event, reason), True
            wait_s = schedule.wait_s(event.attempts + 1, random.random(), retry_after)
            return self._next(lane, event, reason, wait_s), True
        except AddressRefused as refused:
            self._instruments.failed("refused", time.monotonic() - begun_s)
            return self._given_up(lane, event, str(refused)), True
        except (Unreachable, BadAnswer) as error:
            self._instruments.failed("unreachable", time.monotonic() - begun_s)
            return self._next(lane, event, str(error), schedule.wait_s(event.attempts + 1, random.random())), False
        except Exception:  # whatever one event meets, those behind it are delivered
            log.exception("Delivering a webhook failed.", extra=about(event.name))
            wait_s = schedule.wait_s(event.attempts + 1, random.random())
            return self._next(lane, event, "an error of the front end, which its log has", wait_s), True

    async def _wanted(self, lane: Lane, event: Event, hook: Hook) -> bytes | None:
        return await self._result(*lane, event.name) if payload.wants_result(event, hook) else None

    async def _post(self, lane: str, event: Event, hook: Hook, body: bytes) -> tuple[int, float | None]:
        now_s, keys = time.time(), [webhook_secrets.key_of(secret, lane) for secret in self._secrets]
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"Headrace/{__version__} (webhook)",
            **signing.headers(keys, event.id, int(now_s), body),
        }
        async with self._egress.request("POST", parse(hook.url), headers, body, self._limits) as response:
            return response.status, schedule.retry_after_s(response.headers.get("retry-after"), now_s)

    def _next(self, lane: Lane, event: Event, reason: str, wait_s: float | None) -> End:
        if wait_s is None:
            return self._given_up(lane, event, f"{reason}, at the last of {schedule.MOST_ATTEMPTS} attempts")
        sentence = "%s of model %s was not delivered, and is tried again in %.0f s: %s"
        log.info(sentence, event.type, lane[0], wait_s, reason, extra=about(event.name))
        return End(event, "again", round(1000 * wait_s), reason[:LONGEST_REASON])

    def _given_up(self, lane: Lane, event: Event, reason: str) -> End:
        self._instruments.given_up()
        log.warning("%s of model %s was given up: %s", event.type, lane[0], reason, extra=about(event.name))
        return End(event, "dead", 0, reason[:LONGEST_REASON])


def _of_models(standings: Mapping[Lane, Standing]) -> dict[str, tuple[int, float]]:
    models: dict[str, tuple[int, float]] = {}
    for (model, _), standing in standings.items():
        pending, oldest_s = models.get(model, (0, 0.0))
        models[model] = (pending + standing.pending, max(oldest_s, standing.oldest_s))
    return models


class _Visit:
    """The deliveries to one host, from its lease to its return."""

    def __init__(self, courier: Courier, leased: Leased) -> None:
        self._courier, self._leased = courier, leased
        self._running: dict[asyncio.Task[tuple[End, bool]], str] = {}
        self._ends: list[End] = []
        self._unreached = False

    async def run(self) -> None:
        """Deliver until nothing is due, or the host cannot be reached; then return it."""
        try:
            await self._deliver()
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)
        pause_s = 0.0
        if self._unreached:
            self._courier.note(self._leased, reached=False)
            pause_s = schedule.pause_s(self._courier.failures(self._leased))
        await self._courier.release(self._leased, self._ends, pause_s)

    async def _deliver(self) -> None:
        while True:
            await self._step()
            if not self._running:
                return
            first = asyncio.FIRST_COMPLETED
            ended, _ = await asyncio.wait(self._running, timeout=self._courier.renew_s, return_when=first)
            for task in ended:
                del self._running[task]
                self._take(*task.result())

    async def _step(self) -> None:
        """Note what has ended, keep the lease, and begin as much as may run at once."""
        courier, leased = self._courier, self._leased
        room = (1 if courier.failures(leased) else AT_ONCE) - len(self._running)
        if self._unreached or courier.is_closing:
            room = 0
        ends, self._ends = self._ends, []
        for event, hook in await courier.step(leased, ends, max(0, room), list(self._running.values())):
            task = asyncio.create_task(courier.attempt(leased.lane, event, hook))
            self._running[task] = event.subject

    def _take(self, end: End, reached: bool) -> None:
        self._ends.append(end)
        if reached:
            self._courier.note(self._leased, reached=True)
        else:
            self._unreached = True
