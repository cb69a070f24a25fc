"""How long requests waited for their replies, by model and lane, in finer buckets than what is exported.

The console draws quantiles, for which a bucket must be narrow; Prometheus gets one series of the common ladder, added
up when it asks. A request is counted once, by one writer, as in any other :class:`Series`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Final

from prometheus_client.core import Exemplar, HistogramMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString

from .histograms import LATENCY_BUCKETS_S, Series

_BELOW_S: Final = (0.000125, 0.00018, 0.00025, 0.00035)
_BEYOND_S: Final = (40.0, 50.0, 60.0, 80.0, 100.0, 120.0, 160.0, 200.0, 250.0, 300.0, 400.0, 500.0, 600.0)
_RATIO: Final = 1.26


def _finer() -> tuple[float, ...]:
    """Divide each step of the common ladder evenly in ratio, so that no bucket is wider than a quarter of its edge."""
    edges = list(_BELOW_S)
    for low, high in pairwise(LATENCY_BUCKETS_S):
        parts = next(parts for parts in range(1, 100) if (high / low) ** (1 / parts) <= _RATIO)
        edges += [low, *(round(low * (high / low) ** (part / parts), 7) for part in range(1, parts))]
    return (*edges, LATENCY_BUCKETS_S[-1], *_BEYOND_S)


WAIT_BOUNDS_S: Final = _finer()
"""Upper edges in seconds, ascending; every edge of ``LATENCY_BUCKETS_S`` is among them. The last bucket has none."""

_COARSE: Final = tuple(bisect_left(LATENCY_BUCKETS_S, edge) for edge in (*WAIT_BOUNDS_S, float("inf")))


class Waits(Collector):
    """A histogram with one fine series for each model and lane, exported as one coarse one."""

    def __init__(self, name: str, help: str, registry: CollectorRegistry) -> None:
        self._name, self._help = name, help
        self._series: dict[tuple[str, str], Series] = {}
        registry.register(self)

    def of(self, model: str, lane: str) -> Series:
        """Return the series of a lane, making it when it is new. Its bounds are ``WAIT_BOUNDS_S``."""
        series = self._series.get((model, lane))
        if series is None:
            series = self._series[model, lane] = Series(WAIT_BOUNDS_S)
        return series

    def all(self) -> Mapping[tuple[str, str], Series]:
        """Return the series by model and lane."""
        return self._series

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield the family, as a registry asks for it."""
        counts, total = [0] * (len(LATENCY_BUCKETS_S) + 1), 0.0
        exemplars: dict[int, Exemplar] = {}
        for series in list(self._series.values()):
            total += series.total
            for fine, count in enumerate(list(series.counts)):
                counts[_COARSE[fine]] += count
            for fine, one in list(series.exemplars.items()):
                known = exemplars.get(_COARSE[fine])
                if known is None or float(known.timestamp or 0) <= float(one.timestamp or 0):
                    exemplars[_COARSE[fine]] = one
        buckets, running = [], 0
        for index, edge in enumerate((*LATENCY_BUCKETS_S, float("inf"))):
            running += counts[index]
            text: str = floatToGoString(edge)  # type: ignore[no-untyped-call]
            buckets.append((text, running, exemplars[index]) if index in exemplars else (text, running))
        family = HistogramMetricFamily(self._name, self._help, labels=())
        family.add_metric((), buckets, sum_value=total)
        yield family
