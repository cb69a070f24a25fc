"""What the routes need of a queue. ``redis_queue.py`` is the real one; ``tests/fakes.py`` has one in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import msgspec

from producer_api.load.cold_start import ColdStart
from producer_api.load.wait_estimate import Service
from shared.keys import DEFAULT_LANE
from shared.state.cards import Card
from shared.state.desired_state import Serving
from shared.state.lanes import LaneBytes
from shared.wire.frames import Frame
from shared.wire.messages import Reply, Request
from shared.wire.outcomes import RequestError

GiveUp = Callable[[], None]

DEFAULT_ONLY: Mapping[str, int | None] = {DEFAULT_LANE: None}
"""The lanes of a model whose operator has made none."""


class Condition(StrEnum):
    """How a model stands.

    Attributes:
        READY: it takes requests and answers them.
        LOADING: no consumer serves it yet, and one is loading it or about to.
        DRAINING: an operator has its front ends refuse requests.
        SILENT: it takes requests, and its consumers have answered none for a while.
        FAILED: no consumer serves it, and its consumers died or cannot load it.
        AWAY: no consumer serves it.
    """

    READY = "ready"
    LOADING = "loading"
    DRAINING = "draining"
    SILENT = "silent"
    FAILED = "failed"
    AWAY = "away"


@dataclass(frozen=True, slots=True)
class ModelState:
    """What the front end knows of a model: its card, how many workers live, how many requests its lanes hold.

    ``card`` is None for a model that was once served but whose card cannot be read. ``service`` is what its consumers
    get done, None while that is not known, and while the model is paused.

    Attributes:
        serving: the operator's desired state.
        is_open: it takes requests; told here once, since every request asks.
        lanes: the limit of each lane, None for that of the settings.
        lengths: how many requests each of those lanes holds that were asked for.
        failures: a sentence on each consumer that died and does not live well yet, by its place.
        late: of the workers that live, how many take requests and answer none.
        bytes: what they take; without those of which that is not known.
        bodies: the folder of bodies in shared memory that all its workers read; empty when they do not agree.
        versions: of the model, as its live workers say; where there are several its card changes with each heartbeat.
        ready_in_s: while no consumer serves it and one is loading it or about to: seconds that will probably take.
        cold: while no consumer serves it and requests may wait for one: what is known of it; else None.
        batch_lanes: those of its lanes whose requests run only while nothing else waits.
    """

    name: str
    card: Card | None
    workers: int = 0
    queued: int = 0
    service: Service | None = None
    serving: Serving = Serving.OPEN
    lanes: Mapping[str, int | None] = field(default_factory=lambda: DEFAULT_ONLY)
    lengths: Mapping[str, int] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    late: int = 0
    bytes: Mapping[str, LaneBytes] = field(default_factory=dict)
    ready_in_s: int | None = None
    bodies: str = ""
    versions: Sequence[str] = ()
    cold: ColdStart | None = None
    batch_lanes: frozenset[str] = frozenset()
    is_open: bool = field(init=False)

    def __post_init__(self) -> None:
        is_open = self.workers > 0 and self.card is not None and self.serving is not Serving.DRAINING
        object.__setattr__(self, "is_open", is_open)

    @property
    def is_ready(self) -> bool:
        """Whether it takes requests and, as far as is known, answers them.

        One that does not answer goes on taking them: it may answer again, and another consumer may come.
        """
        return self.is_open and self.late < self.workers

    @property
    def condition(self) -> Condition:
        """Its condition for a client that wants to send it a request."""
        if self.is_open:
            return Condition.READY if self.is_ready else Condition.SILENT
        if self.serving is Serving.DRAINING and (self.workers or self.ready_in_s is not None):
            return Condition.DRAINING
        if self.ready_in_s is not None:
            return Condition.LOADING
        return Condition.FAILED if self.failures else Condition.AWAY


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A snapshot of all models.

    Attributes:
        redis_ok: Redis answered when it was last asked.
        memory_full: it has so little memory left that what is there is kept for finishing what has been admitted.
    """

    models: Mapping[str, ModelState] = field(default_factory=dict)
    redis_ok: bool = False
    memory_full: bool = False

    def resolve(self, name: str, key: str) -> ModelState | None:
        """Return the model that answers a request for ``name``; None when there is none.

        A name is that of one model. Where it stands for several, here is the place that chooses, and nothing behind the
        front end need know.

        Args:
            key: what the choice may depend on, such as the request's id: the same key leads to the same model.
        """
        return self.models.get(name)


class Standing(StrEnum):
    """How a request with a certain id stands.

    Attributes:
        QUEUED: no consumer has claimed it.
        CLAIMED: a consumer has it; it may be running.
        ANSWERED: its reply is stored.
        UNKNOWN: there is no reply, and no request with this client's own id is known to be in flight.
    """

    QUEUED = "queued"
    CLAIMED = "claimed"
    ANSWERED = "answered"
    UNKNOWN = "unknown"


class Answer(msgspec.Struct, frozen=True):
    """A reply.

    Attributes:
        reply: what the consumer said; ``reply.fault`` is set when it said no.
        is_short: the whole reply is so short that encoding it takes no time worth mentioning.
        cache_status: what the header ``Cache-Status`` is to say; empty where there is no cache.
    """

    reply: Reply
    is_short: bool = False
    cache_status: bytes = b""


class Parts(Protocol):
    """Takes the parts of one answer as they come. Its methods are called on the event loop and must not raise.

    Attributes:
        next_seq: number of the next frame that it takes; the queue leaves out those before.
    """

    next_seq: int

    def admitted(self, *, joined: bool) -> None:
        """Take note that the request is in the lane: by now, or, if it is ``joined``, since another one of its id."""

    def frame(self, frame: Frame) -> None:
        """Take the frame of the number ``next_seq``, which grows by one."""


class Queue(Protocol):
    """A queue of inference requests, seen from a front end."""

    async def start(self) -> None:
        """Connect and take the first snapshot; returns even when Redis is away."""

    async def close(self) -> None:
        """Stop reading replies. Requests still waiting end with ``SHUTTING_DOWN``."""

    def catalogue(self) -> Catalogue:
        """Return the latest snapshot; it is at most a few seconds old while Redis answers. Never blocks."""

    def begin(
        self,
        state: ModelState,
        request: Request,
        *,
        id_is_generated: bool,
        done: Callable[[Answer | RequestError], None],
        fingerprint: str = "",
        lane: str = DEFAULT_LANE,
        run_ms: int = 0,
        parts: Parts | None = None,
    ) -> GiveUp:
        """Put a request into one of the model's lanes without waiting for its reply.

        Args:
            state: the model, which has been admitted (``admission.admit``) and has this lane. One that is
                ``cold`` takes requests whose time covers its start and the requests ahead of them.
            request: ``reply_to`` is filled in by the queue.
            id_is_generated: the front end made the id, so no client can ask for this reply again and it is deleted once
                delivered. A client's own id is looked up first: if its reply is there, that is the answer; if it
                is in flight, wherever it was admitted, this one waits for its reply, and it does not run twice.
            done: called once, on the event loop, with the answer or the error that ended the wait, those below and
                ``UNKNOWN_OUTCOME`` once ``request.ttl_ms`` has passed without a reply; it must not raise.
            fingerprint: of what was sent, letters and digits; with another one under the same id, ``KEY_REUSED``. Empty
                where that does not matter.
            lane: which one; the same id in another lane is another request.
            run_ms: how long it may run once it has begun, which ``request.ttl_ms`` does not cover then: 0 unless its
                answer is generated bit by bit.
            parts: takes the parts of the answer, if they are wanted. The whole answer is the reply's all the same.

        Returns:
            What to call when the client no longer waits for the answer; ``done`` is not called after that. A request
            with an id that the front end made up is then not run, if no consumer has claimed it yet.

        Raises:
            RequestError: the request was refused at once, and ``done`` will not be called: ``WAIT_TOO_LONG``,
                ``LANE_FULL``, ``QUEUE_UNAVAILABLE``, ``QUEUE_OUT_OF_MEMORY``, ``NO_WORKER``, ``LOADING``,
                ``OVERLOADED``, ``SHUTTING_DOWN``.
        """

    def await_card(
        self,
        state: ModelState,
        size_bytes: int,
        limit_s: float,
        go_on: Callable[[], None],
        refused: Callable[[RequestError], None],
    ) -> GiveUp:
        """Let a request wait in this process until a model without a live consumer says what it takes.

        Args:
            state: the model, which has been let in (``admission.let_in``) without a card.
            size_bytes: of the body that the caller keeps meanwhile.
            limit_s: what the answer may take.
            go_on: called once, on the event loop, when the model's card is known; the request is then to be admitted.
            refused: called instead with the error that ended the wait: the model cannot be served after all, is being
                drained, or the time is up. Neither may raise.

        Returns:
            What to call when the client no longer waits: neither is called after that.

        Raises:
            RequestError: the request was refused at once: ``LOADING``, ``NO_WORKER``, ``OVERLOADED``,
                ``SHUTTING_DOWN``.
        """

    async def find(self, model: str, request_id: str, lane: str = DEFAULT_LANE) -> Reply | Standing:
        """Return the stored reply to a request, or how the request stands.

        Raises:
            RequestError: ``UNKNOWN_MODEL``, ``UNKNOWN_LANE``, ``QUEUE_UNAVAILABLE``.
        """

    async def cancel(self, model: str, request_id: str, lane: str = DEFAULT_LANE) -> Standing:
        """Take back a request with an id of a client's own; returns how it stood.

        One that was queued is not run; one that was claimed is not run if its consumer can still help it. In
        both cases it leaves nothing behind, and clients that wait for it get ``CANCELLED``.

        Raises:
            RequestError: ``UNKNOWN_MODEL``, ``UNKNOWN_LANE``, ``QUEUE_UNAVAILABLE``.
        """
