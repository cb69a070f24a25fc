"""A consumer's metrics. Fed by events; what waits in Redis is measured at scrape time, so that it cannot go stale."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shared.metrics.histograms import BATCH_SIZE_BUCKETS, LATENCY_BUCKETS_S, Histogram
from shared.metrics.server import serve
from shared.net.hosts import Hosts
from shared.state.cards import Card
from shared.wire.outcomes import (
    CRASHED,
    EXPIRED,
    INTERNAL,
    MODEL_ERROR,
    OK,
    OVERLOADED,
    RESULTS_FULL,
    STORE_UNAVAILABLE,
)
from shared.wire.trace_context import sampled_trace_id

from .batching.cost import BatchCost
from .events import BatchDone, ItemDone, Parity, Share
from .generation_metrics import GenerationMetrics, Recent
from .queue.interface import Cause, Dead, Depth, StreamDown, StreamGone

ALWAYS_SHOWN = (OK, MODEL_ERROR, CRASHED, INTERNAL, OVERLOADED, EXPIRED, STORE_UNAVAILABLE, RESULTS_FULL)
"""Outcomes that are not the sender's fault. Shown at 0 from the start: to Prometheus a series that is born with
its first failures has not grown."""


class ConsumerMetrics:
    """Every metric of one consumer, on a registry of its own.

    Attributes:
        is_ready: says whether the model is loaded and serves; asked on other threads.
        sizes: rows of each batch.
    """

    def __init__(self, registry: CollectorRegistry, model: str) -> None:
        self.is_ready: Callable[[], bool] = lambda: False
        self.registry = registry
        self._model = model
        self._info: _Info | None = None
        self._generations: GenerationMetrics | None = None
        self._watches_tokens = False
        latency = LATENCY_BUCKETS_S
        queue_wait = Histogram(
            "headrace_queue_wait_seconds",
            "Time in the stream until claimed, per request",
            latency,
            registry,
            ("model",),
        )
        batch_wait = Histogram(
            "headrace_batch_wait_seconds",
            "Time from being claimed to the start of the batch, decoding included, per request",
            latency,
            registry,
            ("model",),
        )
        stages = Histogram(
            "headrace_stage_duration_seconds",
            "Duration of a stage: decode per request that needs it, the others per batch",
            latency,
            registry,
            ("model", "stage"),
        )
        sizes = Histogram("headrace_batch_size", "Rows per batch", BATCH_SIZE_BUCKETS, registry, ("model",))
        self._queue_wait, self._batch_wait = queue_wait.labels(model), batch_wait.labels(model)
        self._decode, self._inference = stages.labels(model, "decode"), stages.labels(model, "inference")
        self._postprocess, self._commit = stages.labels(model, "postprocess"), stages.labels(model, "commit")
        self.sizes = sizes.labels(model)
        self._batches = Counter(
            "headrace_batches", "Batches by the reason they closed", ("model", "reason"), registry=registry
        )
        self._items = Counter("headrace_items", "Requests by outcome", ("model", "outcome"), registry=registry)
        for outcome in ALWAYS_SHOWN:
            self._items.labels(model, outcome.code)
        self._later = Counter(
            "headrace_batch_lane_requests",
            "Requests of lanes of kind batch that ran, in batches of their own or taken along by others",
            ("model", "how"),
            registry=registry,
        )
        self._redeliveries = Counter(
            "headrace_redeliveries",
            "Entries taken over from a consumer that did not finish",
            ("model",),
            registry=registry,
        ).labels(model)
        self._malformed = Counter(
            "headrace_malformed_entries", "Entries without a readable request id", ("model",), registry=registry
        ).labels(model)
        dead_letters = Counter(
            "headrace_dead_letters", "Dead letters by why they are some", ("model", "reason"), registry=registry
        )
        self._dead_letters = {cause: dead_letters.labels(model, cause.value) for cause in Cause}
        stored = Counter(
            "headrace_stored_results",
            "Results for the result store: stored there, or left in Redis because it failed or was slow",
            ("model", "outcome"),
            registry=registry,
        )
        self._stored = {
            is_stored: stored.labels(model, "stored" if is_stored else "left") for is_stored in (True, False)
        }
        self._not_logged = Counter(
            "headrace_request_log_dropped",
            "Requests that are not in the request log, since it could not be written or they were too many",
            ("model",),
            registry=registry,
        ).labels(model)
        self._late = Gauge(
            "headrace_late_seconds",
            "For how long requests have been held here without answers that are due; 0 while they are answered",
            ("model",),
            registry=registry,
        ).labels(model)
        self._batching = _Batching(model)
        registry.register(self._batching)

    def batch_done(self, event: BatchDone) -> None:
        """Count one commit. Called by the committing thread only."""
        outcomes: dict[str, int] = {}
        ran = event.reason is not None and event.share is Share.ALL  # others wait for hours: those are no latencies
        for item in event.items:
            outcomes[item.outcome] = outcomes.get(item.outcome, 0) + 1
            trace = None if item.traceparent is None else sampled_trace_id(item.traceparent)
            if ran and trace is not None:
                self._observe_traced(item, trace)
            elif ran:
                self._queue_wait.observe(item.queue_wait_s)
                self._batch_wait.observe(item.batch_wait_s)
                if item.decode_s > 0:
                    self._decode.observe(item.decode_s)
        for outcome, count in outcomes.items():
            self._items.labels(self._model, outcome).inc(count)
        if event.share is not Share.ALL:
            self._later_done(event)
        if event.reason is not None and event.share is not Share.TAKEN_ALONG:
            self._batches.labels(self._model, event.reason.value).inc()
            self.sizes.observe(event.rows)
            self._inference.observe(event.run_s)
            self._postprocess.observe(event.postprocess_s)
            self._commit.observe(event.commit_s)

    def _later_done(self, event: BatchDone) -> None:
        how = "taken_along" if event.share is Share.TAKEN_ALONG else "own_batch"
        self._later.labels(self._model, how).inc(len(event.items))

    def _observe_traced(self, item: ItemDone, trace_id: str) -> None:
        now_s = time.time()
        self._queue_wait.observe_traced(item.queue_wait_s, trace_id, now_s)
        self._batch_wait.observe_traced(item.batch_wait_s, trace_id, now_s)
        if item.decode_s > 0:
            self._decode.observe_traced(item.decode_s, trace_id, now_s)

    def redelivered(self, count: int) -> None:
        """Count entries taken over."""
        self._redeliveries.inc(count)

    def malformed(self, count: int) -> None:
        """Count entries that were no requests."""
        self._malformed.inc(count)

    def result_stored(self, is_stored: bool) -> None:
        """Count a result that belongs into the result store. Any thread may call it."""
        self._stored[is_stored].inc()

    def not_logged(self, count: int) -> None:
        """Count requests that are not in the request log. Any thread may call it."""
        self._not_logged.inc(count)

    def late(self, seconds: float) -> None:
        """Show for how long answers have been due that do not come."""
        self._late.set(seconds)

    def dead_lettered(self, dead: Sequence[Dead], statuses: Sequence[int]) -> None:
        """Count dead letters, except for those that this consumer had lost to another one."""
        for one, status in zip(dead, statuses, strict=True):
            if status > 0:
                self._dead_letters[one.cause].inc()

    def describe(self, card: Card, parity: Parity) -> None:
        """Export what runs: version, runtime, precision, device, and how close the outputs are to those of fp32.

        Called again when another precision runs; the old one is exported no more.
        """
        info = _Info(card, parity)
        if self._info is not None:
            self.registry.unregister(self._info)
        self._info = info
        self.registry.register(info)

    def batching(self, cost: BatchCost, preferred: int) -> None:
        """Export what a batch costs, read at scrape time, and how many rows it should have."""
        self._batching.cost, self._batching.preferred = cost, preferred

    @property
    def cost(self) -> BatchCost | None:
        """What a batch costs now; None before the first model."""
        return self._batching.cost

    def generations(self) -> GenerationMetrics:
        """Return the metrics of generations, which are exported from the first call on."""
        if self._generations is None:
            self._generations = GenerationMetrics(self.registry, self._model)
        return self._generations

    def generations_lately(self, now_s: float) -> Recent | None:
        """Return what a heartbeat says of generations; None where there are none."""
        return None if self._generations is None else self._generations.recent(now_s)

    def watch_tokens(self, ran: Callable[[], int], padded: Callable[[], int]) -> None:
        """Export the tokens of batches, read at scrape time, of a model whose batches are counted in them."""
        if not self._watches_tokens:
            self._watches_tokens = True
            self.registry.register(_Tokens(self._model, ran, padded))

    def watch(
        self,
        depth: Callable[[], Mapping[str, Depth]],
        busy_s: Callable[[], float],
        working_rows: Callable[[], int | None],
        padded_rows: Callable[[], int],
    ) -> None:
        """Export what waits in Redis, how busy the device is, how many rows fit and how many only fill up batches.

        All values are read at scrape time.
        """
        live = _Live(self._model, depth, busy_s, working_rows, padded_rows, lambda: self._generations is not None)
        self.registry.register(live)

    def serve(self, host: str, port: int, hosts: Hosts) -> int:
        """Serve ``/metrics``, ``/healthz`` and ``/readyz`` on a separate thread, under the names in ``hosts``.

        Returns:
            The port.

        Raises:
            OSError: the port is taken.
        """
        return serve(self.registry, host, port, hosts, lambda: self.is_ready())


class _Info(Collector):
    def __init__(self, card: Card, parity: Parity) -> None:
        self._card, self._parity = card, parity

    def collect(self) -> Iterator[Metric]:
        card = self._card
        info = GaugeMetricFamily(
            "headrace_model_info",
            "What this consumer runs",
            labels=("model", "version", "runtime", "precision", "device"),
        )
        info.add_metric((card.name, card.version, card.runtime, card.precision, card.device), 1)
        yield info
        if card.tuning is not None:
            help_text = "1 in the runtime that was found to be the fastest here, else 0"
            tuned = GaugeMetricFamily("headrace_model_tuned", help_text, labels=("model",))
            tuned.add_metric((card.name,), card.tuning.state == "tuned")
            yield tuned
        if self._parity.rows == 0:
            return  # nothing was compared: fp32 itself, or outputs that are no numbers
        for name, help_text, value in (
            ("top1_agreement", "Share of samples whose best class is that of fp32", self._parity.top1_agreement),
            (
                "largest_difference",
                "Largest difference to fp32 over the largest value",
                self._parity.largest_difference,
            ),
        ):
            family = GaugeMetricFamily(f"headrace_precision_{name}", help_text, labels=("model",))
            family.add_metric((card.name,), value)
            yield family


class _Batching(Collector):
    def __init__(self, model: str) -> None:
        self._model = model
        self.cost: BatchCost | None = None
        self.preferred = 0

    def collect(self) -> Iterator[Metric]:
        if self.cost is None:
            return
        for name, help_text, value in (
            ("cost_fixed_seconds", "Run time of a batch besides that of its rows, as fitted", self.cost.fixed_s),
            ("cost_per_row_seconds", "Run time that each row adds to a batch, as fitted", self.cost.per_unit_s),
            ("preferred_rows", "Rows beyond which a batch gets hardly more done, as measured", self.preferred),
        ):
            family = GaugeMetricFamily(f"headrace_batch_{name}", help_text, labels=("model",))
            family.add_metric((self._model,), value)
            yield family


class _Tokens(Collector):
    def __init__(self, model: str, ran: Callable[[], int], padded: Callable[[], int]) -> None:
        self._model, self._ran, self._padded = model, ran, padded

    def collect(self) -> Iterator[Metric]:
        for name, help_text, value in (
            ("prompt", "Tokens of texts that were run", self._ran()),
            ("padding", "Tokens computed for nothing, to make texts of a batch equally long", self._padded()),
        ):
            family = CounterMetricFamily(f"headrace_{name}_tokens", help_text, labels=("model",))
            family.add_metric((self._model,), value)
            yield family


class _Live(Collector):
    def __init__(
        self,
        model: str,
        depth: Callable[[], Mapping[str, Depth]],
        busy_s: Callable[[], float],
        working_rows: Callable[[], int | None],
        padded_rows: Callable[[], int],
        generates: Callable[[], bool],
    ) -> None:
        self._model, self._depth, self._busy_s, self._generates = model, depth, busy_s, generates
        self._working_rows, self._padded_rows = working_rows, padded_rows
        self._last = (time.monotonic(), 0.0)

    def collect(self) -> Iterator[Metric]:
        yield self._gauge("headrace_device_busy_ratio", "Run time over wall time since the last scrape", self._ratio())
        if (rows := self._working_rows()) is not None:
            help_text = "Rows that at most run at once: the largest batch, or fewer once memory has run out"
            yield self._gauge("headrace_batch_working_rows", help_text, rows)
        padded = CounterMetricFamily(
            "headrace_batch_padded_rows", "Rows computed for nothing, to fill batches up", labels=("model",)
        )
        padded.add_metric((self._model,), self._padded_rows())
        yield padded
        try:
            depths = self._depth()
        except (StreamDown, StreamGone):
            return  # a missing series says "unknown"; a stale number would lie
        if self._generates():
            waiting = sum(depth.backlog for depth in depths.values())
            yield self._gauge("headrace_num_requests_waiting", "Requests of all lanes that wait for a slot", waiting)
        gauges = [
            GaugeMetricFamily(f"headrace_queue_{name}", help_text, labels=("model", "lane"))
            for name, help_text in (
                ("backlog", "Requests that no consumer has claimed yet"),
                ("pending", "Requests claimed and not finished"),
                ("oldest_age_seconds", "Age of the oldest request"),
            )
        ]
        takes = GaugeMetricFamily("headrace_lane_bytes", "What a lane takes", labels=("model", "lane", "what"))
        most = GaugeMetricFamily("headrace_lane_limit_bytes", "What a lane may take", labels=("model", "lane"))
        tokens = GaugeMetricFamily(
            "headrace_lane_prompt_tokens", "Prompt tokens of a lane's requests", labels=("model", "lane")
        )
        most_tokens = GaugeMetricFamily(
            "headrace_lane_limit_prompt_tokens", "Prompt tokens that they may have", labels=("model", "lane")
        )
        for lane, depth in depths.items():
            if depth.bytes is not None and depth.bytes.kilotoken_bytes:
                tokens.add_metric((self._model, lane), depth.bytes.tokens)
            if depth.bytes is not None and depth.bytes.most_tokens:
                most_tokens.add_metric((self._model, lane), depth.bytes.most_tokens)
            if depth.bytes is not None:
                takes.add_metric((self._model, lane, "queued"), depth.bytes.queued)
                takes.add_metric((self._model, lane, "stored"), depth.bytes.stored)
                most.add_metric((self._model, lane), depth.bytes.limit)
            for gauge, value in zip(gauges, (depth.backlog, depth.pending, depth.oldest_age_s), strict=True):
                gauge.add_metric((self._model, lane), value)
        yield from (*gauges, takes, most, tokens, most_tokens)

    def _ratio(self) -> float:
        now_s, busy_s = time.monotonic(), self._busy_s()
        (last_s, last_busy_s), self._last = self._last, (now_s, busy_s)
        return min(1.0, (busy_s - last_busy_s) / max(now_s - last_s, 1e-9))

    def _gauge(self, name: str, help_text: str, value: float) -> GaugeMetricFamily:
        family = GaugeMetricFamily(name, help_text, labels=("model",))
        family.add_metric((self._model,), value)
        return family
