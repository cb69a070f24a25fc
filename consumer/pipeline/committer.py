"""The last stage: make answers, encode replies, commit them in one step per batch."""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import msgspec

from consumer.batching.batcher import CloseReason
from consumer.events import BatchDone, ItemDone, Share
from consumer.models.base import Model
from consumer.models.model_errors import answer_to
from consumer.queue.interface import NO_ROOM, Claim, Completion, Dead, StreamDown, StreamGone
from shared.keys import LATER
from shared.state.cards import Card
from shared.wire.fast import decode_reply, encode_reply
from shared.wire.messages import Fault, ModelTag, Reply, Timing
from shared.wire.outcomes import BY_CODE, INTERNAL, LANE_FULL, OK, RESULTS_FULL, Outcome, RequestError
from shared.wire.ran import Ran
from shared.wire.request_log import DEAD, NOTHING_RAN

from .context import Context
from .items import BatchRun, Item, Prepared, Refused, completion_of, traced
from .stored.results import ResultKeeper

log = logging.getLogger(__name__)

RETRY_S = 0.2
WAITING_BATCHES = 3
LATER_BATCHES = 1
"""Of ``batch`` lanes, of those: ordinary answers wait behind no more."""

FEW_REPLIES = 4
MOST_BYTES = 4 * 1024 * 1024
"""Replies of one commit, unless a single one is larger. A call must fit into the socket's timeout on a slow network,
or it would be repeated for nothing; the server does nothing else meanwhile."""

LARGE_BYTES = 1024 * 1024
"""What every server takes: the least that ``proto-max-bulk-len`` can be set to. Only more may be too much."""

MOST_TRIES = 3
"""Of committing more than that, while the server takes other commits."""


class Committer:
    """Takes items that ran and refusals from the other stages; bounded, so a slow queue holds them back.

    An answer becomes visible when its commit has succeeded: :meth:`_commit_portion`, or what
    :class:`consumer.pipeline.inline_executor.InlineExecutor` commits with its next read.

    Args:
        card: which model answers, and sentences that every answer carries.
        is_idle: says that no other request waits for the executor.
        keeper: takes results that are not to stay in Redis; None for none.
    """

    def __init__(
        self,
        context: Context,
        model: Model,
        card: Card,
        is_idle: Callable[[], bool],
        keeper: ResultKeeper | None = None,
    ) -> None:
        self._keeper = keeper
        self._context, self._model, self._warnings, self._is_idle = context, model, card.warnings, is_idle
        self._tag = ModelTag(card.name, card.version, card.precision)
        self._stream, self._leases, self._deduplication = context.stream, context.leases, context.deduplication
        self._work: queue.Queue[Callable[[], None] | None] = queue.Queue(WAITING_BATCHES)
        self._give_up = threading.Event()
        self._committing = threading.Lock()
        self._later_room = threading.Semaphore(LATER_BATCHES)

    def finish(self, items: Sequence[Item], run: BatchRun) -> None:
        """See the interface.

        A few replies are committed at once, on the calling thread, when nothing waits for it: waking the committing
        thread would take longer than the commit.
        """
        if run.reason is CloseReason.ISOLATED:
            self.commit(self.prepare(items, run))
            return
        if run.share is not Share.ALL:
            self._finish_later(items, run)
            return
        at_once = len(items) <= FEW_REPLIES and self._is_idle() and self._work.empty()
        if at_once and self._committing.acquire(blocking=False):
            try:
                self._commit_finished(items, run)
            finally:
                self._committing.release()
        else:
            self._work.put(partial(self._commit_finished, items, run))

    def _finish_later(self, items: Sequence[Item], run: BatchRun) -> None:
        """Take requests of ``batch`` lanes; blocks while others are committed: ordinary answers wait behind those."""
        while not self._later_room.acquire(timeout=RETRY_S):
            if self._give_up.is_set():
                return  # nobody commits any more; they are recovered after their lease
        self._work.put(partial(self._commit_later, items, run))

    def _commit_later(self, items: Sequence[Item], run: BatchRun) -> None:
        try:
            self._commit_finished(items, run)
        finally:
            self._later_room.release()

    def commit(self, prepared: Prepared) -> None:
        """Commit on the calling thread."""
        with self._committing:  # the committing thread may be busy with refusals, on the same connection
            self._commit_prepared(prepared)

    def settle(self, prepared: Prepared) -> None:
        """Note that another call has committed it."""
        self._leases.release(one.claim for one in prepared.completions)
        with self._committing:  # one report at a time: the metrics take no lock
            self._report(prepared)

    def refuse(self, refused: Sequence[Refused]) -> None:
        """Hand over requests that end without inference."""
        self._work.put(partial(self._commit_refused, refused))

    def close(self) -> None:
        """Nothing more comes; ``run`` returns once everything is committed."""
        if self._keeper is not None:
            self._keeper.drain()
        self._work.put(None)

    def give_up(self) -> None:
        """Stop trying to reach a queue that does not answer; what is left is recovered after its lease."""
        self._give_up.set()

    def run(self) -> None:
        """Commit until closed."""
        while (commit := self._work.get()) is not None:
            with self._committing:
                commit()

    def prepare(self, items: Sequence[Item], run: BatchRun) -> Prepared:
        """Make and encode the replies of items that ran."""
        begun_s = time.monotonic()
        watchdog = self._context.watchdog
        watchdog.begin(id(run), begun_s)  # two threads may do this at once
        completions: list[Completion] = []
        done, number = [], run.number or next(self._context.numbers)
        for item in items:
            reply, code = self._reply(item, run, number)
            request = item.request
            expiry_ms = self._context.settings.reply_expiry_ms(request.ttl_ms, request.keep_ms)
            if code != OK.code and not BY_CODE[code].lasting:
                expiry_ms = 0
            start = len(completions)
            completions.append(completion_of(item, expiry_ms, reply))
            if self._deduplication:
                completions += self._completions_of_joined(completions[-1])
            if request.keep_ms is not None and code == OK.code:
                self._keep(item, completions, start)
            entry, waited_s = item.entry, run.taken_s - item.arrived_s
            traced = request.traceparent
            done.append(
                ItemDone(code, item.queued_s, waited_s, item.decode_s, traced, request.id, entry.lane, entry.attempt)
            )
        watchdog.end(id(run))
        return Prepared(items, run, completions, done, begun_s, time.monotonic(), number)

    def _keep(self, item: Item, completions: list[Completion], start: int) -> None:
        """Give the completions from ``start`` on to the result store if they belong there; they are committed later."""
        if self._keeper is not None and self._keeper.keep(item, completions[start:], self._commit_soon):
            del completions[start:]

    def _commit_soon(self, completions: Sequence[Completion]) -> None:
        self._work.put(partial(self._commit_all, completions))

    def _commit_all(self, completions: Sequence[Completion]) -> None:
        self._commit(completions)

    def _commit_finished(self, items: Sequence[Item], run: BatchRun) -> None:
        self._commit_prepared(self.prepare(items, run))

    def _commit_prepared(self, prepared: Prepared) -> None:
        lost = self._commit(prepared.completions)
        self._report(_without(prepared, lost) if lost else prepared)

    def _report(self, prepared: Prepared) -> None:
        run, tracing = prepared.run, self._context.tracing
        done = BatchDone(
            items=prepared.done,
            rows=run.rows,
            reason=run.reason,
            share=run.share,
            run_s=run.run_s,
            postprocess_s=prepared.encoded_s - prepared.begun_s,
            commit_s=time.monotonic() - prepared.encoded_s,
            first_token_s=run.first_token_s,
        )
        self._context.metrics.batch_done(done)
        if (request_log := self._context.request_log) is not None:
            request_log.add(done, prepared.number, run.reason.value)
        if tracing is not None:
            batch = traced(prepared, done, self._tag, time.monotonic())
            if batch is not None:
                tracing.batch(batch)

    def _reply(self, item: Item, run: BatchRun, number: int) -> tuple[bytes, str]:
        """Make and encode the reply; returns it with its outcome code. A model may return what cannot be encoded."""
        timing = Timing(
            queue=round(item.queued_s * 1e6),
            wait=round((run.taken_s - item.arrived_s) * 1e6),
            decode=round(item.decode_s * 1e6),
            run=round(run.run_s * 1e6),
            batch=run.rows,
        )
        attempt, outputs = item.entry.attempt, item.outcome
        ran = self._ran(run, number) if item.request.explain else None
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
                    generated=result.generated,
                    ran=ran,
                )
                return encode_reply(reply), OK.code
            except BaseException as error:
                outputs = answer_to(error, item, "Postprocessing")
        return self._refusal(item.request.id, timing, attempt, outputs, ran), outputs.outcome.code

    def _ran(self, run: BatchRun, number: int) -> Ran:
        first_s = run.first_token_s
        first_us = None if first_s is None else round(first_s * 1e6)
        return Ran(self._context.worker, number, run.reason.value, first_us)

    def _refusal(
        self, request_id: str, timing: Timing, attempt: int, error: RequestError, ran: Ran | None = None
    ) -> bytes:
        fault = Fault(error.outcome.code, error.message, error.field)
        return encode_reply(Reply(request_id, self._tag, timing, attempt, fault=fault, ran=ran))

    def _completions_of_joined(self, first: Completion) -> list[Completion]:
        """Make the ends of those that joined a request: its answer is theirs, too.

        An outcome that is not stored is no answer to them. They are released here, and come back one by one.
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
        done: dict[str, list[ItemDone]] = {NOTHING_RAN: [], DEAD: []}
        for one in refused:
            error = one.error
            reply = self._refusal(one.request_id, Timing(), one.entry.attempt, error)
            expiry_ms = self._context.settings.reply_expiry_ms(one.ttl_ms, one.keep_ms) if error.outcome.lasting else 0
            end = Completion(one.entry.entry_id, one.request_id, one.reply_to, expiry_ms, reply, one.entry.lane)
            if one.reason:
                log.error("Request %s is a dead letter now: %s", one.request_id, one.reason)
                dead.append(Dead(end, one.reason, one.crashes))
            else:
                completions.append(end)
            completions += self._completions_of_joined(end)
            done[DEAD if one.reason else NOTHING_RAN].append(self._refused_item(one))
        self._commit(completions)
        if dead:
            on_dead = self._context.metrics.dead_lettered
            self._until_answered(lambda: on_dead(dead, self._stream.dead_letter(dead)), len(dead))
            self._leases.release(one.completion.claim for one in dead)
        for reason, some in done.items():
            if some:
                event = BatchDone(items=some)
                self._context.metrics.batch_done(event)
                if self._context.request_log is not None:
                    self._context.request_log.add(event, 0, reason)

    def _refused_item(self, one: Refused) -> ItemDone:
        entry, since_s = one.entry, 0.0
        if self._context.request_log is not None:
            since_s = max(0.0, self._stream.clock.now_ms() - entry.added_ms) / 1000
        return ItemDone(
            one.error.outcome.code, since_s, 0.0, 0.0, None, one.request_id, entry.lane, max(1, entry.attempt)
        )

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
        if outcome is LANE_FULL and one.reply_to == LATER:
            outcome, why = RESULTS_FULL, f"has no room: the results kept in lane {one.lane} take all the bytes they may"
            log.warning("The answer to request %s, %d bytes, %s; it gets an error.", one.request_id, size_bytes, why)
        elif outcome is LANE_FULL:
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
        for item, one in zip(prepared.items, prepared.done, strict=True)
    ]
    return msgspec.structs.replace(prepared, done=done)
