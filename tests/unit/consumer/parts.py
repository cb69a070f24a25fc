"""Small parts that the tests of the stages share: a model that does as it is told, and messages for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from consumer.batching.load import Load
from consumer.models.base import Description, Model, Result
from consumer.pipeline.items import Finished, Item, Prepared, Refused
from consumer.queue.interface import Entry
from shared.settings import Settings
from shared.state.cards import BatchSettings, Card, TensorSpec
from shared.wire.messages import ModelTag, Request, Tensor, encode_request
from shared.wire.outcomes import RequestError, invalid

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


class Collected:
    """Where an executor's batches and refusals go in a test; see :class:`consumer.pipeline.items.Replies`."""

    def __init__(self, on_finish: Callable[[Finished], None] = lambda finished: None) -> None:
        self.held: Prepared | None = None
        self.finished: list[Finished] = []
        self.refused: list[Refused] = []
        self.holds: list[bool] = []
        self._on_finish = on_finish

    def finish(self, finished: Finished, *, idle: bool, hold: bool = False) -> None:
        """See the interface."""
        self.finished.append(finished)
        self.holds.append(hold)
        self._on_finish(finished)

    def refuse(self, refused: Sequence[Refused]) -> None:
        """See the interface."""
        self.refused += refused

    def settle(self, prepared: Prepared) -> None:
        """See the interface."""
        self.held = None

    def flush(self) -> None:
        """See the interface."""
        self.held = None
