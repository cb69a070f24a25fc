"""What the stages of one consumer share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from consumer.metrics import ConsumerMetrics
from consumer.queue.interface import WorkStream
from consumer.queue.shared_bodies import SharedBodies
from consumer.request_log.request_log import RequestLog
from consumer.switching.pause import Pause
from shared.results.store import Store
from shared.settings import Settings
from shared.tracing.spans import Tracing

from .cancellations import Cancellations
from .deduplication import Deduplication
from .leases import LeaseBook, Watchdog


@dataclass(frozen=True, slots=True)
class Context:
    """Made once for a consumer, whichever models it runs after one another.

    Attributes:
        model_name: whose requests these are.
        tracing: where the spans of batches go; None for nowhere.
        pause: says when nothing is to be claimed.
        bodies: those that front ends of this machine keep in shared memory.
        request_log: takes what ended; None while there is no log.
        store: where large bodies are, and results that are not to stay in Redis; None for none.
        cancellations: entries that are not to run; the listener adds to them.
        leases: what is claimed. What a commit could not end is still held when the next model runs.
        watchdog: what is in progress, and since when.
        deduplication: which ids are in flight.
        worker: name of this consumer.
        numbers: those of batches, for all models that this process runs.
    """

    model_name: str
    stream: WorkStream
    settings: Settings
    metrics: ConsumerMetrics
    tracing: Tracing | None
    pause: Pause
    bodies: SharedBodies
    store: Store | None = None
    request_log: RequestLog | None = None
    cancellations: Cancellations = field(default_factory=Cancellations)
    leases: LeaseBook = field(default_factory=LeaseBook)
    watchdog: Watchdog = field(default_factory=Watchdog)
    deduplication: Deduplication = field(default_factory=Deduplication)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    worker: str = ""
