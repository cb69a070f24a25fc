"""Puts the state together that listeners see, from the catalogue, what Redis says, and what was counted. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from producer_api.queue.interface import Catalogue, ModelState
from shared.state import desired_state as names
from shared.state.lanes import MOST_BYTES

from .counts import Counts, Place, added, goodput, quantiles_ms
from .documents import LaneLine, ModelDetail, ModelLine, RedisState, State, WorkerLine
from .health import health
from .seen import LaneSeen, ModelSeen, Seen, WorkerSeen

_SHARES: Final = (0.5, 0.95, 0.99)


class Recent:
    """What was counted lately.

    Args:
        counts: what was added in the seconds of each place, by all front ends that are known.
        span_s: in how many seconds.
        others: per second, requests of each place that ended and went through no front end.
    """

    def __init__(
        self, counts: Mapping[Place, Counts], span_s: float, others: Mapping[Place, float] | None = None
    ) -> None:
        self._span_s, self._others = span_s, others or {}
        self._of_model: dict[str, list[Counts]] = {}
        self._of_place = counts
        for (model, _), one in counts.items():
            self._of_model.setdefault(model, []).append(one)

    def figures(self, model: str) -> dict[str, Any]:
        """Return the members of :class:`documents.Figures` of a model."""
        total = added(self._of_model.get(model, ()))
        p50, p95, p99 = quantiles_ms(total.waits, _SHARES)
        return {
            "rate": self._per_s(total.ended) + sum(v for (name, _), v in self._others.items() if name == model),
            "errors_rate": self._per_s(total.errors),
            "p50_ms": p50,
            "p95_ms": p95,
            "p99_ms": p99,
            "goodput": _rounded(goodput(total), 4),
        }

    def rate(self, model: str, lane: str) -> float:
        """Return how many requests of a lane ended per second."""
        ended = self._of_place.get((model, lane))
        return self._per_s(ended.ended if ended else 0) + self._others.get((model, lane), 0.0)

    def _per_s(self, count: float) -> float:
        return round(count / self._span_s, 3) if self._span_s > 0 else 0.0


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
