"""The last stage: make answers, encode replies, commit them in one step per batch."""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from consumer.events import BatchDone, ItemDone
from consumer.models.base import Model
from consumer.models.model_errors import answer_to
from consumer.queue.interface import NO_ROOM, Claim, Completion, Dead, OnDead, StreamDown, StreamGone, WorkStream
from shared.settings import Settings
from shared.tracing.spans import Tracing
from shared.wire.fast import decode_reply, encode_reply
from shared.wire.messages import Fault, ModelTag, Reply, Timing
from shared.wire.outcomes import BY_CODE, INTERNAL, LANE_FULL, OK, Outcome, RequestError

from .deduplication import Deduplication
from .items import Finished, Item, Prepared, Refused, completion_of
from .leases import LeaseBook, Watchdog
from .traces import traced

log = logging.getLogger(__name__)

RETRY_S = 0.2
WAITING_BATCHES = 3
FEW_REPLIES = 4
MOST_BYTES = 4 * 1024 * 1024
"""Replies of one commit, unless a single one is larger. A call must fit into the socket's timeout on a slow network,
or it would be repeated for nothing; the server does nothing else meanwhile."""

LARGE_BYTES = 1024 * 1024
"""What every server takes: the least that ``proto-max-bulk-len`` can be set to. Only more may be too much."""

MOST_TRIES = 3
"""Of committing more than that, while the server takes other commits."""

Work = Finished | Sequence[Refused] | None


class Committer:
    """Takes finished batches and refusals from the other stages; bounded, so a slow queue holds them back.

    Args:
        tag: which model answers.
        warnings: sentences that every answer carries.
        settings: expiry of replies.
        report: called after each commit with what happened, for the metrics.
        on_dead: told of dead letters, for the metrics.
        tracing: told of batches with traced requests in them; None for nobody.
        watchdog: is told when making the answers of a batch begins and ends.
        deduplication: which ids are under way.

    Attributes:
        held: a batch that the executing thread commits together with its next read; touched by that thread only.
    """

    def __init__(
        self,
        stream: WorkStream,
        model: Model,
        leases: LeaseBook,
        tag: ModelTag,
        warnings: Sequence[str],
        settings: Settings,
        report: Callable[[BatchDone], None],
        on_dead: OnDead,
        tracing: Tracing | None = None,
        watchdog: Watchdog | None = None,
        deduplication: Deduplication | None = None,
    ) -> None:
        self._deduplication = Deduplication() if deduplication is None else deduplication
        self._stream, self._model, self._leases = stream, model, leases
        self._tag, self._warnings, self._settings = tag, warnings, settings
        self._report, self._on_dead = report, on_dead
        self._tracing, self._watchdog = tracing, watchdog or Watchdog()
        self.held: Prepared | None = None
        self._work: queue.Queue[Work] = queue.Queue(WAITING_BATCHES)
        self._give_up = threading.Event()
        self._committing = threading.Lock()

    def finish(self, finished: Finished, *, idle: bool, hold: bool = False) -> None:
        """Hand over a batch that ran.

        A few replies are committed at once, on the calling thread, when nothing waits for it: waking the committing
        thread would take longer than the commit.

        Args:
            idle: no other request waits for the calling thread.
            hold: the calling thread will read the stream next and can commit in the same round trip: the batch is
                kept in ``held`` for that.
        """
        if hold:
            prepared = self._prepare(finished)
            self.held = prepared
            if sum(len(one.reply) for one in prepared.completions) > MOST_BYTES:
                self.flush()
        elif idle and len(finished.items) <= FEW_REPLIES and self._work.empty() and self._committing.acquire(False):
            try:
                self._commit_prepared(self._prepare(finished))
            finally:
                self._committing.release()
        else:
            self._work.put(finished)

    def flush(self) -> None:
        """Commit what is held."""
        held, self.held = self.held, None
        if held is not None:
            with self._committing:  # the committing thread may be busy with refusals, on the same connection
                self._commit_prepared(held)

    def settle(self, prepared: Prepared) -> None:
        """Note that a batch has been committed."""
        self.held = None
        self._leases.release(item.claim for item in prepared.completions)
        with self._committing:  # one report at a time: the metrics take no lock
            self._report_batch(prepared)

    def refuse(self, refused: Sequence[Refused]) -> None:
        """Hand over requests that end without inference."""
        self._work.put(refused)

    def close(self) -> None:
        """Nothing more comes; ``run`` returns once everything is committed."""
        self._work.put(None)

    def give_up(self) -> None:
        """Stop trying to reach a queue that does not answer; what is left is recovered after its lease."""
        self._give_up.set()

    def run(self) -> None:
        """Commit until closed."""
        while (work := self._work.get()) is not None:
            with self._committing:
                if isinstance(work, Finished):
                    self._commit_prepared(self._prepare(work))
                else:
                    self._commit_refused(work)

    def _prepare(self, finished: Finished) -> Prepared:
        begun_s = time.monotonic()
        self._watchdog.begin(id(finished), begun_s)  # two threads may do this at once
        completions, done = [], []
        for item, outputs in zip(finished.items, finished.outputs, strict=True):
            reply, code = self._reply(item, outputs, finished)
            request = item.request
            expiry_ms = self._settings.reply_expiry_ms(request.ttl_ms)
            if code != OK.code and not BY_CODE[code].lasting:
                expiry_ms = 0
            waited_s = finished.taken_s - item.arrived_s
            completions.append(completion_of(item, expiry_ms, reply))
            if self._deduplication:
                completions += self._completions_of_joined(completions[-1])
            done.append(ItemDone(code, item.queued_s, waited_s, item.decode_s, request.traceparent))
        self._watchdog.end(id(finished))
        return Prepared(finished, completions, done, begun_s, time.monotonic())

    def _commit_prepared(self, prepared: Prepared) -> None:
        lost = self._commit(prepared.completions)
        self._report_batch(_without(prepared, lost) if lost else prepared)

    def _report_batch(self, prepared: Prepared) -> None:
        finished = prepared.finished
        done = BatchDone(
            items=prepared.done,
            rows=finished.rows,
            reason=finished.reason,
            run_s=finished.run_s,
            postprocess_s=prepared.encoded_s - prepared.begun_s,
            commit_s=time.monotonic() - prepared.encoded_s,
        )
        self._report(done)
        if self._tracing is not None:
            batch = traced(finished, done, self._tag, time.monotonic())
            if batch is not None:
                self._tracing.batch(batch)

    def _reply(self, item: Item, outputs: Sequence[Any] | RequestError, finished: Finished) -> tuple[bytes, str]:
        """Make and encode the reply; returns it with its outcome code. A model may return what cannot be encoded."""
        timing = Timing(
            queue=round(item.queued_s * 1e6),
            wait=round((finished.taken_s - item.arrived_s) * 1e6),
            decode=round(item.decode_s * 1e6),
            run=round(finished.run_s * 1e6),
            batch=finished.rows,
        )
        attempt = item.entry.attempt
        if not isinstance(outputs, RequestError):
            try:
                result = self._model.postprocess(outputs, item.request)
                reply = Reply(
                    item.request.id,
                    self._tag,
                    timing,
                    attempt,
                    result.predictions,
                    result.outputs,
                    warnings=self._warnings,
                )
                return encode_reply(reply), OK.code
            except BaseException as error:
                outputs = answer_to(error, item, "Postprocessing")
        return self._refusal(item.request.id, timing, attempt, outputs), outputs.outcome.code

    def _refusal(self, request_id: str, timing: Timing, attempt: int, error: RequestError) -> bytes:
        fault = Fault(error.outcome.code, error.message, error.field)
        return encode_reply(Reply(request_id, self._tag, timing, attempt, fault=fault))

    def _completions_of_joined(self, first: Completion) -> list[Completion]:
        """Make the ends of those that joined a request: its answer is theirs, too.

        An end that is not lasting is no answer to them. They are given up here, and come back one by one.
        """
        lasting = first.expiry_ms > 0
        joined = self._deduplication.end(first.lane, first.request_id, answered=lasting)
        if not lasting:
            self._leases.release([item.entry.claim for item in joined])
            return []
        return [completion_of(item, first.expiry_ms, first.reply) for item in joined]

    def _commit_refused(self, refused: Sequence[Refused]) -> None:
        completions: list[Completion] = []
        dead: list[Dead] = []
        done = []
        for one in refused:
            error = one.error
            reply = self._refusal(one.request_id, Timing(), one.entry.attempt, error)
            expiry_ms = self._settings.reply_expiry_ms(one.ttl_ms) if error.outcome.lasting else 0
            end = Completion(one.entry.entry_id, one.request_id, one.reply_to, expiry_ms, reply, one.entry.lane)
            if one.reason:
                log.error("Request %s is a dead letter now: %s", one.request_id, one.reason)
                dead.append(Dead(end, one.reason, one.crashes))
            else:
                completions.append(end)
            completions += self._completions_of_joined(end)
            done.append(ItemDone(error.outcome.code, 0.0, 0.0, 0.0))
        self._commit(completions)
        if dead:
            self._until_answered(lambda: self._on_dead(dead, self._stream.dead_letter(dead)), len(dead))
            self._leases.release(one.completion.claim for one in dead)
        self._report(BatchDone(items=done))

    def _commit(self, completions: Sequence[Completion]) -> dict[Claim, Outcome]:
        """Commit; returns the entries whose answer could not be stored, and the error that each ended with instead."""
        lost: dict[Claim, Outcome] = {}
        for portion in portions(completions):
            lost |= self._commit_portion(portion)
        return lost

    def _commit_portion(self, completions: Sequence[Completion]) -> dict[Claim, Outcome]:
        """Commit, repeating until Redis has answered: a repeated commit changes nothing.

        What it does not take although it takes other commits is cut in halves, down to the one answer that it never
        takes: that ends with an error, and does not hold up all others for ever.
        """
        tries = itertools.count(1)

        def is_in_vain() -> bool:
            return self._is_too_much(completions) and next(tries) >= MOST_TRIES

        statuses: list[int] = []

        def step() -> None:
            statuses[:] = self._stream.commit(completions)

        if self._until_answered(step, len(completions), is_in_vain):
            without = [one for one, status in zip(completions, statuses, strict=False) if status == NO_ROOM]
            self._leases.release({one.claim for one in completions} - {one.claim for one in without})
            lost: dict[Claim, Outcome] = {}
            for one in without:
                lost |= self._commit_error(one, LANE_FULL)
            return lost
        if len(completions) == 1:
            return self._commit_error(completions[0], INTERNAL)
        middle = len(completions) // 2
        return self._commit_portion(completions[:middle]) | self._commit_portion(completions[middle:])

    def _commit_error(self, one: Completion, outcome: Outcome) -> dict[Claim, Outcome]:
        """End a request whose answer cannot be stored with an error in its place."""
        size_bytes, why = len(one.reply), "could not be stored"
        if outcome is LANE_FULL:
            why = f"has no room in lane {one.lane}, whose requests and stored answers take all the bytes they may"
            log.warning("The answer to request %s, %d bytes, %s; it gets an error.", one.request_id, size_bytes, why)
        else:
            log.error("The answer to request %s, %d bytes, %s; it gets an error.", one.request_id, size_bytes, why)
        error = Fault(outcome.code, f"The answer, {size_bytes} bytes, {why}.", None)
        answer = decode_reply(one.reply)
        told = msgspec.structs.replace(answer, predictions=None, outputs=None, warnings=(), fault=error)
        expiry_ms = one.expiry_ms if outcome.lasting else 0
        end = msgspec.structs.replace(one, reply=encode_reply(told), expiry_ms=expiry_ms)
        self._until_answered(lambda: self._stream.commit([end]), 1)
        self._leases.release([one.claim])
        return {one.claim: outcome}

    def _is_too_much(self, completions: Sequence[Completion]) -> bool:
        """Say whether a commit that failed is large, and one of nothing succeeds: an entry 0-1 there never is."""
        if sum(len(one.reply) for one in completions) <= LARGE_BYTES:
            return False
        nothing = [Completion(b"0-1", "nothing", "", 0, b"", lane) for lane in {one.lane for one in completions}]
        try:
            self._stream.commit(nothing)
        except (StreamDown, StreamGone):
            return False
        return True

    def _until_answered(
        self, step: Callable[[], object], count: int, is_in_vain: Callable[[], bool] = lambda: False
    ) -> bool:
        """Repeat until Redis has answered, or waiting is over; False when ``is_in_vain`` says so after a failure."""
        while True:
            try:
                step()
                return True
            except (StreamDown, StreamGone) as error:
                log.warning("Committing %d replies failed (%s); trying again.", count, error)
                if self._give_up.wait(RETRY_S):
                    return True
                if is_in_vain():
                    return False


def portions(completions: Sequence[Completion], most_bytes: int = MOST_BYTES) -> Iterator[Sequence[Completion]]:
    """Cut what is to be committed into pieces of at most ``most_bytes`` of replies; a larger reply goes alone."""
    start, size = 0, 0
    for index, one in enumerate(completions):
        if index > start and size + len(one.reply) > most_bytes:
            yield completions[start:index]
            start, size = index, 0
        size += len(one.reply)
    if start < len(completions):
        yield completions[start:]


def _without(prepared: Prepared, lost: Mapping[Claim, Outcome]) -> Prepared:
    """Return a batch in whose report those whose answer was lost have failed."""
    done = [
        msgspec.structs.replace(one, outcome=lost[item.entry.claim].code) if item.entry.claim in lost else one
        for item, one in zip(prepared.finished.items, prepared.done, strict=True)
    ]
    return replace(prepared, done=done)
