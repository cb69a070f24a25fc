"""Puts the state together that listeners see, from the catalogue, what Redis says, and what was counted. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from producer_api.queue.interface import Catalogue, ModelState
from shared.state import desired_state as names
from shared.state.lanes import MOST_BYTES

from .counts import Counts, Place, added, goodput, quantiles_ms
from .documents import CacheState, LaneLine, ModelDetail, ModelLine, RedisState, State, WorkerLine
from .health import health
from .seen import LaneSeen, ModelSeen, Seen, WorkerSeen

_SHARES: Final = (0.5, 0.95, 0.99)


class Recent:
    """What was counted lately.

    Args:
        parts: what each front end that is known has counted, and in how many seconds.
        others: per second, requests of each place that ended and that no front end has waited for.
        caches: how the result caches of models do that have one.
    """

    def __init__(
        self,
        parts: Sequence[tuple[float, Mapping[Place, Counts]]],
        others: Mapping[Place, float] | None = None,
        caches: Mapping[str, CacheState] | None = None,
    ) -> None:
        self._parts, self._others = [(span_s, counts) for span_s, counts in parts if span_s > 0], others or {}
        self.caches = caches or {}

    def figures(self, model: str) -> dict[str, Any]:
        """Return the members of :class:`documents.Figures` of a model."""
        total, ended, errors = Counts(), 0.0, 0.0
        for span_s, counts in self._parts:
            of_it = added(one for (name, _), one in counts.items() if name == model)
            total = added((total, of_it))
            ended += of_it.ended / span_s
            errors += of_it.errors / span_s
        p50, p95, p99 = quantiles_ms(total.waits, _SHARES)
        return {
            "rate": round(ended + sum(rate for (name, _), rate in self._others.items() if name == model), 3),
            "errors_rate": round(errors, 3),
            "p50_ms": p50,
            "p95_ms": p95,
            "p99_ms": p99,
            "goodput": _rounded(goodput(total), 4),
        }

    def rate(self, model: str, lane: str) -> float:
        """Return how many requests of a lane ended per second."""
        ended = sum(counts[model, lane].ended / span_s for span_s, counts in self._parts if (model, lane) in counts)
        return round(ended + self._others.get((model, lane), 0.0), 3)


def state(catalogue: Catalogue, seen: Seen, recent: Recent, chosen: str | None) -> State:
    """Put the state together.

    Args:
        chosen: the model to show in detail; None for none.
    """
    known = catalogue.models
    about = {name: _about(one, seen.models.get(name) or ModelSeen(), recent) for name, one in sorted(known.items())}
    lines = [ModelLine(**one, workers=_worker_count(seen, known[name])) for name, one in about.items()]
    detail = None
    if chosen is not None and chosen in known:
        of_it = seen.models.get(chosen) or ModelSeen()
        detail = ModelDetail(
            **about[chosen],
            workers=[_worker(one, seen.at_ms) for one in of_it.workers],
            lanes=_lanes(known[chosen], of_it, recent, seen.at_ms),
            cache=recent.caches.get(chosen),
        )
    is_ok = catalogue.redis_ok and not seen.is_away
    return State(
        at_ms=seen.at_ms,
        redis=RedisState(is_ok, seen.memory_used, seen.memory_limit),
        health=health(catalogue, seen, lines, detail),
        models=lines,
        model=detail,
    )


def _worker_count(seen: Seen, state: ModelState) -> int:
    return 0 if seen.is_away else state.workers


def _about(state: ModelState, seen: ModelSeen, recent: Recent) -> dict[str, Any]:
    workers = seen.workers
    return {
        "name": state.name,
        "version": state.card.version if state.card else None,
        "state": state.condition.value,
        "serving": state.serving.value,
        "ready": state.is_ready,
        "depth": state.queued,
        "batch": _rounded(mean([one.number(names.BATCH) for one in workers]), 2),
        "busy": _rounded(mean([one.number(names.BUSY) for one in workers]), 4),
        "dead": seen.dead,
        **recent.figures(state.name),
    }


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of what is known; None for nothing."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _worker(one: WorkerSeen, now_ms: int) -> WorkerLine:
    return WorkerLine(
        name=one.name,
        host=one.text(names.HOST),
        device=one.text("device"),
        runtime=one.text("runtime"),
        precision=one.text("precision"),
        version=one.text(names.VERSION),
        busy=one.number(names.BUSY),
        batch=one.number(names.BATCH),
        fixed_ms=one.number(names.FIXED_MS),
        per_row_ms=one.number(names.PER_ROW_MS),
        unit=one.text(names.UNIT),
        slots=one.whole(names.SLOTS),
        running=one.whole(names.RUNNING),
        tokens_per_s=one.number(names.TOKENS_PER_S),
        serving=one.text(names.SERVING),
        late_s=one.number(names.LATE),
        seen_ms=max(0, now_ms - one.at_ms),
    )


def _lanes(state: ModelState, seen: ModelSeen, recent: Recent, now_ms: int) -> list[LaneLine]:
    found, settings = [], seen.settings
    for name, limit in state.lanes.items():
        one, taken = seen.lanes.get(name) or LaneSeen(), state.bytes.get(name)
        depth = state.lengths.get(name, 0)
        found.append(
            LaneLine(
                name=name,
                kind="batch" if name in settings.batch else "ordinary",
                limit=limit,
                weight=settings.weights.get(name, 1.0),
                depth=depth,
                running=one.running,
                paused=name in settings.paused,
                rate=recent.rate(state.name, name),
                bytes=None if taken is None else taken.queued + taken.stored,
                bytes_limit=None if taken is None or taken.limit >= MOST_BYTES else taken.limit,
                dead=one.dead,
                oldest_s=None
                if one.oldest_ms is None or not depth
                else round(max(0.0, (now_ms - one.oldest_ms) / 1000), 3),
            )
        )
    return found
