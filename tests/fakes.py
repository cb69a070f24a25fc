"""Real implementations of the interfaces, without the servers behind them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from time import perf_counter

from consumer.models.base import IMAGES, RAW, Result
from producer_api.load.cold_room import ColdRoom
from producer_api.load.cold_start import ColdStart
from producer_api.queue.admission import check_cold, no_room
from producer_api.queue.held import HeldRequests
from producer_api.queue.interface import Answer, Catalogue, GiveUp, ModelState, Parts, Standing
from shared.keys import DEFAULT_LANE
from shared.state.cards import BatchSettings, Card, TensorSpec
from shared.state.starts import Phase
from shared.tracing.spans import TracedBatch
from shared.wire.messages import Fault, ModelTag, Prediction, Reply, Request, Tensor, Timing
from shared.wire.outcomes import (
    CANCELLED,
    EXPIRED,
    KEY_REUSED,
    LANE_FULL,
    MODEL_ERROR,
    NO_WORKER,
    QUEUE_UNAVAILABLE,
    SHUTTING_DOWN,
    UNKNOWN_LANE,
    UNKNOWN_MODEL,
    UNKNOWN_OUTCOME,
    Outcome,
    RequestError,
)

LABELS = ("tench", "goldfish", "cat", "dog")


ModelFunction = Callable[[Request], Result | Awaitable[Result]]


def card(
    name: str,
    inputs: Iterable[TensorSpec],
    *,
    content_types: tuple[str, ...] = (RAW,),
    labels: tuple[str, ...] | None = None,
    max_batch: int = 8,
    warnings: tuple[str, ...] = (),
) -> Card:
    """Make a card; its outputs do not matter to a front end."""
    return Card(
        name=name,
        version="1",
        family="python",
        inputs=tuple(inputs),
        outputs=(TensorSpec("output", "UINT8", (-1,)),),
        content_types=content_types,
        precision="fp32",
        device="cpu",
        batch=BatchSettings(max_batch, 5.0, "window"),
        labels=labels,
        warnings=warnings,
    )


ECHO = card("echo", [TensorSpec("input", "UINT8", (-1,))])
CLASSIFIER = card(
    "imagenet", [TensorSpec("image", "UINT8", (4, 4, 3))], content_types=(*IMAGES, RAW), labels=LABELS, max_batch=4
)


def echo(request: Request) -> Result:
    """Return the body, or the first input, as the only output."""
    if request.inputs:
        first = request.inputs[0]
        return Result(outputs=(Tensor("output", first.datatype, first.shape, first.data),))
    body = request.body or b""
    return Result(outputs=(Tensor("output", "UINT8", (1, len(body)), body),))


def classify(request: Request) -> Result:
    """Name the label that the first byte of each row points at, and the ones after it."""
    data, rows = request.body or b"\0", 1
    if request.inputs:
        data, rows = request.inputs[0].data, request.inputs[0].shape[0]
    top_k = request.params.get("top_k", 2)
    assert isinstance(top_k, int)
    chosen = []
    for row in range(rows):
        first = data[row * len(data) // rows]
        for rank in range(min(top_k, len(LABELS))):
            index = (first + rank) % len(LABELS)
            chosen.append(Prediction(LABELS[index], index, 0.5 / (rank + 1), row))
    return Result(predictions=tuple(chosen))


@dataclass(slots=True)
class _Item:
    request: Request
    added_s: float
    waiting: asyncio.Future[Reply]


@dataclass(slots=True)
class _Lane:
    card: Card | None
    function: ModelFunction
    workers: int
    limit: int | None = None
    limit_bytes: int | None = None
    queued: deque[_Item] = field(default_factory=deque)
    known: dict[str, asyncio.Future[Reply]] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)
    work: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class InMemoryQueue:
    """A queue in this process with the rules of the real one; ``tests/contract`` holds both to them.

    One task per model takes requests in order and calls the model's function. A client's own id is answered once and
    remembered; the lane has a limit; a request whose time is over is not run. ``hold`` keeps requests queued,
    ``set_workers``, ``redis_ok`` and ``memory_full`` change what the catalogue shows.
    """

    def __init__(self, *, lane_limit: int = 1024) -> None:
        self.redis_ok = True
        self.memory_full = False
        self.submitted: list[Request] = []
        self.lanes_used: list[str] = []
        self._lane_limit = lane_limit
        self._lanes: dict[str, _Lane] = {}
        self._loading: dict[str, int | None] = {}
        self._cold: dict[str, ColdStart | None] = {}
        self.room = ColdRoom(1000, 1 << 20)
        self._held_requests: HeldRequests | None = None
        self._held = False
        self._closed = False
        self._waits: set[asyncio.Task[None]] = set()

    def serve(self, model: str, model_card: Card | None, function: ModelFunction, *, workers: int = 1) -> None:
        """Add a model."""
        self._lanes[model] = _Lane(model_card, function, workers)

    def create_lane(self, model: str, lane: str, limit: int | None = None, limit_bytes: int | None = None) -> None:
        """Give a model another lane."""
        first = self._lanes[model]
        self._lanes[_place(model, lane)] = _Lane(first.card, first.function, first.workers, limit, limit_bytes)

    def set_workers(self, model: str, workers: int) -> None:
        """Say how many workers live."""
        self._lanes[model].workers = workers

    def set_card(self, model: str, model_card: Card) -> None:
        """Show another card; what waits goes on."""
        self._lanes[model].card = model_card

    def set_cold(self, model: str, cold: ColdStart | None) -> None:
        """Say when a model that nobody serves will be; requests wait for it."""
        self._cold[model] = cold

    def look(self) -> None:
        """Let those go on that wait for a card, as the real one does with every snapshot; on the event loop."""
        if self._held_requests is not None:
            self._held_requests.look(self.catalogue())

    def set_loading(self, model: str, ready_in_s: int | None) -> None:
        """Say that a model nobody serves will probably be ready in so many seconds; None: nothing comes."""
        self._loading[model] = ready_in_s

    def hold(self) -> None:
        """Take no more requests from the lanes."""
        self._held = True

    def release(self) -> None:
        """Take requests again."""
        self._held = False
        for lane in self._lanes.values():
            lane.work.set()

    async def start(self) -> None:
        """See the interface. The task of each model starts with its first request."""

    async def close(self) -> None:
        """See the interface."""
        self._closed = True
        if self._held_requests is not None:
            self._held_requests.close()
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for lane in self._lanes.values():
            for waiting in lane.known.values():
                if not waiting.done():
                    waiting.set_exception(_no(SHUTTING_DOWN, "The front end is stopping."))
                    waiting.exception()  # nobody may be waiting any more

    def catalogue(self) -> Catalogue:
        """See the interface."""
        states = {
            name: ModelState(
                name,
                lane.card,
                lane.workers,
                len(lane.queued),
                lanes=dict.fromkeys(self._lanes_of(name)),
                ready_in_s=None if lane.workers else self._loading.get(name),
                cold=None if lane.workers else self._cold.get(name),
            )
            for name, lane in list(self._lanes.items())
            if ":" not in name
        }
        return Catalogue(states, self.redis_ok, self.memory_full)

    def _lanes_of(self, model: str) -> list[str]:
        others = [name.partition(":")[2] for name in list(self._lanes) if name.startswith(f"{model}:")]
        return [DEFAULT_LANE, *others]

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
        """See the interface."""
        model = state.name
        if model in self._lanes and lane not in self._lanes_of(model):
            raise _no(UNKNOWN_LANE, f"There is no lane {lane}.", request.id)
        model = _place(model, lane)
        if model in self._lanes and fingerprint:
            had = self._lanes[model].fingerprints.setdefault(request.id, fingerprint)
            if had != fingerprint:
                raise _no(KEY_REUSED, "This key came with another body before.", request.id)
        place = self._admit(model, request, id_is_generated)
        self.lanes_used.append(lane)

        async def wait() -> None:
            try:
                done(await self._wait(place, request, id_is_generated))
            except RequestError as error:
                done(error)

        task = asyncio.create_task(wait())
        self._waits.add(task)
        task.add_done_callback(self._waits.discard)

        def give_up() -> None:
            task.cancel()
            if id_is_generated:
                place.queued = deque(item for item in place.queued if item.request.id != request.id)

        return give_up

    def await_card(
        self,
        state: ModelState,
        size_bytes: int,
        limit_s: float,
        go_on: Callable[[], None],
        refused: Callable[[RequestError], None],
    ) -> GiveUp:
        """See the interface."""
        assert state.cold is not None
        check_cold(state, self.room, state.cold.wait_s(0, 1.0), limit_s, perf_counter())
        place = self.room.enter(state.name, size_bytes)
        if place is None:
            raise no_room(state, self.room, state.cold.wait_s(0, 1.0))
        if self._held_requests is None:
            self._held_requests = HeldRequests(self.room)
        return self._held_requests.hold(state.name, place, limit_s, go_on, refused)

    def _lane(self, model: str, lane: str) -> _Lane:
        if model not in self._lanes:
            raise _no(UNKNOWN_MODEL, f"There is no model {model}.")
        if lane not in self._lanes_of(model):
            raise _no(UNKNOWN_LANE, f"There is no lane {lane}.")
        if not self.redis_ok:
            raise _no(QUEUE_UNAVAILABLE, "Redis does not answer.")
        return self._lanes[_place(model, lane)]

    async def find(self, model: str, request_id: str, lane: str = DEFAULT_LANE) -> Reply | Standing:
        """See the interface."""
        place = self._lane(model, lane)
        known = place.known.get(request_id)
        if known is None:
            return Standing.UNKNOWN
        if known.done():
            return known.result()
        return Standing.QUEUED if any(item.request.id == request_id for item in place.queued) else Standing.CLAIMED

    async def cancel(self, model: str, request_id: str, lane: str = DEFAULT_LANE) -> Standing:
        """See the interface."""
        stood = await self.find(model, request_id, lane)
        if isinstance(stood, Reply):
            return Standing.ANSWERED
        if stood is not Standing.UNKNOWN:
            place = self._lane(model, lane)
            place.queued = deque(item for item in place.queued if item.request.id != request_id)
            tag = ModelTag(model, "", "")
            fault = Fault(CANCELLED.code, "The request was cancelled.")
            place.fingerprints.pop(request_id, None)
            place.known.pop(request_id).set_result(Reply(request_id, tag, Timing(), fault=fault))
        return stood

    async def _wait(self, lane: _Lane, request: Request, id_is_generated: bool) -> Answer:
        waiting = lane.known[request.id]
        try:
            async with asyncio.timeout(request.ttl_ms / 1000):
                reply = await asyncio.shield(waiting)
        except TimeoutError:
            raise _no(UNKNOWN_OUTCOME, "No reply came in time; ask again with this id.", request.id) from None
        outcome_code = None if reply.fault is None else reply.fault.code
        if id_is_generated or outcome_code == EXPIRED.code:
            lane.known.pop(request.id, None)
        return Answer(reply)

    def _admit(self, model: str, request: Request, id_is_generated: bool) -> _Lane:
        if self._closed:
            raise _no(SHUTTING_DOWN, "The front end is stopping.")
        if not self.redis_ok:
            raise _no(QUEUE_UNAVAILABLE, "Redis does not answer.")
        lane = self._lanes.get(model)
        if lane is None:
            raise _no(UNKNOWN_MODEL, f"There is no model {model}.")
        if lane.workers < 1 and self._cold.get(model) is None:
            raise _no(NO_WORKER, f"No worker serves {model}.")
        if not id_is_generated and request.id in lane.known:
            return lane
        if len(lane.queued) >= (lane.limit or self._lane_limit):
            raise _no(LANE_FULL, f"{len(lane.queued)} requests wait already.")
        if lane.limit_bytes is not None and lane.queued:
            taken = sum(len(item.request.body or b"") for item in lane.queued) + len(request.body or b"")
            if taken > lane.limit_bytes:
                raise _no(LANE_FULL, f"The lane's requests would take {taken} bytes.")
        if lane.task is None:
            lane.task = asyncio.create_task(self._work(lane))
        item = _Item(request, perf_counter(), asyncio.get_running_loop().create_future())
        lane.known[request.id] = item.waiting
        lane.queued.append(item)
        lane.work.set()
        self.submitted.append(request)
        return lane

    async def _work(self, lane: _Lane) -> None:
        while True:
            await lane.work.wait()
            lane.work.clear()
            while lane.queued and not self._held:
                item = lane.queued.popleft()
                reply = await _run(lane, item)
                if not item.waiting.done():
                    item.waiting.set_result(reply)


def _place(model: str, lane: str) -> str:
    return model if lane == DEFAULT_LANE else f"{model}:{lane}"


async def _run(lane: _Lane, item: _Item) -> Reply:
    request, taken_s = item.request, perf_counter()
    queue_us = int((taken_s - item.added_s) * 1e6)
    served = lane.card
    tag = ModelTag(served.name, served.version, served.precision) if served else ModelTag("", "", "")
    if queue_us > request.ttl_ms * 1000:
        fault = Fault(EXPIRED.code, "The request's time was over before it ran.")
        return Reply(request.id, tag, Timing(queue=queue_us), fault=fault)
    try:
        result = lane.function(request)
        if not isinstance(result, Result):
            result = await result
    except RequestError as error:
        fault = Fault(error.outcome.code, error.message, error.field)
        return Reply(request.id, tag, Timing(queue=queue_us), fault=fault)
    except Exception:
        fault = Fault(MODEL_ERROR.code, "The model failed on this input.")
        return Reply(request.id, tag, Timing(queue=queue_us), fault=fault)
    timing = Timing(queue=queue_us, run=int((perf_counter() - taken_s) * 1e6), batch=1)
    warnings = served.warnings if served else ()
    return Reply(request.id, tag, timing, predictions=result.predictions, outputs=result.outputs, warnings=warnings)


def _no(outcome: Outcome, message: str, request_id: str | None = None) -> RequestError:
    return RequestError(outcome, message, request_id=request_id, retry_after_s=1 if outcome.retry else None)


def demo_queue(**options: int) -> InMemoryQueue:
    """Return a queue that serves ``echo`` and a toy ``imagenet``."""
    queue = InMemoryQueue(**options)
    queue.serve("echo", ECHO, echo)
    queue.serve("imagenet", CLASSIFIER, classify)
    return queue


class RecordedSpan:
    """A request's span that only remembers; see :class:`shared.tracing.spans.RequestSpan`."""

    def __init__(self, parent: str) -> None:
        self.parent = parent
        self.traceparent = f"{parent[:36]}{'c' * 16}{parent[52:]}"
        self.timing: Timing | None = None
        self.first_tokens = 0
        self.ended: tuple[str, str] | None = None

    def first_token(self) -> None:
        """See the interface."""
        self.first_tokens += 1

    def answered(self, timing: Timing) -> None:
        """See the interface."""
        self.timing = timing

    def end(self, request_id: str, outcome: Outcome) -> None:
        """See the interface."""
        assert self.ended is None
        self.ended = (request_id, outcome.code)


class RecordedTracing:
    """Tracing that only remembers; see :class:`shared.tracing.spans.Tracing`."""

    def __init__(self) -> None:
        self.requests: list[RecordedSpan] = []
        self.batches: list[TracedBatch] = []

    def request(self, traceparent: str, route: str, model: str) -> RecordedSpan:
        """See the interface."""
        self.requests.append(RecordedSpan(traceparent))
        return self.requests[-1]

    def batch(self, batch: TracedBatch) -> None:
        """See the interface."""
        self.batches.append(batch)

    def stop(self) -> None:
        """See the interface."""


class NoBoard:
    """A board for how far a start is that nobody looks at; see :class:`consumer.loading.progress.Board`."""

    def tell(self, phase: Phase, for_s: float, detail: str = "") -> None:
        """Do nothing."""
