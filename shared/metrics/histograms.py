"""Metrics shared by both sides: the latency bucket ladder, and histograms that are cheap on a hot path."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client.core import Exemplar, HistogramMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString

LATENCY_BUCKETS_S = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)
"""One ladder for every latency, in seconds. Every budget in ``budgets.toml`` is an edge of it; a test holds that."""

FIRST_TOKEN_BUCKETS_S = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    10.0,
    20.0,
    40.0,
    80.0,
    160.0,
)
"""Of the time until something is there to read, in seconds: from a small model alone to a long queue."""

TOKEN_GAP_BUCKETS_S = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.25,
    0.3,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
)
"""Of the time between two tokens in seconds, finest where a reader begins to notice it."""

GENERATION_BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0)
"""Of a whole generation in seconds, which may take minutes."""

TOKEN_COUNT_BUCKETS = (1, 4, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)

BATCH_SIZE_BUCKETS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 128, 256, 512, 1024)
PAYLOAD_BUCKETS_BYTES = (64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216)


class Series:
    """One labelled series of a histogram: counts per bucket, the sum, and the latest traced value of each bucket.

    Each series has one writing thread, so no lock is taken; a scrape may see a value counted a moment before it is
    summed.
    """

    __slots__ = ("_bounds", "counts", "exemplars", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.exemplars: dict[int, Exemplar] = {}

    def observe(self, value: float) -> None:
        """Count one value; negative ones, which clocks can produce, count as 0."""
        if value < 0.0:
            value = 0.0
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def observe_many(self, value: float, count: int) -> None:
        """Count one value ``count`` times, for the price of one."""
        if value < 0.0:
            value = 0.0
        self.counts[bisect_left(self._bounds, value)] += count
        self.total += value * count

    def observe_traced(self, value: float, trace_id: str, now_s: float) -> None:
        """Count one value and make it its bucket's exemplar.

        Args:
            trace_id: what the OpenMetrics format shows with the bucket.
            now_s: Unix time in s.
        """
        self.observe(value)
        bucket = bisect_left(self._bounds, max(value, 0.0))
        self.exemplars[bucket] = Exemplar({"trace_id": trace_id}, max(value, 0.0), round(now_s, 3))


class Histogram(Collector):
    """A classic Prometheus histogram. prometheus_client's own takes a lock per observation, several times per request.

    Args:
        name, help: as exported.
        bounds: upper bucket edges, ascending, without infinity.
        labels: label names.
        registry: where to register.
    """

    def __init__(
        self,
        name: str,
        help: str,
        bounds: Sequence[float],
        registry: CollectorRegistry,
        labels: Sequence[str] = (),
    ) -> None:
        self._name, self._help, self._bounds = name, help, tuple(bounds)
        self._edges = (*self._bounds, float("inf"))
        self._labels = tuple(labels)
        self._series: dict[tuple[str, ...], Series] = {}
        registry.register(self)

    def labels(self, *values: str) -> Series:
        """Return the series with these label values, making it when it is new."""
        series = self._series.get(values)
        if series is None:
            if len(values) != len(self._labels):
                raise ValueError(f"{self._name} takes {len(self._labels)} labels, not {len(values)}")
            series = self._series.setdefault(values, Series(self._bounds))
        return series

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield the family, as a registry asks for it."""
        family = HistogramMetricFamily(self._name, self._help, labels=self._labels)
        for values, series in list(self._series.items()):
            buckets, running = [], 0
            for index, count in enumerate(list(series.counts)):
                running += count
                edge: str = floatToGoString(self._edges[index])  # type: ignore[no-untyped-call]
                exemplar = series.exemplars.get(index)
                buckets.append((edge, running) if exemplar is None else (edge, running, exemplar))
            family.add_metric(values, buckets, sum_value=series.total)
        yield family
