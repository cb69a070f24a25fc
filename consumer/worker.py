"""One consumer: loads its model, starts the stages, watches them, drains them, switches precision when asked."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping

from shared.process.exit_codes import MODEL_CANNOT_LOAD, SOFTWARE_ERROR
from shared.results.opening import open_store
from shared.state import desired_state
from shared.state.cards import Card
from shared.tracing.spans import Tracing

from .config import ConsumerConfig
from .guarded_threads import GuardedThreads
from .heartbeat import Heartbeat
from .loading.closing import Closing
from .loading.loader import Loader, Running
from .loading.progress import Board
from .metrics import ConsumerMetrics
from .models.base import Model
from .models.generate.generator import Generator
from .models.load_errors import ModelCannotLoad
from .models.model_errors import described
from .pipeline.cancellations import CancellationListener
from .pipeline.context import Context
from .pipeline.pipeline import Pipeline
from .pipeline.stored.results import ResultKeeper
from .queue.interface import StreamDown, StreamGone, WorkStream
from .queue.shared_bodies import SharedBodies
from .recent_work import RecentWork
from .request_log.request_log import RequestLog
from .switching.adoption import Adoption
from .switching.pause import Pause
from .switching.precision_switch import Switch
from .switching.preparation import Preparation, Sought
from .tuning.tuner import Tuner

log = logging.getLogger(__name__)

LOOK_UP_S = 0.1


class Worker:
    """Runs the pipeline of one consumer, with one model after another, until it is told to stop.

    The calling thread waits for signals. The executor's thread loads models and runs them; the heartbeat's thread
    publishes what this consumer does, and looks what an operator wants and what a search has found.

    Args:
        build: makes the model; called on the thread that runs it.
        stream: where the work comes from.
        tracing: where the spans of batches go; None for nowhere.
        board: where operators see how far the start is.
        elsewhere: cores that a process beside this one may use, if they are others than its own.
        request_log: takes what becomes of requests; None for no log.
    """

    def __init__(
        self,
        config: ConsumerConfig,
        build: Callable[[], Model],
        stream: WorkStream,
        metrics: ConsumerMetrics,
        tracing: Tracing | None,
        board: Board,
        elsewhere: frozenset[int],
        request_log: RequestLog | None = None,
    ) -> None:
        settings = config.settings
        self._config, self._stream, self._metrics = config, stream, metrics
        self._threads = GuardedThreads(lambda: self._end(SOFTWARE_ERROR))
        self._closing = Closing(self._give_model_up)
        self._loader = Loader(config, build, board, self._closing)
        self._stop = threading.Event()
        self._over = threading.Event()
        self._is_ready = self._loads = self._is_given_up = False
        self._status = self._status_when_drained = 0
        self._late_s = self._loaded_at_s = 0.0
        self._model: Model | None = None
        self._running: Running | None = None
        self._heartbeat = Heartbeat(stream, self._describe, self._look, settings.heartbeat_ms / 1000)
        beat_now = self._heartbeat.beat_now
        self._pause, self._bodies = Pause(beat_now), SharedBodies(bool(settings.shared_bodies_mb))
        store = open_store(settings)
        keeper = (
            None if store is None else ResultKeeper(store, config.model_name, self._threads.make, metrics.result_stored)
        )
        self._request_log = request_log
        parts = (config.model_name, stream, settings, metrics, tracing, self._pause, self._bodies, store, request_log)
        context = Context(*parts, worker=config.worker)
        self._listener = CancellationListener(stream, context.cancellations)
        self._pipeline = Pipeline(config, context, keeper, beat_now, self._wear_out, self._threads.make)
        self._recent_work = RecentWork(metrics.sizes, lambda: self._pipeline.busy_s)
        halt = self._pipeline.halt
        tuner = Tuner(lambda target: self._threads.make("tuner", target).start(), elsewhere)
        self._switch = Switch(stream, config.precision, halt, beat_now, Preparation(tuner, self._seek).refusal)
        self._adoption = Adoption(stream, tuner, halt, settings.tune != "off")

    def stop(self) -> None:
        """Finish what has been claimed, then return from ``run``; a signal handler may call this."""
        # No other event than this one: the thread that runs the handler may hold another's lock.
        self._stop.set()

    @property
    def is_ready(self) -> bool:
        """Whether the model is loaded, serves, and answers what is taken, for probes; any thread may ask."""
        return self._is_ready and not self._stop.is_set() and not self._late_s

    def run(self) -> int:
        """Run until stopped; returns the exit status."""
        executor_thread = self._threads.make("executor", self._load_and_execute)
        executor_thread.start()
        # Signal handlers run on this thread only, and the kernel may deliver a signal to another one, which would
        # leave this one asleep: so it looks up regularly.
        while not (self._stop.is_set() or self._over.wait(LOOK_UP_S)):
            pass
        self._pipeline.stop()
        # A model that still loads has claimed nothing, so nothing is waited for.
        while executor_thread.is_alive() and not (self._loads or self._is_given_up or self._status):
            executor_thread.join(LOOK_UP_S)
        if not self._loads:
            executor_thread.join(LOOK_UP_S)  # it may have just said its last word
        if self._switch.is_under_way:
            self._switch.give_up_turn()
        self._adoption.end()
        cause = self._threads.cause
        if cause is not None:  # once more, at the end: a supervisor repeats what a process said last
            log.error("The consumer ends with status %d because of %s", self._status, described(cause))
        return self._status or self._status_when_drained

    def _load_and_execute(self) -> None:
        try:
            self._load_wanted(self._switch.at_start())
            if not self._stop.is_set():
                self._begin()
                self._serve()
            self._let_go()
        except ModelCannotLoad as error:
            error.tell(log)
            self._loader.failed(error)
            self._end(MODEL_CANNOT_LOAD)
        self._over.set()

    def _begin(self) -> None:
        self._heartbeat.first(self._stop)
        self._look_first()
        pipeline = self._pipeline
        self._metrics.watch(
            self._stream.depth, lambda: pipeline.busy_s, lambda: pipeline.working_rows, lambda: pipeline.padded_rows
        )

    def _look_first(self) -> None:
        """Read the desired state first: a consumer that starts on a paused model claims nothing at all."""
        while not self._stop.is_set():
            try:
                self._look_for_pause()
                return
            except (StreamDown, StreamGone):
                self._stop.wait(LOOK_UP_S)

    def _serve(self) -> None:
        stopped = threading.Event()
        heartbeat = self._threads.make("heartbeat", lambda: self._heartbeat.run(stopped))
        listen = self._threads.make("cancellations", lambda: self._listener.run(self._stop))
        heartbeat.start()
        listen.start()
        note = None if self._request_log is None else self._threads.make("request log", self._request_log.run)
        if note is not None:
            note.start()
        while not self._ends:
            self._serve_model()
            if not self._ends:
                self._let_go()
                self._load_wanted(self._switch.requested if self._adoption.is_under_way else self._switch.wanted)
        stopped.set()
        self._heartbeat.beat_now()
        heartbeat.join()
        listen.join()
        if self._request_log is not None and note is not None:
            self._request_log.close()
            note.join()
        self._leave()

    def _serve_model(self) -> None:
        """Run the stages around the loaded model until they have come to rest."""
        config, running, model = self._config, self._running, self._model
        assert running is not None
        assert model is not None
        self._heartbeat.beat_now()
        if isinstance(model, Generator):
            told = f"{model.engine.capacity().slots} texts at a time"
        else:
            rows = running.calibration.preferred if config.policy == "adaptive" else config.max_batch
            told = f"policy {config.policy}, batches of up to {rows} rows or {config.window_ms:g} ms"
        log.info("Ready: %s on %s, %s.", config.model_name, running.device, told)
        self._is_ready = True
        self._pipeline.run(model, running.card, running.calibration)
        self._is_ready = False

    def _load_wanted(self, precision: str) -> None:
        """Load in ``precision``. If that fails although another is known to do, load that one and say why.

        Raises:
            ModelCannotLoad: the model cannot be loaded as environment and models file ask for.
        """
        before = self._switch.requested
        refusal = ""
        try:
            self._load(precision)
        except ModelCannotLoad as error:
            # Asked for by environment and models file alone, there is nothing to go back to.
            if not self._switch.is_under_way:
                raise
            refusal = error.why
            error.tell(log, f"Precision {precision} is not taken: {refusal} Going on with {before}.")
        # Outside the clause: what was raised holds on to the model that was refused.
        if refusal:
            self._load(before)
        self._switch.finish(refusal)
        self._adoption.finish()

    def _load(self, precision: str) -> None:
        self._loads = True
        self._model, self._running = self._loader.load(precision)
        self._loaded_at_s = time.monotonic()
        self._metrics.describe(self._running.card, self._running.parity)
        self._loads = False

    def _let_go(self) -> None:
        """Close the model and forget it."""
        if self._model is not None:
            self._closing.close(self._model)
        self._model = None

    def _leave(self) -> None:
        try:
            self._stream.leave()
        except (StreamDown, StreamGone) as error:
            log.warning("Could not leave the list of workers: %s", error)

    # --- On the heartbeat's thread.

    def _look(self) -> None:
        """Look at the desired state; called after each heartbeat."""
        if self._ends:  # a turn that was just given back must not be taken again
            return
        self._look_for_pause()
        if not self._adoption.is_under_way:
            self._switch.look()
        if not self._switch.is_under_way:
            self._adoption.look(self._running.adoptable if self._running is not None else None)

    def _seek(self, precision: str) -> Sought | None:
        running = self._running
        if running is None or running.adoptable is None:
            return None
        from .loading.network import sought

        return sought(self._config, running.device, precision)

    def _look_for_pause(self) -> None:
        self._pause.ask(self._stream.serving() is desired_state.Serving.PAUSED)

    def _describe(self) -> tuple[Card, Mapping[str, str]]:
        """Card and state, as each heartbeat publishes them."""
        running = self._running
        assert running is not None
        card = running.card
        token, progress, refusal = self._switch.published
        late_s = self._look_for_answers()
        now_s = time.monotonic()
        recent = self._metrics.generations_lately(now_s)
        state = desired_state.WorkerState(
            pid=str(os.getpid()),
            runtime=card.runtime,
            precision=card.precision,
            preferred="" if card.batch.preferred is None else str(card.batch.preferred),
            loaded_s=f"{now_s - self._loaded_at_s:.0f}",
            device=running.device,
            why=running.parity.reason,
            token=token,
            progress=progress,
            refusal=refusal,
            serving=desired_state.Serving.PAUSED if self._pause.rests else desired_state.Serving.OPEN,
            late_s=f"{late_s:.0f}" if late_s else "",
            bodies=self._bodies.identity(),
            version=card.version,
            running="" if recent is None else str(recent.running),
            slots="" if recent is None else str(recent.slots),
            tokens_per_s="" if recent is None else f"{recent.tokens_per_s:.1f}",
            **self._pipeline.published(),
            **self._recent_work.published(self._metrics.cost, card.batch.unit, now_s),
        )
        return self._adoption.told_of(card), desired_state.to_hash(state)

    def _look_for_answers(self) -> float:
        late_s = self._pipeline.late_s(time.monotonic())
        if late_s and not self._late_s:
            log.error("Requests have been taken and none was answered for %.0f s; /readyz and doctor say so.", late_s)
        elif self._late_s and not late_s:
            log.info("Requests are answered again.")
        self._late_s = late_s
        self._metrics.late(late_s)
        return late_s

    # --- On any thread.

    def _wear_out(self) -> None:
        """Too many threads hang: finish what is here, as when stopped, and be started again."""
        log.error("Too many threads that decode hang; the consumer finishes what it has and ends.")
        self._status_when_drained = SOFTWARE_ERROR
        self.stop()

    def _give_model_up(self) -> None:
        """End although the model's ``close`` has not returned; called on a thread of its own."""
        self._is_given_up = True
        if not self._stop.is_set():
            self._end(MODEL_CANNOT_LOAD if self._loads else SOFTWARE_ERROR)

    @property
    def _ends(self) -> bool:
        return self._stop.is_set() or self._over.is_set()

    def _end(self, status: int) -> None:
        self._status = status
        self._over.set()
