"""Takes what handlers count and keeps nothing: Headrace has metrics of its own for what every model does."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any


class MetricTypes(Enum):
    """Kinds of metrics."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass
class Dimension:
    """A name and a value that tell a metric from others of its name."""

    name: str
    value: Any


class Metric:
    """One metric, which counts nothing."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def add_or_update(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""

    reset = update


class MetricsCache:
    """All metrics of a handler."""

    def __init__(self) -> None:
        self.cache: dict[str, Any] = {}
        self.store: list[Any] = []

    def add_metric(self, metric_name: str = "", *args: Any, **kwargs: Any) -> Metric:
        """Return a metric."""
        return Metric(metric_name)

    add_metric_to_cache = add_metric

    def get_metric(self, metric_name: str = "", *args: Any, **kwargs: Any) -> Metric:
        """Return a metric."""
        return Metric(metric_name)

    def add_counter(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""

    def add_time(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""

    def add_size(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""

    def add_percent(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""

    def add_error(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""
