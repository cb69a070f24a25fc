"""[I/O] What the service says about itself before a run, and what its metrics say the run did to it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, Final

from . import exposition, runfile
from .scenario import Target
from .service import read_card, read_json, read_text

_ASK_S: Final = 5.0
_SETTLE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class ServiceBefore:
    """What the service said before the load. `metrics` is None where it exposes none; one entry per address."""

    card: dict[str, Any] | None
    version: dict[str, Any] | None
    metrics: tuple[exposition.Samples | None, ...]


def before(target: Target, model: str, metrics: tuple[Target, ...]) -> ServiceBefore:
    """Ask for the model's card, the version and the metrics.

    Raises:
        LoadgenError: the service cannot be reached or has no such model.
    """
    return ServiceBefore(
        card=read_card(target, model, _ASK_S),
        version=read_json(target, "/version", _ASK_S),
        metrics=tuple(_read_metrics(address) for address in metrics),
    )


def after(first: ServiceBefore, model: str, metrics: tuple[Target, ...], answered: int) -> runfile.Service:
    """Read the metrics again and return what the service has to say; null where it says nothing.

    Args:
        answered: how many answers the generator has had. The counter is read for up to a second until it says as many,
            since the last answers may have left the front end a moment before it counted them.
    """
    last = tuple(_read_metrics(target) for target in metrics)
    counter = _counter(model, first.metrics[0], last[0])
    settled_s = time.monotonic() + _SETTLE_S
    while counter is not None and (counter.delta or 0) < answered and time.monotonic() < settled_s:
        time.sleep(0.05)
        last = (_read_metrics(metrics[0]), *last[1:])
        counter = _counter(model, first.metrics[0], last[0])
    histograms = [
        _histogram(delta)
        for samples, later in zip(first.metrics, last, strict=True)
        if samples is not None and later is not None
        for delta in exposition.histogram_deltas(samples, later)
    ]
    measured = any(samples is not None for samples in last)
    return runfile.Service(first.version, first.card, counter, histograms if measured else None)


def _counter(
    model: str, before: exposition.Samples | None, after: exposition.Samples | None
) -> runfile.RequestCounter | None:
    if before is None or after is None:
        return None
    first, last = (exposition.counter_total(samples, exposition.REQUESTS, model) for samples in (before, after))
    if last is None:
        return None
    first = first or 0.0  # a counter with labels is not exposed before the first request
    return runfile.RequestCounter(exposition.REQUESTS, first, last, last - first if last >= first else None)


def _histogram(delta: exposition.HistogramDelta) -> runfile.Histogram:
    buckets = [runfile.Bucket(None if math.isinf(edge) else edge, count) for edge, count in delta.buckets]
    return runfile.Histogram(
        delta.name, dict(delta.labels), delta.count, delta.total, delta.total / delta.count, buckets
    )


def _read_metrics(target: Target) -> exposition.Samples | None:
    text = read_text(target, f"{target.prefix}/metrics", _ASK_S)
    return None if text is None else exposition.parse_exposition(text)
