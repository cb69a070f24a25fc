"""What is in Redis, as operators see it [I/O]: models, their workers, their lanes. Nothing is changed or claimed."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import msgspec

from shared import keys
from shared.names import is_name
from shared.redis import functions
from shared.redis.client import ServerError
from shared.state import failures, starts
from shared.state.cards import MOST_FIELD_BYTES, BatchSettings, Tuning
from shared.state.desired_state import SERVING, Serving, serving_from
from shared.state.failures import Failure
from shared.state.lanes import BATCH, MOST_DIGITS, ORDINARY, LaneBytes, batch_lanes, bytes_from, parse, paused
from shared.state.starts import Phase

T = TypeVar("T")

MOST_MODELS = 1000
CARD_TEXTS = ("version", "family", "runtime", "precision", "device")


@dataclass(frozen=True, slots=True)
class LaterSeen:
    """The later requests of a lane: how many are open, the bytes of the kept results, and their limit."""

    open: int
    kept_bytes: int
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class Lane:
    """One lane of a model at one moment.

    Attributes:
        limit: requests it may hold, None when Redis does not say.
        depth: requests in the lane, waiting and running.
        running: those that a consumer has claimed.
        oldest_age_s: age of its oldest request, None when it is empty.
        added: requests ever added, for rates.
        dead_letters: entries of its dead-letter stream.
        has_stream, has_group: whether the lane is set up.
        weight: its share while lanes compete, relative to the others'.
        ahead_s: how far the newest id it has seen lies in the future.
        bytes: what it takes, None where the functions on the server are older.
        is_paused: whether an operator has paused it.
        kind: ``batch`` or ``ordinary``.
        later: its later requests, None where it has none, or the functions on the server are older.
    """

    name: str
    limit: int | None
    depth: int
    running: int
    oldest_age_s: float | None
    added: int
    dead_letters: int
    has_stream: bool
    has_group: bool
    weight: float = 1.0
    ahead_s: float = 0.0
    bytes: LaneBytes | None = None
    later: LaterSeen | None = None
    is_paused: bool = False
    kind: str = ORDINARY

    @property
    def weight_text(self) -> str:
        """Its weight as a table shows it."""
        return "paused" if self.is_paused else f"{self.weight:g}"


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """One worker of the list; ``fields`` is what it says of itself, nothing when that has expired."""

    name: str
    silent_s: float
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StartSeen:
    """A consumer that loads its model, for ``for_s`` seconds now, or that could not; said ``silent_s`` seconds ago."""

    place: str
    worker: str
    phase: Phase
    for_s: float
    silent_s: float
    detail: str


@dataclass(frozen=True, slots=True)
class Model:
    """One model at one moment.

    Attributes:
        card: the members of its card that are short texts.
        preferred: rows of a batch beyond which hardly more is done; None where the card does not say.
        tuning: how it came to its runtime; None where there was no choice, or the card does not say.
        serving: the desired state.
        failures: consumers that died and do not live well yet, by their place.
        looked_at_ms: the moment, on Redis's clock.
        starting: consumers that load it now, or could not, and how long ago they said so in seconds.
    """

    name: str
    silent_s: float
    card: Mapping[str, str]
    workers: tuple[WorkerSeen, ...]
    lanes: tuple[Lane, ...]
    serving: Serving = Serving.OPEN
    failures: Mapping[str, Failure] = field(default_factory=dict)
    looked_at_ms: int = 0
    starting: tuple[StartSeen, ...] = ()
    preferred: int | None = None
    tuning: Tuning | None = None


def now_ms(client: Any) -> int:
    """Redis's clock in ms."""
    seconds, microseconds = client.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


def models(client: Any) -> list[Model]:
    """Look at every model, sorted by name.

    Raises:
        shared.redis.RedisError: Redis does not answer.
    """
    now = now_ms(client)
    found = client.zrevrange(keys.MODELS, 0, MOST_MODELS - 1, withscores=True)
    return [_model(client, name, (now - seen) / 1000, now) for name, seen in sorted(_named(found))]


def lane_settings(client: Any, model: str) -> dict[str, tuple[int | None, float]]:
    """Return limit and weight of each of a model's lanes; ``default`` is always among them."""
    found: dict[str, tuple[int | None, float]] = {keys.DEFAULT_LANE: (None, 1.0)}
    for raw, value in client.hgetall(keys.lanes(model)).items():
        name = raw.decode(errors="replace")
        if is_name(name):
            found[name] = (limit_of(value), parse(value).weight)
    return dict(sorted(found.items()))


def unit(client: Any, model: str) -> str | None:
    """Return what a model's cost grows with, as its card says it; None where it does not say."""
    batch = _member(client.hgetall(keys.card(model)), "batch", BatchSettings)
    return batch.unit if batch else None


def lanes(client: Any, model: str, now: int | None = None) -> list[Lane]:
    """Look at every lane of a model, sorted by name."""
    now = now_ms(client) if now is None else now
    settings, pairs = lane_settings(client, model), client.hgetall(keys.lanes(model)).items()
    resting, batch = paused(pairs), batch_lanes(pairs)
    found = [lane(client, model, name, limit, now, weight) for name, (limit, weight) in settings.items()]
    return [replace(one, is_paused=one.name in resting, kind=BATCH if one.name in batch else ORDINARY) for one in found]


def limit_of(value: bytes) -> int | None:
    """Return the limit in a field of ``hr:{m}:lanes``: a number, which a weight may follow after a comma."""
    text = value.partition(b",")[0]
    return int(text) if text.isdigit() and len(text) <= MOST_DIGITS else None


def _named(found: Any) -> list[tuple[str, float]]:
    pairs = ((raw.decode(errors="replace"), score) for raw, score in found)
    return [(name, score) for name, score in pairs if is_name(name)]


def _model(client: Any, name: str, silent_s: float, now: int) -> Model:
    listed = _named(client.zrange(keys.workers(name), 0, -1, withscores=True))
    workers = [
        WorkerSeen(worker, (now - seen) / 1000, _texts(client.hgetall(keys.worker(name, worker))))
        for worker, seen in sorted(listed)
    ]
    serving = serving_from(client.hget(keys.desired_state(name), SERVING))
    found = lanes(client, name, now)
    card = client.hgetall(keys.card(name))
    starting = _starting(client, name, now, {worker.name for worker in workers})
    died = _failures(client, name, now)
    batch = _member(card, "batch", BatchSettings)
    return Model(
        name,
        silent_s,
        _card_texts(card),
        tuple(workers),
        tuple(found),
        serving,
        died,
        now,
        starting,
        batch.preferred if batch else None,
        _member(card, "tuning", Tuning),
    )


def _failures(client: Any, name: str, now: int) -> dict[str, Failure]:
    try:
        return failures.decode(client.hgetall(keys.failures(name)), now)
    except ServerError:  # users of before there were failures may not look
        return {}


def _starting(client: Any, name: str, now: int, live: Set[str]) -> tuple[StartSeen, ...]:
    """A worker that loads another precision lives and is not among them."""
    try:
        found = starts.decode(client.hgetall(keys.starts(name)))
    except ServerError:  # users of before there were starts may not look
        return ()
    return tuple(
        StartSeen(
            place, one.worker, one.phase, (one.seen_ms - one.since_ms) / 1000, (now - one.seen_ms) / 1000, one.detail
        )
        for place, one in found.items()
        if one.worker not in live and one.is_current(now)
    )


def _texts(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    return {name.decode(errors="replace"): value.decode(errors="replace") for name, value in fields.items()}


def _card_texts(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    found = {name: _member(fields, name, str) for name in CARD_TEXTS}
    return {name: value for name, value in found.items() if value is not None}


def _member(fields: Mapping[bytes, bytes], name: str, kind: type[T]) -> T | None:
    """Decode a member of a card, whose values are JSON; None where it is missing or no such thing."""
    text = fields.get(name.encode(), b"null")
    if len(text) > MOST_FIELD_BYTES:
        return None
    try:
        return msgspec.json.decode(text, type=kind)
    except (ValueError, RecursionError):
        return None


def lane(client: Any, model: str, name: str, limit: int | None, now: int, weight: float = 1.0) -> Lane:
    """Look at one lane; ``now`` is Redis's clock in ms."""
    work = keys.work(model, name)
    dead = client.xlen(keys.dead_letters(model, name))
    try:
        stream = client.xinfo_stream(work)
    except ServerError:
        return Lane(name, limit, 0, 0, None, 0, dead, has_stream=False, has_group=False, weight=weight)
    groups = {group["name"]: group for group in client.xinfo_groups(work)}
    group = groups.get(keys.GROUP.encode())
    first = stream["first-entry"]
    age_s = None if first is None else max(0.0, (now - _milliseconds(first[0])) / 1000)
    ahead_s = max(0.0, (_milliseconds(stream["last-generated-id"]) - now) / 1000)
    running = group["pending"] if group else 0
    added = stream.get("entries-added", 0)
    has_group, takes, later = group is not None, lane_bytes(client, work), _later(client, work)
    length = stream["length"]
    return Lane(name, limit, length, running, age_s, added, dead, True, has_group, weight, ahead_s, takes, later)


def _later(client: Any, work: str) -> LaterSeen | None:
    try:
        added, opened, _, kept_bytes, limit_bytes, *_ = client.execute_command(*functions.line(work))
    except (ServerError, ValueError):
        return None
    return LaterSeen(opened, kept_bytes, limit_bytes) if added or kept_bytes else None


def lane_bytes(client: Any, work: str) -> LaneBytes | None:
    """Ask what a lane takes; None where the functions on the server are older, or this user may not ask."""
    try:
        return bytes_from(client.execute_command(*functions.lane_bytes(work)))
    except ServerError:
        return None


def _milliseconds(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])


def consumers(client: Any, model: str, name: str) -> list[tuple[str, int, float]]:
    """Name, pending requests and idle seconds of each consumer in a lane's group; none when there is no group."""
    try:
        found = client.xinfo_consumers(keys.work(model, name), keys.GROUP)
    except ServerError:
        return []
    return [(one["name"].decode(errors="replace"), one["pending"], one["idle"] / 1000) for one in found]
