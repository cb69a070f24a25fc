"""`headrace status`: what is served, by whom, and what waits [I/O]."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import click

from headrace.lanes.lane import BYTE_COLUMNS, byte_columns, byte_record
from headrace.output import print_json, print_table
from headrace.redis import inspection
from headrace.redis.inspection import Lane, Model, WorkerSeen
from headrace.table import printable
from shared.state.desired_state import LATE, RUNNING, SLOTS, TOKENS_PER_S, Serving
from shared.state.starts import Phase

from . import tuning

Rates = dict[tuple[str, str], tuple[float, float]]
"""Requests per second that came and that ended, by model and lane."""


def run(client: Any, interval_s: float, as_json: bool, shows_tuning: bool = False) -> int:
    """Carry out the command and return its exit code.

    Args:
        client: a Redis client that answers in bytes.
        interval_s: seconds between the two readings that rates come from; 0 omits the rates.
        shows_tuning: also what was tried for each model, and what came of it.
    """
    view = View(client, shows_tuning)
    if interval_s > 0:
        view.look()
        time.sleep(interval_s)
    after, found = view.look()
    if as_json:
        print_json(_document(after, found))
    else:
        view.print(after, found)
    return 0


class View:
    """Looks again and again; rates are those since the last look.

    Args:
        client: a Redis client that answers in bytes.
        shows_tuning: also what was tried for each model.
        as_json: :meth:`show` prints a line of JSON.
    """

    def __init__(self, client: Any, shows_tuning: bool, as_json: bool = False) -> None:
        self._client, self._shows_tuning, self._as_json = client, shows_tuning, as_json
        self._last: tuple[Sequence[Model], float] | None = None

    def look(self) -> tuple[Sequence[Model], Rates]:
        """Look once.

        Raises:
            shared.redis.RedisError: Redis does not answer.
        """
        after, now_s = inspection.models(self._client), time.monotonic()
        found = {} if self._last is None else rates(self._last[0], after, now_s - self._last[1])
        self._last = after, now_s
        return after, found

    def show(self) -> None:
        """Look once and print it.

        Raises:
            shared.redis.RedisError: Redis does not answer.
        """
        after, found = self.look()
        if self._as_json:
            click.echo(json.dumps(_document(after, found)))
        else:
            self.print(after, found)

    def print(self, after: Sequence[Model], found: Rates) -> None:
        """Print what a look has shown."""
        if not after:
            click.echo("headrace: no consumer has ever served a model here.")
            return
        _print_workers(after)
        for model in after:
            _print_sentences(model)
        if self._shows_tuning:
            click.echo()
            _print_trials(after)
        click.echo()
        _print_lanes(after, found)


def _document(after: Sequence[Model], found: Rates) -> dict[str, Any]:
    return {"models": [_record(model, found) for model in after]}


def _print_sentences(model: Model) -> None:
    for place, failure in model.failures.items():
        click.echo(f"{model.name} at {place}: {failure.sentence(model.looked_at_ms)} {failure.why}".rstrip())
    for one in model.starting:
        told = "is loading" if one.phase is Phase.LOADING else "cannot be loaded"
        click.echo(f"{model.name} {told}: {one.detail}")
    if (runs := tuning.summary(model)) is not None:
        click.echo(printable(runs))
    if (told_of_texts := generates(model)) is not None:
        click.echo(printable(told_of_texts))


class Generating(NamedTuple):
    """Sequences in an engine, how many it takes, and the tokens that it made per second lately."""

    running: int
    slots: int
    tokens_per_s: float


def generates(model: Model) -> str | None:
    """Return a sentence on what a model's workers generate; None where none of them generates. Pure."""
    found = [one for one in map(_generating, model.workers) if one is not None]
    if not found:
        return None
    running, slots = sum(one.running for one in found), sum(one.slots for one in found)
    waiting = sum(lane.depth - lane.running for lane in model.lanes)
    rate = sum(one.tokens_per_s for one in found)
    full = " All slots are taken." if waiting and running >= slots else ""
    return f"{model.name} generates in {running} of {slots} slots, {rate:.1f} tokens/s; {waiting} requests wait.{full}"


def _generating(worker: WorkerSeen) -> Generating | None:
    try:
        running, slots, rate = (float(worker.fields.get(name, "")) for name in (RUNNING, SLOTS, TOKENS_PER_S))
    except ValueError:  # it generates nothing, or is of an older version
        return None
    if not all(math.isfinite(one) and one >= 0 for one in (running, slots, rate)):
        return None
    return Generating(int(running), int(slots), rate)


def rates(before: Sequence[Model], after: Sequence[Model], interval_s: float) -> Rates:
    """Requests per second between two looks. Pure.

    What came is what Redis counted as added; what ended is that, less what the lane has grown by.
    """
    first = {(model.name, lane.name): lane for model in before for lane in model.lanes}
    found: Rates = {}
    for model in after:
        for lane in model.lanes:
            old = first.get((model.name, lane.name))
            if old is None or lane.added < old.added:  # the stream was recreated meanwhile
                continue
            came = lane.added - old.added
            ended = max(0, came - (lane.depth - old.depth))
            found[model.name, lane.name] = (came / interval_s, ended / interval_s)
    return found


def _record(model: Model, found: Rates) -> dict[str, Any]:
    return {
        "model": model.name,
        "silent_s": round(model.silent_s, 3),
        "serving": model.serving,
        **{name: model.card.get(name) for name in inspection.CARD_TEXTS},
        "preferred": model.preferred,
        "tuning": tuning.record(model.tuning),
        "workers": [
            {
                "worker": worker.name,
                "silent_s": round(worker.silent_s, 3),
                "runtime": worker.fields.get("runtime") or None,
                "precision": worker.fields.get("precision"),
                "preferred": worker.fields.get("preferred") or None,
                "loaded_s": worker.fields.get("loaded_s") or None,
                "device": worker.fields.get("device"),
                "serving": worker.fields.get("serving"),
                "late_s": worker.fields.get(LATE) or None,
                "generating": None if (texts := _generating(worker)) is None else texts._asdict(),
            }
            for worker in model.workers
        ],
        "failures": [
            {
                "consumer": place,
                "exit_code": failure.exit_code,
                "deaths": failure.deaths,
                "retry_s": round(max(0, failure.retry_at_ms - model.looked_at_ms) / 1000, 3),
                "why": failure.why,
            }
            for place, failure in model.failures.items()
        ],
        "starts": [
            {
                "worker": one.worker,
                "phase": one.phase,
                "for_s": round(one.for_s, 3),
                "silent_s": round(one.silent_s, 3),
                "detail": one.detail,
            }
            for one in model.starting
        ],
        "lanes": [_lane_record(model, lane, found) for lane in model.lanes],
    }


def _lane_record(model: Model, lane: Lane, found: Rates) -> dict[str, Any]:
    came, ended = found.get((model.name, lane.name), (None, None))
    return {
        "lane": lane.name,
        "limit": lane.limit,
        "weight": lane.weight,
        "kind": lane.kind,
        "paused": lane.is_paused,
        "depth": lane.depth,
        "waiting": lane.depth - lane.running,
        "running": lane.running,
        **byte_record(lane.bytes),
        "later_open": lane.later.open if lane.later else 0,
        "kept_bytes": lane.later.kept_bytes if lane.later else 0,
        "kept_limit_bytes": lane.later.limit_bytes if lane.later else None,
        "oldest_age_s": lane.oldest_age_s,
        "arriving_per_s": came,
        "ending_per_s": ended,
        "dead_letters": lane.dead_letters,
    }


def _print_workers(models: Sequence[Model]) -> None:
    rows: list[tuple[str, ...]] = []
    colours = []
    for model in models:
        if not (model.workers or model.failures or model.starting):
            rows.append((model.name, model.serving, "none", "-", "-", "-", "-", f"{model.silent_s:.0f} s ago"))
            colours.append("red")
        for worker in model.workers:
            runs = [worker.fields.get(name) or "-" for name in ("runtime", "precision", "preferred", "device")]
            rows.append((model.name, model.serving, worker.name, *runs, f"{worker.silent_s:.1f} s ago"))
            is_well = worker.fields and model.serving is Serving.OPEN
            colours.append("red" if worker.fields.get(LATE) else "green" if is_well else "yellow")
        for place, failure in model.failures.items():
            said = ("-", f"exit status {failure.exit_code}", "-", f"{failure.deaths} times")
            rows.append(
                (model.name, "failed", place, *said, f"{(model.looked_at_ms - failure.seen_ms) / 1000:.1f} s ago")
            )
            colours.append("red")
        for one in model.starting:
            if one.place in model.failures:
                continue  # its supervisor knows more
            says = f"loading for {one.for_s:.0f} s" if one.phase is Phase.LOADING else "cannot load"
            rows.append((model.name, says, one.worker, "-", "-", "-", "-", f"{one.silent_s:.1f} s ago"))
            colours.append("yellow" if one.phase is Phase.LOADING else "red")
    print_table(("MODEL", "SERVES", "WORKER", "RUNTIME", "PRECISION", "BATCH", "DEVICE", "SEEN"), rows, colours)


def _print_trials(models: Sequence[Model]) -> None:
    tried = [(model.name, trial) for model in models if model.tuning is not None for trial in model.tuning.trials]
    if not tried:
        click.echo("headrace: nothing has been tried for these models, or their consumers do not say.")
        return
    print_table(
        tuning.HEADER,
        [tuning.trial_row(name, trial) for name, trial in tried],
        [tuning.colour(trial) for _, trial in tried],
    )


def _print_lanes(models: Sequence[Model], found: Rates) -> None:
    header = (
        "MODEL",
        "LANE",
        "KIND",
        "DEPTH",
        "LIMIT",
        "WEIGHT",
        "WAITING",
        "RUNNING",
        *BYTE_COLUMNS,
        "OLDEST",
        "IN/S",
        "OUT/S",
        "DEAD",
    )
    rows, colours = [], []
    for model in models:
        for lane in model.lanes:
            rows.append(_lane_row(model, lane, found))
            colours.append(_colour(lane))
    print_table(header, rows, colours)
    for model in models:
        for lane in model.lanes:
            if lane.later is not None:
                kept, limit = (f"{size / (1 << 20):.1f}" for size in (lane.later.kept_bytes, lane.later.limit_bytes))
                told = f"{lane.later.open} later requests are open, kept results take {kept} of {limit} MiB"
                click.echo(f"{model.name}/{lane.name}: {told}.")


def _colour(lane: Lane) -> str | None:
    if not lane.has_group or (lane.limit is not None and lane.depth >= lane.limit):
        return "red"
    return "yellow" if lane.dead_letters else None


def _lane_row(model: Model, lane: Lane, found: Rates) -> tuple[str, ...]:
    rate = found.get((model.name, lane.name))
    return (
        model.name,
        lane.name,
        lane.kind,
        str(lane.depth),
        "-" if lane.limit is None else str(lane.limit),
        lane.weight_text,
        str(lane.depth - lane.running),
        str(lane.running),
        *byte_columns(lane.bytes),
        "-" if lane.oldest_age_s is None else f"{lane.oldest_age_s:.1f} s",
        "-" if rate is None else f"{rate[0]:.1f}",
        "-" if rate is None else f"{rate[1]:.1f}",
        str(lane.dead_letters),
    )
