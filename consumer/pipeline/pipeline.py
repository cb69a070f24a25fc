"""The stages around one loaded model: started together, drained together, again and again with other models."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable

from consumer.batching.backlog import Backlog
from consumer.batching.batcher import Batcher
from consumer.batching.cost import BatchCost
from consumer.batching.gaps import Gaps
from consumer.batching.slot_gaps import SlotGaps
from consumer.config import ConsumerConfig
from consumer.loading.warmup import Calibration
from consumer.models.base import Model
from shared.state.cards import TOKEN, Card
from shared.state.desired_state import ANSWER_TOKENS, FULL_TOKENS_PER_S

from .answer_watch import AnswerWatch
from .committer import Committer
from .context import Context
from .decoding.rows import Rows
from .decoding.stage import Decoding
from .fetcher import Fetcher
from .generating.generations import Generations, GenerationsExecutor
from .inline_executor import InlineExecutor
from .intake import Chooser, Intake, Room
from .interface import Executor
from .items import Item
from .lease_renewer import LeaseRenewer
from .policies import make_batcher
from .source import BatchSource
from .stored.results import ResultKeeper

log = logging.getLogger(__name__)

LOOK_FOR_LANES_S = 0.5
"""Time between two looks whether there is a lane of kind ``batch``."""

NewThread = Callable[[str, Callable[[], None]], threading.Thread]


class Pipeline:
    """Fetch, decode, run and commit.

    Args:
        keeper: writes results into the result store; None for none.
        on_gone: called when stream or group are missing.
        on_worn_out: called when too many threads hang; this consumer is to be stopped and another started.
        new_thread: makes a thread whose crash ends the consumer.
    """

    def __init__(
        self,
        config: ConsumerConfig,
        context: Context,
        keeper: ResultKeeper | None,
        on_gone: Callable[[], None],
        on_worn_out: Callable[[], None],
        new_thread: NewThread,
    ) -> None:
        self._config, self._context, self._keeper = config, context, keeper
        self._on_gone, self._on_worn_out, self._new_thread = on_gone, on_worn_out, new_thread
        self._lock = threading.Lock()
        self._halt = threading.Event()
        self._stopped = False
        self._committer: Committer | None = None
        self._executor: Executor | None = None
        settings = config.settings
        self._answer_watch = AnswerWatch(settings.lease_ms / 1000, settings.longest_batch_ms / 1000)
        self._ran_s, self._padded_rows, self._ran_units, self._padded_units = 0.0, 0, 0, 0
        self._decodings: list[Decoding] = []

    def late_s(self, now_s: float) -> float:
        """Return for how many seconds work is held here without answers that are due; ask about once a second."""
        executor, leases = self._executor, self._context.leases
        until_s = -math.inf if executor is None else executor.running_until_s
        works = self._context.watchdog.is_under_way or self.hangs  # what decodes too long has a limit of its own
        return self._answer_watch.late_s(now_s, leases.due_s(), leases.releases, until_s, works)

    @property
    def busy_s(self) -> float:
        """Time in which a model ran, over all models."""
        executor = self._executor
        return self._ran_s + (executor.busy_s if executor is not None else 0.0)

    @property
    def working_rows(self) -> int | None:
        """Rows that at most run at once: the largest batch, or fewer once memory has run out; None between models."""
        executor = self._executor
        if executor is None:
            return None
        most, working = self._config.max_batch, executor.working_rows
        return most if working is None else min(most, working)

    @property
    def padded_rows(self) -> int:
        """Rows that were computed for nothing, over all models."""
        with self._lock:  # between two models it must not fall, or it would seem to have been reset
            executor = self._executor
            return self._padded_rows + (executor.padded_rows if executor is not None else 0)

    @property
    def ran_units(self) -> int:
        """Units of all batches, over all models."""
        with self._lock:
            executor = self._executor
            return self._ran_units + (executor.ran_units if executor is not None else 0)

    @property
    def padded_units(self) -> int:
        """Units that were computed for nothing besides, over all models."""
        with self._lock:
            executor = self._executor
            return self._padded_units + (executor.padded_units if executor is not None else 0)

    @property
    def hangs(self) -> bool:
        """Say whether a thread that decodes is still at work, of whichever model."""
        return any(decoding.is_busy for decoding in self._decodings)

    def published(self) -> dict[str, str]:
        """Return what a worker says of the generations it runs, see ``WorkerState``; nothing of another model."""
        executor = self._executor
        if not isinstance(executor, GenerationsExecutor):
            return {}
        found = executor.throughput
        numbers = {FULL_TOKENS_PER_S: found.tokens_per_s, ANSWER_TOKENS: found.answer_tokens}
        return {name: f"{value:.1f}" for name, value in numbers.items() if value is not None}

    def halt(self) -> None:
        """Claim nothing more, finish what is here, and let ``run`` return."""
        # Logged here, at once: the last line of a process should be why it ends.
        if self._executor is not None and not self._halt.is_set():
            log.info("Draining: no more requests are claimed, those here are finished.")
        self._halt.set()

    def stop(self) -> None:
        """As ``halt``, for good; a queue that stays away is not waited for longer than the longest batch."""
        with self._lock:
            self._stopped = True
            if self._committer is not None:
                self._lose_patience(self._committer)
        self.halt()

    def _lose_patience(self, committer: Committer) -> None:
        # A queue that stays away must not keep a stopping process for ever; its work is recovered after the lease.
        patience = threading.Timer(self._config.settings.longest_batch_ms / 1000, self._give_up, [committer])
        patience.daemon = True
        patience.start()

    def _give_up(self, committer: Committer) -> None:
        executor = self._executor
        if isinstance(executor, GenerationsExecutor):
            executor.give_up()
        committer.give_up()

    def run(self, model: Model, card: Card, calibration: Calibration) -> None:
        """Serve ``model`` until told to halt; returns when everything claimed is answered.

        The calling thread runs the model. Nothing here refers to the model any more afterwards.
        """
        context, config = self._context, self._config
        generations = Generations.of(model, context)
        batcher, cost = make_batcher(config, calibration) if generations is None else generations.batcher(calibration)
        context.metrics.batching(cost, calibration.preferred)
        intake = self._intake(batcher, calibration.unit, generates=generations is not None)
        rows = Rows(model, config.max_batch, context.cancellations)
        committer = Committer(context, model, card, intake.is_empty, self._keeper)
        decoding = Decoding(context, rows, intake, committer.refuse, self._on_worn_out, self._new_thread)
        recall = None if generations is None else generations.recall
        fetcher = Fetcher(context, rows, intake, decoding, committer.refuse, self._on_gone, recall)
        chooser, later = self._later(batcher, cost, intake, model, generations, calibration.unit)
        beside = Fetcher(context, rows, intake, decoding, committer.refuse, self._on_gone, recall, later)

        def share() -> threading.Thread:
            intake.share(chooser, later)
            return self._new_thread("fetch-batch", lambda: beside.run(self._halt))

        source = BatchSource(context, intake, rows, committer.refuse)
        executor: Executor
        if generations is None:
            executor = InlineExecutor(context, model, cost, intake, fetcher, committer, self._halt, beside)
            if card.batch.unit == TOKEN:
                context.metrics.watch_tokens(lambda: self.ran_units, lambda: self.padded_units)
        else:
            executor = generations.executor(intake, committer, self._halt, self._new_thread)
        renewer = LeaseRenewer(context)
        over = threading.Event()
        with self._lock:
            if self._stopped:
                return
            self._committer, self._executor = committer, executor
        self._decodings.append(decoding)
        decoding.start()
        fetch = self._new_thread("fetch", lambda: fetcher.run(self._halt))
        commit = self._new_thread("commit", committer.run)
        drain = self._new_thread("drain", lambda: self._drain(fetch, share, decoding, intake))
        renew = self._new_thread("leases", lambda: renewer.run(over))
        for thread in (fetch, commit, drain, renew):
            thread.start()
        executor.run(source, committer)
        committer.close()
        commit.join()
        drain.join()
        over.set()
        renew.join()
        self._decodings = [one for one in self._decodings if one.is_busy]
        with self._lock:
            self._committer = self._executor = None
            self._ran_s += executor.busy_s
            self._padded_rows += executor.padded_rows
            self._ran_units += executor.ran_units
            self._padded_units += executor.padded_units
            self._halt.clear()  # not at the start: a halt that comes between two models is meant for the next

    def _later(
        self,
        batcher: Batcher[Item],
        cost: BatchCost,
        intake: Intake,
        model: Model,
        generations: Generations | None,
        unit: str,
    ) -> tuple[Chooser, Room]:
        """Return what chooses between ordinary requests and those of ``batch`` lanes, and where these wait."""
        claiming = self._context.stream.batch
        if generations is not None:
            held = Backlog[Item](generations.later_budget, lambda: claiming.hurries)
            room = intake.make_later(held)
            return SlotGaps(batcher, held, lambda: intake.decoding), room
        backlog = Backlog[Item](batcher.budget, lambda: claiming.hurries)
        measure = self._context.stream.measure if unit == TOKEN else None
        return Gaps(batcher, backlog, cost, model.computed_rows), intake.make_later(backlog, claiming.charge, measure)

    def _intake(self, batcher: Batcher[Item], unit: str, *, generates: bool) -> Intake:
        if generates:  # what one costs is known at its end, and its prompt apart from the rest at its start
            return Intake(batcher)
        stream = self._context.stream
        return Intake(batcher, stream.charge, stream.measure if unit == TOKEN else None)

    def _drain(
        self, fetch: threading.Thread, share: Callable[[], threading.Thread], decoding: Decoding, intake: Intake
    ) -> None:
        """Wait for the end, and meanwhile for the first lane of kind ``batch``, which has a thread of its own."""
        beside: threading.Thread | None = None
        while not self._halt.wait(None if beside else LOOK_FOR_LANES_S):
            if self._context.stream.batch.lanes:
                log.info("There is a lane of kind batch: its requests get what the others leave.")
                beside = share()
                beside.start()
        fetch.join()
        if beside is not None:
            beside.join()
        decoding.shutdown()
        intake.close()
