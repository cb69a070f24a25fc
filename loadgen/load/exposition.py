"""Reads the Prometheus text a service exposes, and what changed between two readings. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

Labels = tuple[tuple[str, str], ...]
Samples = Mapping[tuple[str, Labels], float]

REQUESTS: Final = "headrace_requests_total"
"""The front end's counter of finished requests; samples of other models and of other routes are left out."""
ITEMS: Final = "headrace_items_total"
"""A consumer's counter of requests it has ended."""

_SAMPLE = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})?\s+(?P<value>\S+)(?:\s+-?\d+)?\s*")
_LABEL = re.compile(r'(?P<name>[a-zA-Z_]\w*)="(?P<value>(?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class HistogramDelta:
    """What one series of a histogram counted between two readings. `buckets` are (upper edge, cumulative count)."""

    name: str
    labels: Labels
    count: float
    total: float
    buckets: tuple[tuple[float, float], ...]


def parse_exposition(text: str) -> Samples:
    """Return every sample's value by name and sorted labels; lines without a finite value are passed over."""
    samples: dict[tuple[str, Labels], float] = {}
    for line in text.splitlines():
        match = None if line.startswith("#") else _SAMPLE.fullmatch(line)
        if match is None:
            continue
        labels = tuple(
            sorted((label["name"], _unescape(label["value"])) for label in _LABEL.finditer(match["labels"] or ""))
        )
        try:
            value = float(match["value"])
        except ValueError:
            continue
        if math.isfinite(value):
            samples[match["name"], labels] = value
    return samples


def counter_total(samples: Samples, name: str, model: str) -> float | None:
    """Return the sum of a counter's samples for this model, or None when it is not exposed.

    Samples without a `model` label count for every model.
    """
    found = [
        value
        for (sample, labels), value in samples.items()
        if sample == name and dict(labels).get("model", model) == model
    ]
    if found:
        return sum(found)
    # Exposed for other models only: this one has had no request yet. Not exposed at all: unknown.
    return 0.0 if any(sample == name for sample, _ in samples) else None


def histogram_deltas(before: Samples, after: Samples) -> list[HistogramDelta]:
    """Return, for every histogram series that counted something in between, what it counted.

    A series that went backwards belongs to a process that was restarted; it is left out.
    """
    edges: dict[tuple[str, Labels], dict[float, float]] = {}
    for key, cumulative in after.items():
        edge = _edge(*key)
        if edge is not None:
            series = key[0].removesuffix("_bucket"), tuple(label for label in key[1] if label[0] != "le")
            edges.setdefault(series, {})[edge] = cumulative - before.get(key, 0.0)
    deltas = []
    for (name, labels), counts in sorted(edges.items()):
        counted, sums = (f"{name}_count", labels), (f"{name}_sum", labels)
        count = after.get(counted, 0.0) - before.get(counted, 0.0)
        if count > 0 and math.inf in counts:
            total = after.get(sums, 0.0) - before.get(sums, 0.0)
            deltas.append(HistogramDelta(name, labels, count, total, tuple(sorted(counts.items()))))
    return deltas


def _edge(name: str, labels: Labels) -> float | None:
    """Return the upper edge of the bucket that a sample is of; None when it is of none."""
    text = dict(labels).get("le") if name.endswith("_bucket") else None
    try:
        edge = None if text is None else float(text)
    except ValueError:
        return None
    return None if edge is not None and (math.isnan(edge) or edge == -math.inf) else edge


def _unescape(value: str) -> str:
    return _ESCAPED.sub(lambda match: "\n" if match[1] == "n" else match[1], value)
