"""What the console's feed sends, as JSON. Rates are per second, times in ms or s as named, shares from 0 to 1; null is
unknown."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class Level(StrEnum):
    """How well something stands.

    Attributes:
        OK: nothing is to be done.
        WARN: an operator should look.
        BAD: requests fail or wait in vain.
    """

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


class Reason(Struct, frozen=True):
    """One thing that is not as it should be.

    Attributes:
        what: a sentence.
        do: what to do about it.
    """

    level: Level
    what: str
    do: str


class Health(Struct, frozen=True):
    """Whether the queue is healthy: as bad as the worst of the reasons, which come worst first."""

    level: Level
    reasons: list[Reason]


class RedisState(Struct, frozen=True):
    """The server: whether it answers, and its memory in bytes; the limit is null where it has none."""

    ok: bool
    memory_used: int | None = None
    memory_limit: int | None = None


class Figures(Struct, frozen=True, kw_only=True):
    """What the last ten seconds or so were like.

    Attributes:
        rate: requests that ended.
        errors_rate: of them, those refused for want of room (429), or failed (5xx).
        p50_ms, p95_ms, p99_ms: until the reply, as this system's front ends have waited for it.
        goodput: share of answers that came in time, of those and the errors.
    """

    rate: float = 0.0
    errors_rate: float = 0.0
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    goodput: float | None = None


class _About(Figures, frozen=True, kw_only=True):
    name: str
    version: str | None
    state: str
    serving: str
    ready: bool
    depth: int
    batch: float | None
    busy: float | None
    dead: int | None


class ModelLine(_About, frozen=True, kw_only=True):
    """One model.

    Attributes:
        state: its condition, see :class:`producer_api.queue.interface.Condition`.
        serving: ``open``, ``paused`` or ``draining``: what an operator wants.
        depth: requests in all lanes, waiting and running.
        batch: mean rows of a batch.
        busy: mean share of the time in which its workers' devices ran batches.
        dead: dead letters.
        workers: how many live.
    """

    workers: int


class WorkerLine(Struct, frozen=True, kw_only=True):
    """One live worker, as it says; see :class:`shared.state.desired_state.WorkerState`.

    Attributes:
        slots, running, tokens_per_s: of a model that generates.
        seen_ms: milliseconds since its last heartbeat.
    """

    name: str
    host: str | None
    device: str | None
    runtime: str | None
    precision: str | None
    version: str | None
    busy: float | None
    batch: float | None
    fixed_ms: float | None
    per_row_ms: float | None
    unit: str | None
    slots: int | None
    running: int | None
    tokens_per_s: float | None
    serving: str | None
    late_s: float | None
    seen_ms: int


class LaneLine(Struct, frozen=True, kw_only=True):
    """One lane.

    Attributes:
        kind: ``batch`` for one that gets what the others leave, else ``ordinary``.
        limit: requests that it may hold; null for as many as the settings say.
        running: of ``depth``, those that a worker has claimed.
        rate: requests that ended.
        bytes: what its requests and stored replies take.
        oldest_s: age of its oldest request; null when it is empty.
    """

    name: str
    kind: str
    limit: int | None
    weight: float
    depth: int
    running: int | None
    paused: bool
    rate: float
    bytes: int | None
    bytes_limit: int | None
    dead: int | None
    oldest_s: float | None


class CacheState(Struct, frozen=True, kw_only=True):
    """What the result cache of the front end that tells this does; others have caches of their own.

    Attributes:
        hit_ratio: share of the requests of the last ten seconds or so that it has answered; null where none came.
        hits_rate: how many these were per second.
        entries, bytes, bytes_limit: what it holds, and may hold.
    """

    hit_ratio: float | None
    hits_rate: float
    entries: int
    bytes: int
    bytes_limit: int


class ModelDetail(_About, frozen=True, kw_only=True):
    """The chosen model: what its line says, with its workers and lanes one by one."""

    workers: list[WorkerLine]
    lanes: list[LaneLine]
    cache: CacheState | None = None


class State(Struct, frozen=True, kw_only=True):
    """Everything at one moment, which is ``at_ms`` on Redis's clock."""

    at_ms: int
    redis: RedisState
    health: Health
    models: list[ModelLine]
    model: ModelDetail | None = None
