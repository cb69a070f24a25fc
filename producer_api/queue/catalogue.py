"""Reading the catalogue of models from Redis [I/O]: a few commands a second, whatever the load."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from producer_api.load.cold_start import ColdStart, cold_start
from producer_api.load.loading_models import LoadingModels, hopeless
from producer_api.load.wait_estimate import Service, generation_service, service_of
from shared import keys
from shared.names import is_name
from shared.redis import functions
from shared.redis.advice import CLUSTER
from shared.redis.client import Link, NotPrimary, NotUsable, ServerError
from shared.state import cards, failures, starts
from shared.state.desired_state import (
    ANSWER_TOKENS,
    BODIES,
    FULL_TOKENS_PER_S,
    LATE,
    SERVING,
    SLOTS,
    VERSION,
    Serving,
    serving_from,
)
from shared.state.failures import Failure
from shared.state.lanes import MOST_DIGITS, batch_lanes, bytes_from, from_pairs
from shared.state.starts import Phase, Start

from .interface import DEFAULT_ONLY, Catalogue, ModelState

log = logging.getLogger(__name__)

MAX_MODELS = 1000

MEMORY_SHARE = 0.95
"""Beyond this share of its memory Redis gets no more requests, so that replies still fit."""


LONGEST_PAUSE_MS = 360_000
"""Within this time the supervisor of a failed consumer has restarted it: Kubernetes waits five minutes."""

SAID = (LATE, BODIES, VERSION, SLOTS, FULL_TOKENS_PER_S, ANSWER_TOKENS)
"""What is asked of each worker."""

GENERATE = "generate"
"""The family whose consumers say themselves what they get done."""

CANNOT_LOAD = "It cannot load its model."


class CatalogueReader:
    """Takes snapshots of ``hr:models`` and what belongs to it.

    Args:
        link: the connection to ask on.
        alive_ms: a worker whose last heartbeat is older than this counts as gone.
        configured: models that are in the snapshot, whether anybody has spoken of them or not.
        holds: requests may wait for a consumer of a model that has none.

    Attributes:
        expects: by the last snapshot a consumer will serve in a moment, so that the next one should come soon.
    """

    def __init__(self, link: Link, alive_ms: int, configured: Iterable[str] = (), *, holds: bool = False) -> None:
        self._link = link
        self._alive_ms, self._holds = alive_ms, holds
        self._loading = LoadingModels(configured)
        self.expects = False
        self._decoded: dict[str, tuple[list[bytes], cards.Card | None]] = {}
        self._lanes: dict[str, Mapping[str, int | None]] = {}
        self._workers: dict[str, Sequence[str]] = {}
        self._versions: dict[str, Sequence[str]] = {}

    async def read(self) -> Catalogue:
        """Take a snapshot.

        Raises:
            shared.redis.RedisError: Redis does not answer.
            shared.redis.NotPrimary: it was demoted; everything else that is connected to it should reconnect.
        """
        clock, found, memory = await self._link.call_many(
            (("TIME",), ("ZREVRANGE", keys.MODELS, 0, MAX_MODELS - 1), ("INFO", "memory", "replication", "cluster"))
        )
        if is_replica(memory):
            await self._link.close()
            raise NotPrimary("The server is a replica now.")
        if is_in_cluster_mode(memory):
            raise NotUsable(CLUSTER)
        for answer in (clock, found):
            if isinstance(answer, ServerError):
                raise answer
        now_ms = int(clock[0]) * 1000 + int(clock[1]) // 1000
        listed = [name for name in (raw.decode(errors="replace") for raw in found) if is_name(name)]
        names = list(dict.fromkeys((*self._loading.names, *listed)))
        commands: list[Sequence[Any]] = []
        for name in names:
            commands += (
                ("HGETALL", keys.card(name)),
                ("ZRANGE", keys.workers(name), now_ms - self._alive_ms, now_ms + self._alive_ms, "BYSCORE"),
                ("HGET", keys.desired_state(name), SERVING),
                ("HGETALL", keys.lanes(name)),
                ("HGETALL", keys.failures(name)),
                ("HGETALL", keys.starts(name)),
                *(("XLEN", keys.work(name, lane)) for lane in self._lanes.get(name, DEFAULT_ONLY)),
                *(("HMGET", keys.worker(name, worker), *SAID) for worker in self._workers.get(name, ())),
                *(functions.lane_bytes(keys.work(name, lane)) for lane in self._lanes.get(name, DEFAULT_ONLY)),
            )
        answers = iter(await self._link.call_many(commands) if commands else ())
        states: dict[str, ModelState] = {}
        expects = False
        for name in names:
            fields, workers = next(answers), _names(next(answers))
            decoded = self._card(name, fields)
            serving, said_of_lanes = serving_from(next(answers)), next(answers)
            lanes = lanes_of(said_of_lanes)
            died = failures.decode(_fields(next(answers)), now_ms)
            started = starts.decode(_fields(next(answers)))
            found_lengths = {lane: next(answers) for lane in self._lanes.get(name, DEFAULT_ONLY)}
            lengths = {lane: length for lane, length in found_lengths.items() if isinstance(length, int)}
            said = {worker: next(answers) for worker in self._workers.get(name, ())}
            said_by_live = [said.get(worker) for worker in workers]
            late = sum(1 for one in said_by_live if _said(one, 0))
            self._note_versions(name, versions_of(said_by_live))
            found_bytes = {lane: bytes_from(next(answers)) for lane in self._lanes.get(name, DEFAULT_ONLY)}
            taken = {lane: one for lane, one in found_bytes.items() if one is not None}
            # A new one is asked about from the next time on.
            self._lanes[name], self._workers[name] = lanes, workers
            alive = len(workers)
            # Nothing is told of how long a request waits that nobody claims.
            paused = serving is Serving.PAUSED
            service = None if decoded is None or paused else served(decoded, alive, said_by_live)
            queued = sum(lengths.values())
            failed = failures_of(died, started, now_ms)
            ready_in_s = self._loading.ready_in_s(name, alive, started, died, now_ms)
            cold = None
            if self._holds and serving is not Serving.DRAINING:
                if not alive:
                    alone = None if decoded is None else served(decoded, 1, ())
                    cold = cold_start(ready_in_s, started, died, now_ms, alone)
                elif not fields:  # it has come since the card was read
                    cold = ColdStart(1, True)
            expects = expects or ready_in_s is not None or (cold is not None and cold.is_coming)
            expects = expects or any(one.is_under_way(now_ms) for one in started.values())
            states[name] = ModelState(
                name, decoded, alive, queued, service, serving, lanes, lengths, failed, late, taken, ready_in_s,
                bodies_of(said_by_live), self._versions[name], cold, batch_lanes_of(said_of_lanes, lanes),
            )  # fmt: skip
        self.expects = expects
        return Catalogue(states, redis_ok=True, memory_full=is_memory_full(memory))

    def _note_versions(self, name: str, versions: Sequence[str]) -> None:
        before, self._versions[name] = self._versions.get(name, ()), versions
        if len(versions) > 1 and versions != before:
            log.warning(
                "Consumers serve versions %s of model %s at once. Each publishes its own card, so clients meet now the "
                "one and now the other.",
                " and ".join(versions),
                name,
            )
        elif len(versions) == 1 and len(before) > 1:
            log.info("Every consumer of model %s serves version %s now.", name, versions[0])

    def _card(self, name: str, fields: Any) -> cards.Card | None:
        if isinstance(fields, ServerError) or not fields:
            return None
        known = self._decoded.get(name)
        if known is None or known[0] != fields:
            known = (fields, self._decode(name, dict(zip(fields[::2], fields[1::2], strict=True))))
            self._decoded[name] = known
        return known[1]

    def _decode(self, name: str, fields: Mapping[bytes, bytes]) -> cards.Card | None:
        try:
            return cards.from_hash(fields)
        except ValueError as error:
            log.error("The card of model %s in Redis is unreadable: %s", name, error)
            return None


def is_memory_full(info: Any) -> bool:
    """Say whether hardly any memory is left, from what INFO memory answered.

    False when there is no limit, when the server evicts keys instead of refusing them, or when this user may not ask:
    the server then refuses by itself.
    """
    if not isinstance(info, bytes):
        return False
    fields = dict(line.split(b":", 1) for line in info.splitlines() if b":" in line)
    try:
        used, limit = int(fields[b"used_memory"]), int(fields[b"maxmemory"])
    except (KeyError, ValueError):
        return False
    return 0 < limit * MEMORY_SHARE < used and fields.get(b"maxmemory_policy", b"noeviction") == b"noeviction"


def is_replica(info: Any) -> bool:
    """Say whether the server follows another one, from what INFO replication answered; False when it may not be asked.

    A connection that only reads would go on without any error, and see less and less of what happens.
    """
    return isinstance(info, bytes) and b"\nrole:slave\r" in info


def is_in_cluster_mode(info: Any) -> bool:
    """Say whether the server runs in cluster mode, from what INFO cluster answered; False when it may not be asked."""
    return isinstance(info, bytes) and b"\ncluster_enabled:1" in info


def lanes_of(fields: Any) -> Mapping[str, int | None]:
    """Return the limit of each lane from what HGETALL answered."""
    return {name: one.limit for name, one in from_pairs(_fields(fields).items()).items()}


def batch_lanes_of(fields: Any, known: Collection[str]) -> frozenset[str]:
    """Return which of the known lanes are batch lanes, from what HGETALL answered."""
    return batch_lanes(_fields(fields).items()).intersection(known)


def failures_of(died: Mapping[str, Failure], started: Mapping[str, Start], now_ms: int) -> Mapping[str, str]:
    """Return a sentence on each consumer that failed, by its place.

    Args:
        died: what supervisors say.
        started: what consumers say themselves, which is all there is where an engine supervises them.
    """
    again = hopeless(started, {})
    found = {place: CANNOT_LOAD for place, one in started.items() if _has_failed(one, place in again, now_ms)}
    return found | {place: one.sentence(now_ms) for place, one in died.items()}


def _has_failed(one: Start, again: bool, now_ms: int) -> bool:
    """Say whether it cannot load its model, or tries once more what has failed again and again."""
    if one.phase is Phase.LOADING:
        return again and one.is_current(now_ms)
    return one.phase is Phase.FAILED and now_ms - one.seen_ms <= LONGEST_PAUSE_MS


def _fields(answer: Any) -> dict[bytes, bytes]:
    return dict(zip(answer[::2], answer[1::2], strict=True)) if isinstance(answer, list) else {}


def bodies_of(said: Sequence[Any]) -> str:
    """Return the folder of bodies that all workers read, from what they said; empty when one reads another, or none.

    A worker that was not asked yet, or is of a version that knows of no such folder, reads none.
    """
    folders = {_said(one, 1) for one in said}
    return folders.pop().decode(errors="replace") if len(folders) == 1 else ""


def served(card: cards.Card, workers: int, said: Sequence[Any]) -> Service | None:
    """Return what a model's workers get done: by its card, or, if it generates, by what they said; None for unknown."""
    if card.family != GENERATE:
        return service_of(card.batch, workers)
    return generation_service(tuple(_number(_said(one, at)) for at in range(3, 6)) for one in said)  # type: ignore[misc]


def versions_of(said: Sequence[Any]) -> Sequence[str]:
    """Return the versions of a model that its workers serve, from what they said.

    A worker that was not asked yet, or is of a version that does not tell, is left out.
    """
    return sorted({_said(one, 2).decode(errors="replace") for one in said} - {""})


def _number(text: bytes) -> float:
    """Return a number that a worker said; 0 for none. Whoever may write there may write anything."""
    try:
        return float(text[:MOST_DIGITS])
    except ValueError:
        return 0.0


def _said(answer: Any, index: int) -> bytes:
    """Return one field of what HMGET answered of a worker; empty for nothing."""
    value = answer[index] if isinstance(answer, list) else None
    return value if isinstance(value, bytes) else b""


def _names(answer: Any) -> list[str]:
    found = answer if isinstance(answer, list) else ()
    return [name for name in (raw.decode(errors="replace") for raw in found) if is_name(name)]
