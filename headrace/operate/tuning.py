"""What runs a model and how it came to that, as operators see it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from typing import Any

import msgspec

from headrace.findings import Finding
from headrace.redis.inspection import Model, WorkerSeen
from shared.state.cards import Trial, Tuning
from shared.state.desired_state import Progress

ADOPTION_S = 120.0
"""Consumers that go over to another runtime or precision do so in turns; after so long none should be left behind."""

HEADER = ("MODEL", "RUNTIME", "PRECISION", "ROWS/S", "BATCH", "OUTCOME")


def trial_row(model: str, trial: Trial) -> tuple[str, ...]:
    """Return a row of the table of trials, below ``HEADER``."""
    rate = "-" if trial.rows_per_s is None else f"{trial.rows_per_s:.0f}"
    batch = "-" if trial.batch is None else str(trial.batch)
    return model, trial.runtime, trial.precision, rate, batch, trial.outcome


def colour(trial: Trial) -> str | None:
    """Return the colour of a trial's row: green for the one that was chosen."""
    return "green" if trial.outcome == "chosen." else None


def summary(model: Model) -> str | None:
    """Say in one line what runs a model and why; None where there was nothing to choose."""
    tuning, card = model.tuning, model.card
    if tuning is None:
        return None
    best = "" if model.preferred is None else f", best with {model.preferred} rows"
    runs = f"{card.get('runtime') or '-'} in {card.get('precision') or '-'}{best}"
    return f"{model.name} runs in {runs} ({tuning.state}): {tuning.reason} {tuning.batching}".rstrip()


def record(tuning: Tuning | None) -> Any:
    """Return what ``--json`` shows of it."""
    if tuning is None:
        return None
    trials = [msgspec.structs.asdict(trial) for trial in tuning.trials]
    return {**msgspec.structs.asdict(tuning), "trials": trials}


def judge(model: Model, live: Set[str]) -> Iterator[Finding]:
    """Say whether a model runs in what it should, and everywhere in the same.

    Args:
        live: names of the workers that are not silent.
    """
    name = f"model {model.name}"
    if live and model.tuning is not None and model.tuning.state == "refused":
        yield Finding(name, "warning", model.tuning.reason)
    workers = [worker for worker in model.workers if worker.name in live]
    for device in sorted({worker.fields.get("device", "") for worker in workers}):
        difference = _difference([worker for worker in workers if worker.fields.get("device", "") == device])
        if difference:
            yield Finding(name, "warning", f"Its consumers on {device} run differently: {difference}")


def _difference(workers: Sequence[WorkerSeen]) -> str:
    """Say how workers differ for longer than it takes to go over in turns; empty where they do not.

    Those of a version that does not say for how long it has run so are left out.
    """
    known = [
        (worker, age_s) for worker in workers if (age_s := _seconds(worker.fields.get("loaded_s", ""))) is not None
    ]
    runs: dict[tuple[str, str], list[str]] = {}
    for worker, _ in known:
        runs.setdefault((worker.fields.get("runtime", ""), worker.fields.get("precision", "")), []).append(worker.name)
    switches = {worker.fields.get("progress") for worker in workers} & {Progress.WAITING, Progress.SWITCHING}
    if len(runs) < 2 or switches or min(age_s for _, age_s in known) < ADOPTION_S:
        return ""
    told = "; ".join(
        f"{runtime or 'code of its own'} in {precision} by {', '.join(sorted(names))}"
        for (runtime, precision), names in sorted(runs.items())
    )
    return f"{told}. On machines of one kind they should not; the log of each says why."


def _seconds(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() and len(text) <= 12 else None
