"""The front end's metrics. Labels never hold anything that a client can make up."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from prometheus_client import Counter, Gauge, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector, CollectorRegistry

from shared.metrics.histograms import LATENCY_BUCKETS_S, PAYLOAD_BUCKETS_BYTES, Histogram, Series
from shared.metrics.server import names_of, serve
from shared.metrics.waits import Waits
from shared.settings import Settings, SettingsError
from shared.wire.messages import VERSION
from shared.wire.outcomes import ALL, OK

from .load.answer_budget import WHYS, AnswerBudget
from .load.body_budget import BodyBudget
from .load.in_flight import InFlight
from .stream_metrics import StreamMetrics

log = logging.getLogger("headrace.http")

Registry = CollectorRegistry
"""Where metrics are registered; every application has one of its own."""

CONSOLE_ACTIONS = ("requeue", "drop", "cancel", "pause", "resume")
"""What the console does."""

LAST_PORT = 65535
UNKNOWN = "unknown"
OTHER_ROUTE = "other"

_CODE_CLASSES = ("0xx", "1xx", "2xx", "3xx", "4xx", "5xx")

_EXPECTED = tuple(one.code for one in ALL if one is OK or one.status == 429 or one.status >= 500)
"""Outcomes that objectives and alerts count. Shown at 0 from the start: to Prometheus a series that is born with its
first failures has not grown."""


def new_registry() -> Registry:
    """Return a registry with the metrics of the process itself: memory, processor time, open files."""
    registry = Registry()
    ProcessCollector(registry=registry)
    return registry


NOT_READY = "This front end is not ready; /readyz on its own port says why."


def serve_metrics(
    settings: Settings, registry: Registry, number: int = 0, is_ready: Callable[[], bool] | None = None
) -> None:
    """Serve ``/metrics`` on a port of its own, from a thread of its own, when the settings ask for it.

    Front ends that share a port always have it so: what one of them says of itself is not what the port does.

    Args:
        number: of this front end among those on its port; its metrics are so many ports after the first one's.
        is_ready: what ``/readyz`` says there, which is the only place where one of several can be asked for itself.

    Raises:
        SettingsError: the address cannot be taken.
    """
    host, first = settings.metrics_host, settings.api_metrics_port
    if first is None:
        if not settings.shares_port:
            return
        first = 0
    port = first and first + number
    try:
        if port > LAST_PORT:
            raise OSError(f"the last port there is is {LAST_PORT}")
        taken = serve(registry, host, port, names_of(settings), is_ready, NOT_READY)
    except OSError as error:
        raise SettingsError(
            f"HEADRACE_API_METRICS_PORT: {host}:{port} cannot be used: {error.strerror or error}."
        ) from None
    log.info("Metrics at http://%s:%d/metrics.", host, taken)


class OfModels(Collector):
    """A gauge that is computed at each scrape, with a value for each model.

    Attributes:
        ask: returns the values.
    """

    def __init__(
        self, name: str, help: str, registry: Registry, ask: Callable[[], Mapping[str, int]] = dict[str, int]
    ) -> None:
        self._name, self._help, self.ask = name, help, ask
        registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(self._name, self._help, labels=("model",))
        for model, count in self.ask().items():
            family.add_metric((model,), count)
        yield family


@dataclass(frozen=True, slots=True)
class QueueMetrics:
    """What a queue records.

    Attributes:
        admit_duration: seconds of one call of ``admit``, one value per call.
        reply_wait: seconds from submitting a request until its reply, one value per request, by model and lane.
        transport: the part of ``reply_wait`` in s that the consumer's own durations do not account for.
        redis_errors: failed commands and lost connections.
        bodies_resent: requests that went again, with their body, since a consumer did not find it in shared memory.
        bodies: what bodies in shared memory take.
        held: requests that wait for a consumer, by model; asked for at each scrape.
        held_bytes: what bodies take that wait in this process for a model's card.
    """

    admit_duration: Series
    reply_wait: Waits
    transport: Series
    redis_errors: Counter
    bodies_resent: Counter
    bodies: Gauge
    held: OfModels
    held_bytes: Gauge

    def watch_bodies(self, used_bytes: Callable[[], int]) -> None:
        """Show what bodies in shared memory take."""
        self.bodies.set_function(used_bytes)

    def watch_held(self, counts: Callable[[], Mapping[str, int]], held_bytes: Callable[[], int]) -> None:
        """Show how many requests wait for a consumer of each model, and what the bodies take that wait here."""
        self.held.ask = counts
        self.held_bytes.set_function(held_bytes)


def queue_metrics(registry: Registry) -> QueueMetrics:
    """Register the queue's metrics."""

    def series(name: str, help: str) -> Series:
        return Histogram(name, help, LATENCY_BUCKETS_S, registry).labels()

    return QueueMetrics(
        series("headrace_admit_duration_seconds", "Time of one call that puts the requests of a tick on the stream."),
        Waits("headrace_reply_wait_seconds", "Time from submitting a request until its reply.", registry),
        series("headrace_transport_seconds", "Reply wait less the consumer's own durations."),
        Counter("headrace_redis_errors", "Failed Redis commands and lost connections.", registry=registry),
        Counter("headrace_bodies_resent", "Requests sent again with their body.", registry=registry),
        Gauge("headrace_shared_bodies_bytes", "What bodies in shared memory take.", registry=registry),
        OfModels("headrace_held_requests", "Requests that wait for a consumer of a model that has none.", registry),
        Gauge("headrace_held_bytes", "Bodies that wait for a model's card.", registry=registry),
    )


class WebhookMetrics:
    """What is recorded of webhooks; see :class:`producer_api.webhooks.courier.Instruments`."""

    def __init__(self, registry: Registry) -> None:
        attempts = Counter("headrace_webhook_attempts", "Attempts to deliver a webhook.", ["result"], registry=registry)
        self._attempts = {
            result: attempts.labels(result) for result in ("delivered", "status", "unreachable", "refused")
        }
        name, latency = "headrace_webhook_attempt_duration_seconds", LATENCY_BUCKETS_S
        self._duration = Histogram(name, "Time of one attempt.", latency, registry).labels()
        self._given_up = Counter("headrace_webhooks_given_up", "Webhooks that became dead letters.", registry=registry)
        pending = "Requests and batches with webhooks to deliver, of all front ends."
        self._pending = Gauge("headrace_webhooks_pending", pending, ["model"], registry=registry)
        oldest = "For how long the oldest webhook has waited, of all front ends."
        self._oldest = Gauge("headrace_webhooks_oldest_age_seconds", oldest, ["model"], registry=registry)

    def delivered(self, duration_s: float) -> None:
        """An attempt succeeded."""
        self._attempts["delivered"].inc()
        self._duration.observe(duration_s)

    def failed(self, why: str, duration_s: float) -> None:
        """An attempt failed."""
        self._attempts[why].inc()
        self._duration.observe(duration_s)

    def given_up(self) -> None:
        """A webhook became a dead letter."""
        self._given_up.inc()

    def stands(self, standings: Mapping[str, tuple[int, float]]) -> None:
        """Show how many wait for each model, and for how long the oldest has."""
        for model, (pending, oldest_s) in standings.items():
            self._pending.labels(model).set(pending)
            self._oldest.labels(model).set(oldest_s)


@dataclass(frozen=True, slots=True)
class LaterMetrics:
    """What the queue of later requests shows, by model and lane.

    Attributes:
        open: requests that have not ended.
        kept: bytes of the results that are kept.
    """

    open: Gauge
    kept: Gauge

    def show(self, model: str, lane: str, opened: int, kept_bytes: int) -> None:
        """Show what was found in a lane."""
        self.open.labels(model, lane).set(opened)
        self.kept.labels(model, lane).set(kept_bytes)


def later_metrics(registry: Registry) -> LaterMetrics:
    """Register the metrics of later requests."""
    names = ("model", "lane")
    return LaterMetrics(
        Gauge("headrace_later_open", "Later requests that have not ended.", names, registry=registry),
        Gauge("headrace_kept_bytes", "What the kept results of a lane take.", names, registry=registry),
    )


def not_logged(registry: Registry) -> Callable[[str, int], None]:
    """Register the metric of the request log; returns what counts requests of a model that are not in it."""
    help = "Requests that are not in the request log: it could not be written, or they were too many."
    dropped = Counter("headrace_request_log_dropped", help, ["model"], registry=registry)
    return lambda model, count: dropped.labels(model).inc(count)


class Tally(Collector):
    """A labelled counter written by one thread, without prometheus_client's lock per increment.

    Args:
        expected: asked at each scrape for the labels of series that are shown at 0 before anything is counted.

    Attributes:
        counts: by the values of the labels; what a key has behind them is added up when it is exported.
    """

    def __init__(
        self,
        name: str,
        help: str,
        labels: tuple[str, ...],
        registry: Registry,
        expected: Callable[[], Iterable[tuple[str, ...]]] = tuple,
    ) -> None:
        self._name, self._help, self._labels, self._expected = name, help, labels, expected
        self.counts: defaultdict[tuple[str, ...], int] = defaultdict(int)
        registry.register(self)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the family, as a registry asks for it."""
        family = CounterMetricFamily(self._name, self._help, labels=self._labels)
        counts, width = dict.fromkeys(self._expected(), 0), len(self._labels)
        for values, count in list(self.counts.items()):  # a list first: requests are counted meanwhile
            counts[values[:width]] = counts.get(values[:width], 0) + count
        for values, count in counts.items():
            family.add_metric(values, count)
        yield family


class ApiMetrics:
    """What the HTTP side records.

    Args:
        version, commit: of what runs.
        in_flight: the places of predict requests; how many are taken and how many there are is exported.
        body_budget: the bodies that are being received; what is here of them is exported.
        answer_budget: the answers that wait for their clients; what they hold is exported.
        models: asked at each scrape for the models that are known.
        failed, versions: asked at each scrape for how many consumers of each model have failed, and how many versions
            of it are served.

    Attributes:
        requests: predict requests by model, outcome and, for the console, lane.
        streams: answers that are sent as they are made.
        received, sent: payload sizes in bytes of predict requests and their answers.
        console_actions: what was done on the console, and whether all of it was.
    """

    def __init__(
        self,
        registry: Registry,
        version: str,
        commit: str | None,
        in_flight: InFlight,
        body_budget: BodyBudget,
        answer_budget: AnswerBudget,
        models: Callable[[], Iterable[str]] = tuple,
        failed: Callable[[], Mapping[str, int]] = dict,
        versions: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._registry, self.streams = registry, StreamMetrics(registry)
        self.requests = Tally(
            "headrace_requests",
            "Predict requests by outcome.",
            ("model", "outcome"),
            registry,
            lambda: product((*models(), UNKNOWN), _EXPECTED),
        )
        self._duration = Histogram(
            "headrace_http_request_duration_seconds",
            "Time from the headers of a request to the end of its response.",
            LATENCY_BUCKETS_S,
            registry,
            ("route", "code"),
        )
        payload = Histogram(
            "headrace_payload_bytes", "Size of bodies.", PAYLOAD_BUCKETS_BYTES, registry, ("direction",)
        )
        self.received, self.sent = payload.labels("in"), payload.labels("out")
        taken = Gauge("headrace_requests_in_flight", "Predict requests being answered.", registry=registry)
        taken.set_function(lambda: in_flight.count)
        limit = Gauge("headrace_requests_in_flight_limit", "Beyond so many 503 is the answer.", registry=registry)
        limit.set(in_flight.limit)
        receiving = Gauge("headrace_receiving_bytes", "What has come of incomplete bodies.", registry=registry)
        receiving.set_function(lambda: body_budget.held_bytes)
        sending = Gauge("headrace_sending_bytes", "Answers that their clients have not taken.", registry=registry)
        sending.set_function(lambda: answer_budget.held_bytes)
        given_up = Tally(
            "headrace_answers_given_up", "Answers cut off.", ("why",), registry, lambda: ((why,) for why in WHYS)
        )
        answer_budget.given_up = given_up.counts
        self.console_actions = Tally(
            "headrace_console_actions",
            "What was done on the console.",
            ("action", "result"),
            registry,
            lambda: product(CONSOLE_ACTIONS, ("done", "stopped")),
        )
        info = Gauge("headrace_build_info", "What runs.", ("version", "protocol", "commit"), registry=registry)
        info.labels(version, str(VERSION), commit or "").set(1)
        for name, help, ask in (
            ("headrace_failed_consumers", "Consumers that died and do not live well yet.", failed),
            ("headrace_model_versions", "Versions of a model that its live consumers serve.", versions),
        ):
            OfModels(name, help, registry, ask)
        self._series: dict[tuple[str, int], Series] = {}

    def show_listeners(self, count: Callable[[], int]) -> None:
        """Show how many clients wait for later requests."""
        listeners = Gauge("headrace_later_listeners", "Clients waiting for later requests.", registry=self._registry)
        listeners.set_function(count)

    def observe_request(self, route: str, status: int, seconds: float, trace_id: str | None = None) -> None:
        """Record one response.

        Args:
            route: a path template of the application.
            trace_id: the sampled trace that the request belongs to; None for none.
        """
        key = (route, status)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = self._duration.labels(route, _CODE_CLASSES[status // 100])
        if trace_id is None:
            series.observe(seconds)
        else:
            series.observe_traced(seconds, trace_id, time.time())

    def expose(self, *, as_openmetrics: bool) -> tuple[bytes, str]:
        """Return all metrics and their content type: OpenMetrics, with exemplars, or plain text."""
        if as_openmetrics:
            text: bytes = openmetrics.generate_latest(self._registry)  # type: ignore[no-untyped-call]
            return text, openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4
