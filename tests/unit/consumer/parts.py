"""Small parts that the tests of the stages share: a model that does as it is told, and messages for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry

from consumer.batching.batcher import Batcher
from consumer.batching.cost import BatchCost
from consumer.batching.load import Load, RowBudget
from consumer.metrics import ConsumerMetrics
from consumer.models.base import Description, Model, Result
from consumer.pipeline.context import Context
from consumer.pipeline.decoding.rows import Rows
from consumer.pipeline.executor import BatchExecutor
from consumer.pipeline.intake import Intake
from consumer.pipeline.interface import Replies
from consumer.pipeline.items import BatchRun, Item, Refused
from consumer.pipeline.source import BatchSource
from consumer.queue.interface import Entry, WorkStream
from consumer.queue.shared_bodies import SharedBodies
from consumer.switching.pause import Pause
from shared.settings import Settings
from shared.state.cards import BatchSettings, Card, TensorSpec
from shared.wire.messages import ModelTag, Request, Tensor, encode_request
from shared.wire.outcomes import RequestError, invalid
from tests.fake_stream import InMemoryLane, InMemoryStream

RAW = "application/octet-stream"
FAR_S = 1e9
TAG = ModelTag("toy", "1", "fp32")
SPEC = (TensorSpec("input", "UINT8", (-1,)),)
CARD = Card("toy", "1", "echo", SPEC, SPEC, (RAW,), "fp32", "cpu", BatchSettings(8, 5.0, "window"))
SETTINGS = Settings(lease_ms=1500)


class Toy(Model):
    """Gives bodies back in capitals. A body tells it to misbehave:

    ``refuse`` and ``break`` fail in preprocessing, ``crash`` in running, ``sour`` in postprocessing, ``short`` loses an
    output, ``silent`` makes a result that no message can hold. ``rows:3`` makes three rows, ``picture`` is decoded by
    the pool.
    """

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.threads: set[str] = set()

    def describe(self) -> Description:
        """Say nothing of interest."""
        return Description(SPEC, SPEC)

    def load(self, device: str, precision: str) -> None:
        """Do nothing."""

    def preprocess(self, request: Request) -> Sequence[bytes]:
        """Make rows."""
        body = request.body or b""
        self.threads.add(threading.current_thread().name)
        if body == b"refuse":
            raise invalid("This one is not wanted.", "body")
        if body == b"break":
            raise ZeroDivisionError("a bug in the model")
        if body.startswith(b"rows:"):
            return [body] * int(body[5:])
        return [body]

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Capitals, unless told otherwise."""
        self.batches.append(list(rows))
        if b"crash" in rows:
            raise ZeroDivisionError("a bug in the model")
        outputs = [row.upper() for row in rows]
        return outputs[:-1] if b"short" in rows else outputs

    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
        """One tensor with all outputs."""
        if request.body == b"sour":
            raise invalid("Too sour.", "body")
        if request.body == b"spoilt":
            raise ZeroDivisionError("a bug in the model")
        if request.body == b"silent":
            return Result(outputs=(Tensor("output", "UINT8", (1,), object()),))  # type: ignore[arg-type]
        data = b"".join(outputs)
        return Result(outputs=(Tensor("output", "UINT8", (len(data),), data),))

    def sample_rows(self, count: int) -> Sequence[bytes]:
        """Any rows."""
        return [b"sample"] * count

    def decodes(self, request: Request) -> bool:
        """Pictures do."""
        return bool(request.body and request.body.startswith(b"picture"))


def message(request_id: str, body: bytes = b"x", *, ttl_ms: int = 60_000, reply_to: str | None = None) -> bytes:
    """A good request, encoded."""
    return encode_request(Request(request_id, ttl_ms, RAW, body, reply_to=reply_to))


def item(
    request_id: str,
    body: bytes = b"x",
    *,
    rows: int = 1,
    arrived_s: float | None = None,
    deadline_s: float = FAR_S,
    reply_to: str | None = "me",
) -> Item:
    """A request that is ready to run."""
    request = Request(request_id, 60_000, RAW, body, reply_to=reply_to)
    entry = Entry(b"1-" + str(abs(hash(request_id)) % 10**9).encode(), 1, b"")
    arrived_s = time.monotonic() if arrived_s is None else arrived_s
    return Item(entry, request, arrived_s, deadline_s, 0.001, [body] * rows, Load(rows, rows, 1))


def code_of(outcome: Sequence[Any] | RequestError) -> str | None:
    """The outcome code of an error, None for outputs."""
    return outcome.outcome.code if isinstance(outcome, RequestError) else None


def on_thread(name: str, target: Callable[[], Any]) -> threading.Thread:
    """Start a thread that cannot outlive the tests."""
    thread = a_thread(name, target)
    thread.start()
    return thread


def a_thread(name: str, target: Callable[[], Any]) -> threading.Thread:
    """Make a thread that cannot outlive the tests."""
    return threading.Thread(target=target, name=name, daemon=True)


def joined(thread: threading.Thread) -> bool:
    """Wait for a thread to end; False when it has not."""
    thread.join(10.0)
    return not thread.is_alive()


def a_context(stream: WorkStream | None = None, settings: Settings = SETTINGS, **shared: Any) -> Context:
    """What stages share, with a queue in memory unless a test brings one."""
    if stream is None:
        stream = InMemoryStream(InMemoryLane(), settings, "one")
    shared.setdefault("metrics", ConsumerMetrics(CollectorRegistry(), "toy"))
    shared.setdefault("bodies", SharedBodies(is_on=False))
    shared.setdefault("tracing", None)
    return Context("toy", stream, settings, pause=Pause(lambda: None), **shared)


class Finished(NamedTuple):
    """Items that ran, as an executor hands them over."""

    items: Sequence[Item]
    run: BatchRun

    @property
    def outcomes(self) -> list[Sequence[Any] | RequestError]:
        """What came of each."""
        return [item.outcome for item in self.items]


class Collected:
    """Where an executor's items and refusals go in a test; see :class:`consumer.pipeline.interface.Replies`."""

    def __init__(self, on_finish: Callable[[Finished], None] = lambda finished: None) -> None:
        self.finished: list[Finished] = []
        self.refused: list[Refused] = []
        self._on_finish = on_finish

    def finish(self, items: Sequence[Item], run: BatchRun) -> None:
        """See the interface."""
        self.finished.append(Finished(items, run))
        self._on_finish(self.finished[-1])

    def refuse(self, refused: Sequence[Refused]) -> None:
        """See the interface."""
        self.refused += refused


def execute(
    model: Model,
    items: Sequence[Item],
    replies: Replies,
    context: Context,
    max_rows: int = 8,
    make_cost: Callable[[], BatchCost] = BatchCost,
) -> BatchExecutor:
    """Run these items in batches to the end."""
    intake = Intake(Batcher(RowBudget(max_rows), 0.0, BatchCost()))
    intake.add(items)
    intake.close()
    executor = BatchExecutor(context, model, make_cost())
    rows = Rows(model, max_rows, context.cancellations)
    executor.run(BatchSource(context, intake, rows, replies.refuse), replies)
    return executor
