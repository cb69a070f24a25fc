"""The stages around one loaded model: started together, drained together, again and again with other models."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable

from consumer.config import ConsumerConfig
from consumer.loading.warmup import Calibration
from consumer.metrics import ConsumerMetrics
from consumer.models.base import Model
from consumer.queue.interface import WorkStream
from consumer.queue.shared_bodies import SharedBodies
from consumer.switching.pause import Pause
from shared.state.cards import Card
from shared.tracing.spans import Tracing
from shared.wire.messages import ModelTag

from .answer_watch import AnswerWatch
from .cancellations import Cancellations
from .committer import Committer
from .decoding import Decoding
from .deduplication import Deduplication
from .executor import Executor
from .fetcher import Fetcher
from .intake import Intake
from .lease_renewer import LeaseRenewer
from .leases import LeaseBook, Watchdog
from .policies import make_batcher
from .rows import Rows

log = logging.getLogger(__name__)

NewThread = Callable[[str, Callable[[], None]], threading.Thread]


class Pipeline:
    """Fetch, decode, run and commit.

    Args:
        on_gone: called when stream or group are missing.
        on_worn_out: called when too many threads hang; this consumer is to be stopped and another started.
        new_thread: makes a thread whose crash ends the consumer.
        pause: says when nothing is to be claimed.
        tracing: where the spans of batches go; None for nowhere.
        cancellations: entries that are not to run; somebody else adds to it.

    Attributes:
        bodies: those that front ends of this machine keep in shared memory.
    """

    def __init__(
        self,
        config: ConsumerConfig,
        stream: WorkStream,
        metrics: ConsumerMetrics,
        on_gone: Callable[[], None],
        new_thread: NewThread,
        pause: Pause,
        on_worn_out: Callable[[], None] = lambda: None,
        tracing: Tracing | None = None,
        cancellations: Cancellations | None = None,
    ) -> None:
        self._cancellations = Cancellations() if cancellations is None else cancellations
        self._config, self._stream, self._metrics = config, stream, metrics
        self.bodies = SharedBodies(bool(config.settings.shared_bodies_mb))
        self._on_worn_out = on_worn_out
        self._on_gone, self._new_thread, self._pause, self._tracing = on_gone, new_thread, pause, tracing
        # One book for all models: what a commit could not end is still held when the next model runs.
        self._leases = LeaseBook()
        self._lock = threading.Lock()
        self._halt = threading.Event()
        self._stopped = False
        self._committer: Committer | None = None
        self._executor: Executor | None = None
        self._watchdog = Watchdog()
        settings = config.settings
        self._answer_watch = AnswerWatch(settings.lease_ms / 1000, settings.longest_batch_ms / 1000)
        self._ran_s, self._padded_rows = 0.0, 0
        self._decodings: list[Decoding] = []

    def late_s(self, now_s: float) -> float:
        """Return for how many seconds work is held here without answers that are due; ask about once a second."""
        executor, watchdog = self._executor, self._watchdog
        until_s = -math.inf if executor is None else executor.running_until_s
        works = watchdog.is_under_way or self.hangs  # what decodes for too long has a limit of its own
        return self._answer_watch.late_s(now_s, self._leases.due_s(), self._leases.releases, until_s, works)

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
        with self._lock:  # between two models it must not fall, or it would seem to have begun anew
            executor = self._executor
            return self._padded_rows + (executor.padded_rows if executor is not None else 0)

    @property
    def hangs(self) -> bool:
        """Say whether a thread that decodes is still at work, of whichever model."""
        return any(decoding.is_busy for decoding in self._decodings)

    def halt(self) -> None:
        """Claim nothing more, finish what is here, and let ``run`` return."""
        # Said by whoever asks, at once: what a process says last should be why it ends.
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
        patience = threading.Timer(self._config.settings.longest_batch_ms / 1000, committer.give_up)
        patience.daemon = True
        patience.start()

    def run(self, model: Model, card: Card, calibration: Calibration) -> None:
        """Serve ``model`` until told to halt; returns when everything claimed is answered.

        The calling thread runs the model. Nothing here refers to the model any more afterwards.
        """
        config = self._config
        batcher, cost = make_batcher(config, calibration)
        self._metrics.batching(cost, calibration.preferred)
        intake = Intake(batcher)
        tag = ModelTag(card.name, card.version, card.precision)
        watchdog = self._watchdog = Watchdog()
        deduplication = Deduplication()
        committer = Committer(
            self._stream,
            model,
            self._leases,
            tag,
            card.warnings,
            config.settings,
            self._metrics.batch_done,
            self._metrics.dead_lettered,
            self._tracing,
            watchdog,
            deduplication,
        )
        executor = Executor(model, intake, committer, cost, watchdog, self._cancellations)
        lease_s, longest_s = config.settings.lease_ms / 1000, config.settings.longest_batch_ms / 1000
        renewer = LeaseRenewer(self._stream, self._leases, watchdog, lease_s, longest_s, self._cancellations)
        over = threading.Event()
        with self._lock:
            if self._stopped:
                return
            self._committer, self._executor = committer, executor
        rows = Rows(model, config.max_batch, self._cancellations)
        decoding = Decoding(
            self._stream,
            rows,
            intake,
            self._leases,
            committer.refuse,
            self._on_worn_out,
            self._new_thread,
            config.settings,
        )
        fetcher = Fetcher(
            self._stream,
            rows,
            intake,
            self._leases,
            decoding,
            refuse=committer.refuse,
            on_gone=self._on_gone,
            on_malformed=self._metrics.malformed,
            on_dead=self._metrics.dead_lettered,
            on_recovered=self._metrics.redelivered,
            scan_s=lease_s / 3,
            watchdog=watchdog,
            pause=self._pause,
            deduplication=deduplication,
            most_message_bytes=config.settings.max_message_bytes,
            bodies=self.bodies,
            model=config.model_name,
        )
        self._decodings.append(decoding)
        decoding.start()
        fetch = self._new_thread("fetch", lambda: fetcher.run(self._halt))
        commit = self._new_thread("commit", committer.run)
        drain = self._new_thread("drain", lambda: self._drain(fetch, decoding, intake))
        keep = self._new_thread("keep", lambda: renewer.run(over))
        for thread in (fetch, commit, drain, keep):
            thread.start()
        executor.run(fetcher, self._halt)
        committer.close()
        commit.join()
        drain.join()
        over.set()
        keep.join()
        self._decodings = [one for one in self._decodings if one.is_busy]
        with self._lock:
            self._committer = self._executor = None
            self._ran_s += executor.busy_s
            self._padded_rows += executor.padded_rows
            self._halt.clear()  # not at the start: a halt that comes between two models is meant for the next

    def _drain(self, fetch: threading.Thread, decoding: Decoding, intake: Intake) -> None:
        self._halt.wait()
        fetch.join()
        decoding.shutdown()
        intake.close()
