"""One consumer: starts the stages, watches them, drains them."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from shared.cards import BatchSettings, Card
from shared.wire import ModelTag

from .batcher import Batcher
from .committer import Committer
from .config import ConsumerConfig
from .events import Parity
from .executor import Executor
from .fetcher import Fetcher
from .intake import Intake
from .lease import LeaseBook
from .loading import load_model
from .metrics import ConsumerMetrics
from .models.base import Model
from .pulse import Pulse
from .stream import StreamDown, StreamGone, WorkStream

log = logging.getLogger(__name__)

SOFTWARE_ERROR = 70
"""Exit status when a stage crashed (EX_SOFTWARE of sysexits.h); a supervisor starts the consumer again."""
WRONG_CONFIGURATION = 2
LOOK_UP_S = 0.1


class Worker:
    """Runs the stages of one consumer until it is told to stop.

    Args:
        build: makes the model; called on the thread that runs it.
        stream: where the work comes from.
    """

    def __init__(
        self,
        config: ConsumerConfig,
        build: Callable[[], Model],
        stream: WorkStream,
        metrics: ConsumerMetrics,
    ) -> None:
        self._config, self._build, self._stream, self._metrics = config, build, stream, metrics
        self._stop = threading.Event()
        self._over = threading.Event()
        self._serving = False
        self._status = 0

    def stop(self) -> None:
        """Finish what has been claimed, then return from ``run``; a signal handler may call this."""
        # Not _over: the thread that runs the handler may hold that event's lock, because it waits for it.
        self._stop.set()

    def run(self) -> int:
        """Run until stopped; returns the exit status."""
        executor_thread = self._thread("executor", self._load_and_execute)
        executor_thread.start()
        # Signal handlers run on this thread only, and the kernel may deliver a signal to another one, which would
        # leave this one asleep: so it looks up regularly.
        while not (self._stop.is_set() or self._over.wait(LOOK_UP_S)):
            pass
        # A model that still loads has claimed nothing, so nothing is waited for.
        while self._serving and executor_thread.is_alive() and self._status == 0:
            executor_thread.join(LOOK_UP_S)
        return self._status

    def _thread(self, name: str, target: Callable[[], None]) -> threading.Thread:
        return threading.Thread(target=self._guarded, args=(name, target), name=name, daemon=True)

    def _guarded(self, name: str, target: Callable[[], None]) -> None:
        try:
            target()
        except Exception:
            log.exception("The %s stage crashed; the consumer ends so that it is started again.", name)
            self._end(SOFTWARE_ERROR)

    def _end(self, status: int) -> None:
        self._status = status
        self._over.set()

    def _load_and_execute(self) -> None:
        try:
            model, parity, device = load_model(self._build, self._config)
        except ValueError as error:
            log.error("%s", error)
            self._end(WRONG_CONFIGURATION)
            return
        if not self._stop.is_set():
            self._serving = True
            self._serve(model, parity, device)
        self._over.set()

    def _serve(self, model: Model, parity: Parity, device: str) -> None:
        config, settings = self._config, self._config.settings
        card = self._card(model, parity, device)
        leases = LeaseBook()
        intake = Intake(Batcher(config.max_batch, config.window_ms / 1000), config.max_batch)
        tag = ModelTag(card.name, card.version, card.precision)
        committer = Committer(self._stream, model, leases, tag, card.warnings, settings, self._metrics.batch_done)
        executor = Executor(model, intake, committer, config.window_ms / 1000)
        with ThreadPoolExecutor(settings.decode_threads, "decode") as decoders:
            state = {"pid": str(os.getpid()), "precision": card.precision, "device": device}
            pulse = Pulse(self._stream, card, state, settings.heartbeat_ms / 1000)
            fetcher = Fetcher(
                self._stream,
                model,
                intake,
                leases,
                decoders,
                refuse=committer.refuse,
                on_gone=pulse.beat_now,
                on_malformed=self._metrics.malformed,
                on_recovered=self._metrics.redelivered,
                max_rows=config.max_batch,
                scan_s=settings.lease_ms / 3000,
            )
            self._metrics.describe(card, parity)
            self._first_heartbeat(card, state)
            self._metrics.watch(self._stream.depth, lambda: executor.busy_s)
            stopped = threading.Event()
            threads = {
                "fetch": self._thread("fetch", lambda: fetcher.run(self._stop)),
                "commit": self._thread("commit", committer.run),
                "pulse": self._thread("pulse", lambda: pulse.run(stopped)),
            }
            drain = self._thread("drain", lambda: self._drain(threads["fetch"], decoders, intake, committer))
            for thread in (*threads.values(), drain):
                thread.start()
            log.info(
                "Ready: %s on %s, at most %d rows or %g ms a batch.",
                card.name,
                device,
                config.max_batch,
                config.window_ms,
            )
            executor.run(fetcher, self._stop)
            committer.close()
            threads["commit"].join()
            stopped.set()
            pulse.beat_now()
            threads["pulse"].join()
        self._leave()

    def _drain(
        self, fetch: threading.Thread, decoders: ThreadPoolExecutor, intake: Intake, committer: Committer
    ) -> None:
        self._stop.wait()
        log.info("Draining: no more requests are claimed, those here are finished.")
        # A queue that stays away must not keep a stopping process for ever; its work is recovered after the lease.
        patience = threading.Timer(self._config.settings.longest_batch_ms / 1000, committer.give_up)
        patience.daemon = True
        patience.start()
        fetch.join()
        decoders.shutdown(wait=True)
        intake.close()

    def _first_heartbeat(self, card: Card, state: dict[str, str]) -> None:
        while not self._stop.is_set():
            try:
                self._stream.heartbeat(card, state)
                return
            except (StreamDown, StreamGone) as error:
                log.warning("Redis does not answer yet (%s); trying again.", error)
                self._stop.wait(0.5)

    def _leave(self) -> None:
        try:
            self._stream.leave()
        except (StreamDown, StreamGone) as error:
            log.warning("Could not sign off: %s", error)

    def _card(self, model: Model, parity: Parity, device: str) -> Card:
        config, description = self._config, model.describe()
        return Card(
            name=config.model_name,
            version=config.model.version,
            family=config.model.family,
            inputs=description.inputs,
            outputs=description.outputs,
            content_types=description.content_types,
            precision=parity.precision,
            device=device,
            batch=BatchSettings(config.max_batch, config.window_ms, config.policy),
            labels=description.labels,
            warnings=description.warnings,
            recipe=tuple(model.recipe()),
            precision_reason=parity.reason,
        )
