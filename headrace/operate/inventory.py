"""`headrace models` and `headrace workers`: one line for each [I/O]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from headrace.asking.front_end import no_such_model
from headrace.exit_codes import EXIT_DONE, EXIT_USAGE
from headrace.output import print_json, print_table
from headrace.redis import inspection
from headrace.redis.access import end
from headrace.redis.inspection import Model, WorkerSeen
from shared.state.desired_state import LATE, Serving
from shared.state.starts import Phase

_COLOURS = {"ready": "green", "loading": "yellow", "paused": "yellow", "draining": "yellow", "switching": "yellow"}


def show_models(client: Any, as_json: bool) -> int:
    """List the models that have ever been served; returns the exit code."""
    found = inspection.models(client)
    if as_json:
        print_json({"models": [_model_record(model) for model in found]})
        return EXIT_DONE
    rows = [
        (
            model.name,
            state_of(model),
            str(len(model.workers)),
            *(_of_workers(model, name) for name in ("runtime", "precision", "device")),
            model.card.get("family", "-"),
            model.card.get("version", "-"),
        )
        for model in found
    ]
    header = ("MODEL", "STATE", "WORKERS", "RUNTIME", "PRECISION", "DEVICE", "FAMILY", "VERSION")
    _table(
        header, rows, [_COLOURS.get(state_of(model), "red") for model in found], "no consumer has ever served a model"
    )
    return EXIT_DONE


def show_workers(client: Any, model: str | None, as_json: bool) -> int:
    """List the live workers of all models, or of one; returns the exit code."""
    found = inspection.models(client)
    if model is not None:
        if all(one.name != model for one in found):
            end(no_such_model(model, [one.name for one in found]), EXIT_USAGE)
        found = [one for one in found if one.name == model]
    pairs = [(one, worker) for one in found for worker in one.workers]
    if as_json:
        print_json({"workers": [_worker_record(one, worker) for one, worker in pairs]})
        return EXIT_DONE
    rows = [
        (
            one.name,
            worker.name,
            worker_state(worker),
            *(worker.fields.get(name) or "-" for name in ("runtime", "precision", "preferred", "device", "pid")),
            f"{worker.silent_s:.1f} s ago",
        )
        for one, worker in pairs
    ]
    header = ("MODEL", "WORKER", "STATE", "RUNTIME", "PRECISION", "BATCH", "DEVICE", "PID", "SEEN")
    _table(header, rows, [_COLOURS.get(worker_state(worker), "red") for _, worker in pairs], "no worker lives")
    return EXIT_DONE


def state_of(model: Model) -> str:
    """Say in a word what a model does with requests. Pure.

    ``paused`` and ``draining`` are what an operator asked for; without a live worker a model is ``loading`` while one
    is on its way, ``failed`` where its consumers die or cannot load it, else ``away``.
    """
    if model.workers:
        return "ready" if model.serving is Serving.OPEN else str(model.serving)
    if any(one.phase is Phase.LOADING for one in model.starting):
        return "loading"
    return "failed" if model.failures or model.starting else "away"


def worker_state(worker: WorkerSeen) -> str:
    """Say in a word what a worker does. Pure."""
    if not worker.fields:
        return "silent"
    if worker.fields.get(LATE):
        return "stuck"
    if worker.fields.get("progress") == "switching":
        return "switching"
    return "paused" if worker.fields.get("serving") == Serving.PAUSED else "ready"


def _of_workers(model: Model, name: str) -> str:
    """Return what all live workers say, each once; what the card says while there is none."""
    said = sorted({worker.fields[name] for worker in model.workers if worker.fields.get(name)})
    return ", ".join(said) or (model.card.get(name) or "-")


def _model_record(model: Model) -> dict[str, Any]:
    return {
        "model": model.name,
        "state": state_of(model),
        "workers": len(model.workers),
        **{name: model.card.get(name) for name in inspection.CARD_TEXTS},
    }


def _worker_record(model: Model, worker: WorkerSeen) -> dict[str, Any]:
    texts = {name: worker.fields.get(name) or None for name in ("runtime", "precision", "device", "version", "pid")}
    return {
        "model": model.name,
        "worker": worker.name,
        "state": worker_state(worker),
        **texts,
        "silent_s": round(worker.silent_s, 3),
    }


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], colours: Sequence[str | None], nothing: str) -> None:
    if rows:
        print_table(header, rows, colours)
    else:
        click.echo(f"headrace: {nothing} here.")
