"""What caches do, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

from .equal_requests import EqualRequests


class CacheMetrics(Collector):
    """Reads the counts at each scrape; models without a cache have none."""

    def __init__(self, equal_requests: EqualRequests, registry: CollectorRegistry) -> None:
        self._equal_requests = equal_requests
        registry.register(self)

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Yield the families, as a registry asks for them."""
        requests = CounterMetricFamily(
            "headrace_cache_requests", "Requests of models with a cache.", labels=("model", "result")
        )
        evicted = CounterMetricFamily(
            "headrace_cache_evictions", "Answers that made room for others.", labels=("model",)
        )
        entries = GaugeMetricFamily("headrace_cache_entries", "Answers that are kept.", labels=("model",))
        used = GaugeMetricFamily("headrace_cache_bytes", "What the kept answers take.", labels=("model",))
        for name, model in list(self._equal_requests.models().items()):
            for found, count in model.counts.items():
                requests.add_metric((name, found.value), count)
            evicted.add_metric((name,), model.answers.evicted)
            entries.add_metric((name,), len(model.answers))
            used.add_metric((name,), model.answers.used_bytes)
        yield from (requests, evicted, entries, used)
