"""[I/O] What the service says about itself before a run, and what its metrics say the run did to it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from loadgen.errors import LoadgenError
from loadgen.results import runfile
from loadgen.scenario import Target

from . import exposition
from .service import NotServed, UnknownModel, read_card, read_json, read_text

_ASK_S: Final = 5.0
_SETTLE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class ServiceBefore:
    """What the service said before the load. `metrics` is None where it exposes none; one entry per address."""

    card: dict[str, Any] | None
    version: dict[str, Any] | None
    metrics: tuple[exposition.Samples | None, ...]


def before(target: Target, model: str, metrics: tuple[Target, ...], is_openai: bool = False) -> ServiceBefore:
    """Ask for the model's card, the version and the metrics.

    Args:
        is_openai: whether the service need not have more than OpenAI's API.

    Raises:
        LoadgenError: the service cannot be reached or has no such model, or there are no metrics at a further address.
    """
    try:
        card = _read_card(target, model)
    except UnknownModel as error:
        if not is_openai or error.served:
            raise
        card = None  # a server without a list of its models
    readings = tuple(_read_metrics(address) for address in metrics)
    for address, reading in zip(metrics[1:], readings[1:], strict=True):
        if reading is None:
            raise LoadgenError(f"Cannot read {address.shown}/metrics.")
    return ServiceBefore(
        card=card,
        version=None if target.is_stream else read_json(target, "/version", _ASK_S),
        metrics=readings,
    )


def after(
    first: ServiceBefore, target: Target, model: str, metrics: tuple[Target, ...], answered: int
) -> runfile.Service:
    """Ask for the metrics and the card again and return what the service has to say; null where it says nothing.

    Args:
        answered: how many answers the generator has had. The counter is read for up to a second until it says as many,
            since the last answers may have left the front end a moment before it counted them.
    """
    settled_s = time.monotonic() + _SETTLE_S
    while True:
        last = tuple(_read_metrics(address) for address in metrics)
        counter, items = _requests(model, first.metrics, last), _items(model, first.metrics, last)
        behind = [found for found in (counter, items) if found is not None and (found.delta or 0) < answered]
        if not behind or time.monotonic() >= settled_s:
            break
        time.sleep(0.05)
    histograms = [
        _histogram(delta)
        for samples, later in zip(first.metrics, last, strict=True)
        if samples is not None and later is not None
        for delta in exposition.histogram_deltas(samples, later)
    ]
    measured = any(samples is not None for samples in last)
    workers = _workers(target, model)
    return runfile.Service(first.version, first.card, workers, counter, items, histograms if measured else None)


def _read_card(target: Target, model: str) -> dict[str, Any] | None:
    if not target.is_stream:
        try:
            return read_card(target, model, _ASK_S)
        except NotServed:
            return None
    from .stream_carrier import read_stream_card  # it needs a library that `wait` does without

    card = read_stream_card(target, model, _ASK_S)
    if card is None:
        raise LoadgenError(f"{target.shown} has no model named {model!r}: no consumer has ever served it there.")
    return card


def _workers(target: Target, model: str) -> int | None:
    """Return how many workers live, or None when the service does not say or is gone."""
    try:
        workers = (_read_card(target, model) or {}).get("workers")
    except LoadgenError:
        return None
    return workers if isinstance(workers, int) and not isinstance(workers, bool) and workers >= 0 else None


_Readings = tuple[exposition.Samples | None, ...]


def _requests(model: str, before: _Readings, after: _Readings) -> runfile.RequestCounter | None:
    """Return the counters of all front ends as one; several of one port count each for itself."""
    pairs = zip(before, after, strict=True)
    return _together(exposition.REQUESTS, [_counter(exposition.REQUESTS, model, *pair) for pair in pairs])


def _items(model: str, before: _Readings, after: _Readings) -> runfile.RequestCounter | None:
    """Return the consumers' counters as one; its delta is null as soon as one of them went backwards or vanished."""
    pairs = list(zip(before, after, strict=True))
    # The first address is the front end's. Of the others a consumer without a request so far shows no counter yet.
    lost = any(first is not None and last is None for first, last in pairs[1:])
    return _together(exposition.ITEMS, [_counter(exposition.ITEMS, model, *pair) for pair in pairs], lost)


def _together(
    name: str, counters: Iterable[runfile.RequestCounter | None], lost: bool = False
) -> runfile.RequestCounter | None:
    """Return counters as one; it has no delta when one of them has none, or when one is ``lost``."""
    found = [counter for counter in counters if counter is not None]
    if not found and not lost:
        return None
    known = [counter.delta for counter in found if counter.delta is not None]
    return runfile.RequestCounter(
        name,
        sum(counter.before for counter in found),
        sum(counter.after for counter in found),
        sum(known) if len(known) == len(found) and not lost else None,
    )


def _counter(
    name: str, model: str, before: exposition.Samples | None, after: exposition.Samples | None
) -> runfile.RequestCounter | None:
    """Return what a counter did; None where it was never known. One that was there and is gone has no delta."""
    first, last = (
        None if samples is None else exposition.counter_total(samples, name, model) for samples in (before, after)
    )
    if last is None:
        return None if first is None else runfile.RequestCounter(name, first, first, None)
    if before is None:
        return None
    first = first or 0.0  # a counter with labels is not exposed before the first request
    return runfile.RequestCounter(name, first, last, last - first if last >= first else None)


def _histogram(delta: exposition.HistogramDelta) -> runfile.Histogram:
    buckets = [runfile.Bucket(None if math.isinf(edge) else edge, count) for edge, count in delta.buckets]
    return runfile.Histogram(
        delta.name, dict(delta.labels), delta.count, delta.total, delta.total / delta.count, buckets
    )


def _read_metrics(target: Target) -> exposition.Samples | None:
    text = None if target.is_stream else read_text(target, f"{target.prefix}/metrics", _ASK_S)
    return None if text is None else exposition.parse_exposition(text)
