"""A kit for tests of your own model: a consumer in memory, without Redis, processes and waiting. docs/testing.md.

Requests pass through the consumer's own code: the wire format, the checks of what your model returns, the batcher, the
executor, the encoding of answers and errors. Only the queue is a list, and the clock is yours::

    with testing.stack(MyModel()) as stack:
        answer = stack.predict("a text")
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from consumer.batching.adaptive import Adaptive
from consumer.batching.batcher import Batch as ClosedBatch
from consumer.batching.batcher import Batcher
from consumer.batching.cost import BatchCost
from consumer.batching.load import Budget, PaddedTokenBudget, RowBudget, TokenBudget
from consumer.loading.rehearsal import rehearse
from consumer.models.base import Model
from consumer.models.generate.generator import Generator
from consumer.models.load_errors import ModelCannotLoad, told_as_the_models
from consumer.models.model_errors import log as model_log
from consumer.models.own.checked_model import CheckedModel
from consumer.pipeline.committer import Committer
from consumer.pipeline.context import Context
from consumer.pipeline.decoding.rows import Rows
from consumer.pipeline.executor import BatchExecutor
from consumer.pipeline.items import Item, Refusal, refuse
from consumer.queue.entry_reader import read
from consumer.queue.interface import Completion, Entry
from consumer.switching.pause import Pause
from shared.limits import LONGEST_MS
from shared.settings import Settings
from shared.state.cards import BatchSettings, Card
from shared.wire.messages import Request, WireError, decode_reply, encode_request
from shared.wire.outcomes import EXPIRED, MALFORMED, RequestError

from .client.answers import Answer, of_reply
from .client.bodies import Sendable, payload
from .client.errors import HeadraceError, of_code

__all__ = ["Answer", "Batch", "Clock", "HeadraceError", "ModelCannotLoad", "Sent", "Stack", "stack"]

LARGEST_MESSAGE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests that one call of ``run`` answered.

    Attributes:
        ids: of the requests, in order.
        rows: rows that they had together.
        reason: why it closed: ``full``, ``window``, ``deadline`` or, under ``adaptive``, ``idle``.
    """

    ids: tuple[str, ...]
    rows: int
    reason: str


class Clock:
    """The time of a :class:`Stack`: it stands still until you move it.

    Attributes:
        now_s: seconds since the stack began.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.now_s = 0.0

    def advance(self, duration_s: float) -> None:
        """Let so many seconds pass: batches that are due meanwhile run when they are due.

        Raises:
            ValueError: the time is negative.
        """
        if not duration_s >= 0:
            raise ValueError(f"duration_s must be at least 0, not {duration_s:g}.")
        self._stack._run_until(self.now_s + duration_s)


class Sent:
    """A request on its way.

    Attributes:
        id: its name in ``stack.batches``.
    """

    def __init__(self, request_id: str) -> None:
        self.id = request_id
        self._outcome: Answer | HeadraceError | None = None
        self._cause: BaseException | None = None
        self._why = ""

    @property
    def is_done(self) -> bool:
        """Whether it has an answer or an error."""
        return self._outcome is not None

    def answer(self) -> Answer:
        """Return the answer.

        Raises:
            HeadraceError: it ended with an error, which is what a client gets. What your model raised is its cause.
            RuntimeError: it has not run yet: move the clock.
        """
        if self._outcome is None:
            raise RuntimeError(f"Request {self.id} has not run yet: move the clock, as in stack.clock.advance(0.005).")
        if isinstance(self._outcome, HeadraceError):
            raise self._outcome from self._cause
        return self._outcome

    def error(self) -> HeadraceError:
        """Return the error.

        Raises:
            AssertionError: it was answered.
            RuntimeError: it has not run yet.
        """
        try:
            answer = self.answer()
        except HeadraceError as error:
            return error
        raise AssertionError(f"Request {self.id} was answered: {answer}")


@contextmanager
def stack(
    model: Model, *, name: str = "model", max_batch: int = 32, window_s: float = 0.005, policy: str = "window"
) -> Iterator[Stack]:
    """Load a model, rehearse it with its own samples as a consumer does, and serve it in memory.

    Args:
        model: not loaded yet. It is loaded for ``cpu`` in the first of its precisions, and closed at the end.
        max_batch: most rows of a batch, as in ``models.toml``.
        window_s: how long a batch waits for more requests; 0 takes what is there.
        policy: ``window`` waits for the whole window; ``adaptive``, a consumer's own choice without settings, mostly
            runs at once.

    Raises:
        ModelCannotLoad: loading or the rehearsal fails; the sentence is the consumer's.
        ValueError: an argument cannot be used.
    """
    if not isinstance(model, Model):
        kind = f"the class {model.__name__}" if isinstance(model, type) else f"a {type(model).__name__}"
        raise ValueError(f"The model must be an instance of headrace.model.Model, not {kind}.")
    if isinstance(model, Generator):
        raise ValueError("Models that generate text run step by step, not in batches: there is no stack for them here.")
    if max_batch < 1 or not window_s >= 0 or policy not in ("window", "adaptive"):
        raise ValueError("max_batch must be at least 1, window_s at least 0, and policy 'window' or 'adaptive'.")
    checked = CheckedModel(model, lambda: None)
    try:
        with told_as_the_models(name):
            checked.load("cpu", checked.precisions("cpu")[0])
            rehearse(name, checked, checked.describe())
        with _noted(model_log) as causes:
            yield Stack(checked, name, max_batch, window_s, policy, causes)
    finally:
        checked.close()


class Stack:
    """What :func:`stack` gives.

    Attributes:
        batches: all that have run, the oldest first.
        clock: see :class:`Clock`.
    """

    def __init__(
        self,
        model: Model,
        name: str,
        max_batch: int,
        window_s: float,
        policy: str,
        causes: dict[str, tuple[str, BaseException | None]],
    ) -> None:
        self.batches: list[Batch] = []
        self.clock = Clock(self)
        self._causes, self._sent, self._count = causes, dict[str, Sent](), 0
        cost, budget = BatchCost(), _budget(model, max_batch)
        adaptive = Adaptive(cost, window_s) if policy == "adaptive" else None
        self._batcher: Batcher[Item] = Batcher(budget, window_s, cost, adaptive)
        nothing = cast(Any, _Nothing())
        replies = cast(Any, _Replies(self._answered))
        context = Context(name, replies, Settings(), nothing, None, Pause(lambda: None), nothing)
        card = _card(model, name, max_batch, window_s, policy)
        self._rows = Rows(model, max_batch, context.cancellations)
        self._executor = BatchExecutor(context, model, cost)
        self._committer = Committer(context, model, card, lambda: True)

    def predict(
        self,
        body: Sendable | None = None,
        *,
        inputs: Mapping[str, Any] | None = None,
        content_type: str | None = None,
        timeout_s: float = 10.0,
        top_k: int | None = None,
        truncate: bool = False,
    ) -> Answer:
        """Send one request and move the clock until it is answered; arguments as of :class:`headrace.client.Client`.

        Raises:
            HeadraceError: as a client gets it.
            ValueError: an argument cannot be sent.
        """
        sent = self.send(
            body, inputs=inputs, content_type=content_type, timeout_s=timeout_s, top_k=top_k, truncate=truncate
        )
        self._settle()
        return sent.answer()

    def send(
        self,
        body: Sendable | None = None,
        *,
        inputs: Mapping[str, Any] | None = None,
        content_type: str | None = None,
        timeout_s: float = 10.0,
        top_k: int | None = None,
        truncate: bool = False,
    ) -> Sent:
        """Send a request at the clock's time, and wait for nothing; it runs when the clock passes the end of its batch.

        Raises:
            ValueError: an argument cannot be sent.
        """
        made = payload(body, inputs, content_type, top_k, truncate)
        self._count += 1
        request_id, ttl_ms = f"request-{self._count}", min(LONGEST_MS, max(1, round(timeout_s * 1000)))
        self._sent[request_id] = sent = Sent(request_id)
        request = Request(request_id, ttl_ms, made.content_type, made.body, made.inputs, None, made.params)
        self._take(Entry(b"%d-0" % self._count, 0, encode_request(request)), sent, timeout_s)
        self._run_until(self.clock.now_s)
        return sent

    def together(
        self, requests: Sequence[Sendable | Mapping[str, Any]], *, content_type: str | None = None
    ) -> list[Sent]:
        """Send several requests at once and move the clock until all have run, in one batch if they fit.

        Args:
            requests: of each the body, or its inputs by name.

        Returns:
            Them in order; each has its own ``answer()`` or ``error()``.
        """
        all_sent = [
            self.send(inputs=one) if isinstance(one, Mapping) else self.send(one, content_type=content_type)
            for one in requests
        ]
        self._settle()
        return all_sent

    def _take(self, entry: Entry, sent: Sent, timeout_s: float) -> None:
        now_s = self.clock.now_s
        try:
            request = read(entry, LARGEST_MESSAGE_BYTES)
        except WireError as error:
            sent._outcome = of_code(MALFORMED.code, str(error), sent.id, error.field or None)
            return
        item = Item(entry, request, now_s, now_s + timeout_s, 0.0)
        try:
            self._rows.make(item)
        except Refusal as refusal:
            self._committer.refuse([refusal.refused])
            self._commit()
        else:
            self._batcher.add(item)

    def _settle(self) -> None:
        while (due_s := self._batcher.due_s(self.clock.now_s)) is not None:
            self._run_until(max(due_s, self.clock.now_s))

    def _run_until(self, until_s: float) -> None:
        while True:
            due_s = self._batcher.due_s(self.clock.now_s)
            if due_s is None or due_s > until_s:
                break
            self.clock.now_s = max(due_s, self.clock.now_s)
            batch = self._batcher.take_due(self.clock.now_s)
            if batch is not None:
                self._run(batch)
        self.clock.now_s = max(until_s, self.clock.now_s)

    def _run(self, batch: ClosedBatch[Item]) -> None:
        if batch.expired:
            self._committer.refuse([refuse(item, _expired()) for item in batch.expired])
        if batch.items:
            run = self._executor.run_batch(batch, cast(Any, self))
            self.batches.append(Batch(tuple(item.request.id for item in batch.items), run.rows, run.reason.value))
            self._committer.finish(batch.items, msgspec.structs.replace(run, taken_s=self.clock.now_s))
        self._commit()

    def refusal(self, item: Item, now_s: float) -> RequestError | None:
        """Say that every request of a failed batch may run again; for the executor."""
        return None

    def _commit(self) -> None:
        self._committer.close()
        self._committer.run()

    def _answered(self, completions: Sequence[Completion]) -> list[int]:
        for one in completions:
            reply, sent = decode_reply(one.reply), self._sent[one.request_id]
            if reply.fault is None:
                total_s = (reply.timing.queue + reply.timing.wait + reply.timing.run) / 1e6
                sent._outcome = of_reply(reply, total_s)
                continue
            fault = reply.fault
            sent._outcome = of_code(fault.code, fault.message, one.request_id, fault.field)
            why, sent._cause = self._causes.get(one.request_id, ("", None))
            if why:
                sent._outcome.add_note(why)
        return [1] * len(completions)


def _expired() -> RequestError:
    return RequestError(EXPIRED, "The deadline passed before inference could start.")


def _budget(model: Model, max_batch: int) -> Budget:
    description = model.describe()
    if description.most_units is None:
        return RowBudget(max_batch)
    return (PaddedTokenBudget if description.pads_rows else TokenBudget)(description.most_units, max_batch)


def _card(model: Model, name: str, max_batch: int, window_s: float, policy: str) -> Card:
    found = model.describe()
    batch = BatchSettings(max_batch, window_s * 1000, policy)
    return Card(
        name,
        "1",
        "python",
        found.inputs,
        found.outputs,
        found.content_types,
        "fp32",
        "cpu",
        batch,
        found.labels,
        found.warnings,
    )


class _Replies:
    """The end of the queue: takes what is committed."""

    def __init__(self, commit: Any) -> None:
        self.commit = commit


class _Nothing:
    """Takes measurements, and keeps none."""

    def batch_done(self, event: object) -> None:
        pass


@contextmanager
def _noted(log: logging.Logger) -> Iterator[dict[str, tuple[str, BaseException | None]]]:
    """Keep, by the request's id, what the consumer's log says of models that failed in this thread."""
    causes: dict[str, tuple[str, BaseException | None]] = {}
    thread = threading.get_ident()

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            args = record.args
            if record.thread == thread and isinstance(args, tuple):
                [request_id] = [str(one) for one in args if str(one).startswith("request-")][:1] or [""]
                causes[request_id] = record.getMessage(), record.exc_info[1] if record.exc_info else None

    handler = Notes()
    log.addHandler(handler)
    try:
        yield causes
    finally:
        log.removeHandler(handler)
