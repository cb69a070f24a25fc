"""Is the queue healthy, and what is to be done if not? Judged from what the feed shows anyway. Pure.

``headrace doctor`` looks deeper, and once; this is what can be told every two seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from producer_api.queue.interface import Catalogue, Condition, ModelState
from shared.modules import COMMAND
from shared.state.desired_state import LATE, Serving

from .documents import Health, Level, ModelDetail, ModelLine, Reason
from .seen import ModelSeen, Seen

MOST_REASONS: Final = 20
FULL_SHARE: Final = 0.95
NEARLY_FULL_SHARE: Final = 0.8
MANY_ERRORS: Final = 0.1
SOME_ERRORS: Final = 0.01
FEWEST_PER_S: Final = 0.5
"""Rarer errors are told by the figures alone."""

UNCLAIMED_S: Final = 10.0
"""For so long a live worker leaves no request unclaimed unless something is wrong."""

_ORDER: Final = {Level.BAD: 0, Level.WARN: 1, Level.OK: 2}


def health(catalogue: Catalogue, seen: Seen, lines: Sequence[ModelLine], chosen: ModelDetail | None) -> Health:
    """Judge everything.

    Args:
        lines: what is shown of each model.
        chosen: what is shown of the chosen model in detail.
    """
    if seen.is_away or not catalogue.redis_ok:
        do = "Start it, or look at its log and at HEADRACE_REDIS_URL. The front end goes on by itself once it answers."
        return Health(Level.BAD, [Reason(Level.BAD, "Redis does not answer, so no request is taken.", do)])
    found = [*_memory(seen), *_models(catalogue, lines)]
    for line in lines:
        found += _model(catalogue.models[line.name], line, seen.models.get(line.name) or ModelSeen())
    if chosen is not None:
        found += _unclaimed(chosen)
    found.sort(key=lambda reason: _ORDER[reason.level])
    if len(found) > MOST_REASONS:
        rest = Reason(found[MOST_REASONS].level, f"{len(found) - MOST_REASONS} more.", f"See `{COMMAND} doctor`.")
        found = [*found[:MOST_REASONS], rest]
    return Health(found[0].level if found else Level.OK, found)


def _memory(seen: Seen) -> Iterator[Reason]:
    used, limit = seen.memory_used, seen.memory_limit
    if seen.evicts:
        do = "Set its maxmemory-policy to noeviction."
        yield Reason(Level.BAD, "Redis evicts keys when its memory is full, so requests may vanish.", do)
    if used is None or limit is None or used < NEARLY_FULL_SHARE * limit:
        return
    what = f"Redis uses {used >> 20} of {limit >> 20} MB"
    do = "Raise its maxmemory (HEADRACE_MAXMEMORY_MB), send less at a time, or have results kept for less long."
    if used > FULL_SHARE * limit:
        yield Reason(Level.BAD, f"{what}: new requests are refused.", do)
    else:
        yield Reason(Level.WARN, f"{what}.", do)


def _models(catalogue: Catalogue, lines: Sequence[ModelLine]) -> Iterator[Reason]:
    start = f"Start a consumer: `{COMMAND} up`, or one by itself with `--model NAME`."
    if not lines:
        yield Reason(Level.WARN, "No model has been served yet.", start)
    elif all(catalogue.models[line.name].condition is Condition.AWAY for line in lines):
        yield Reason(Level.BAD, "No model has a live worker.", start)


def _model(state: ModelState, line: ModelLine, seen: ModelSeen) -> Iterator[Reason]:
    name = line.name
    yield from _condition(state, line)
    if len(state.versions) > 1:
        what = f"Workers of {name} serve versions {', '.join(state.versions)} at once."
        yield Reason(Level.WARN, what, "End those of one version, or give it a name of its own.")
    for worker in seen.workers if state.is_ready else ():
        if late_s := worker.number(LATE):
            what = f"{worker.name} takes requests for {name} and has answered none for {late_s:.0f} s."
            do = "Its log says why; end its process, and another worker takes its requests over."
            yield Reason(Level.WARN, what, do)
    yield from _lanes(state, seen)
    if line.dead:
        do = f"Look at them: `{COMMAND} dlq list {name}`; then requeue or drop them."
        yield Reason(Level.WARN, f"{name} has {line.dead} dead letters.", do)
    if line.errors_rate >= FEWEST_PER_S and line.errors_rate > SOME_ERRORS * line.rate:
        share = min(1.0, line.errors_rate / line.rate)
        level = Level.BAD if share > MANY_ERRORS else Level.WARN
        do = "headrace_requests_total says with which outcomes, and the logs of its workers why."
        yield Reason(level, f"{100 * share:.0f}% of the requests for {name} fail or are refused.", do)


def _condition(state: ModelState, line: ModelLine) -> Iterator[Reason]:
    name, waits = line.name, f"{line.depth} requests wait" if line.depth != 1 else "1 request waits"
    condition = state.condition
    if condition is Condition.FAILED:
        why = min(state.failures.values())
        yield Reason(Level.BAD, f"{name} has failed. {why}", "The log of its consumer says why.")
    elif condition is Condition.SILENT:
        do = "The logs of its workers say why; end their processes, and others take the requests over."
        yield Reason(Level.BAD, f"The workers of {name} take requests and answer none.", do)
    elif condition is Condition.LOADING:
        left = f", probably for {state.ready_in_s} s more" if state.ready_in_s else ""
        yield Reason(Level.WARN, f"{name} is loading{left}.", "Wait; the log of its consumer says how far it is.")
    elif condition is Condition.AWAY and line.depth:
        do = f"Start a consumer: `{COMMAND} up`, or one by itself with `--model {name}`."
        yield Reason(Level.BAD, f"{name} has no live worker, and {waits}.", do)
    if state.serving is Serving.PAUSED and line.depth:
        yield Reason(Level.WARN, f"{name} is paused, and {waits}.", f"`{COMMAND} resume {name}` ends the pause.")
    if state.serving is Serving.DRAINING:
        what = f"{name} is being drained: new requests are refused."
        yield Reason(Level.WARN, what, f"`{COMMAND} resume {name}` ends the drain.")


def _lanes(state: ModelState, seen: ModelSeen) -> Iterator[Reason]:
    for lane, limit in state.lanes.items():
        depth = state.lengths.get(lane, 0)
        if lane in seen.settings.paused and depth:
            do = f"`{COMMAND} lane resume {state.name} {lane}` ends the pause."
            yield Reason(Level.WARN, f"Lane {lane} of {state.name} is paused, and {depth} requests wait.", do)
        elif limit is not None and depth >= limit:
            what = f"Lane {lane} of {state.name} is full: {depth} requests, and new ones get 429."
            do = f"Add consumers, or raise the limit: `{COMMAND} lane set {state.name} {lane} --limit N`."
            yield Reason(Level.WARN, what, do)


def _unclaimed(chosen: ModelDetail) -> Iterator[Reason]:
    """Find lanes in which requests wait that a live worker should have claimed long ago."""
    serves = bool(chosen.workers) and chosen.serving == Serving.OPEN
    for lane in chosen.lanes if serves else ():
        old = lane.oldest_s is not None and lane.oldest_s > UNCLAIMED_S
        if lane.depth and lane.running == 0 and old and not lane.paused and lane.kind != "batch":
            what = f"No worker claims the {lane.depth} requests in lane {lane.name} of {chosen.name}."
            do = f"`{COMMAND} doctor` looks at lane and workers; the logs of the workers say what they do."
            yield Reason(Level.BAD, what, do)
