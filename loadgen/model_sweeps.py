"""[I/O] `loadgen sweep --models`: the curves of several models, and one page that compares them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from .budget_files import model_budget, precision_setting
from .comparing.stack import running_stack
from .errors import EXIT_OK, EXIT_USAGE, LoadgenError, stop_code
from .load.payload_infos import payload_infos
from .reports import models_page
from .results import files
from .results.sweepfile import MODELS_FORMAT, VERSION, ModelsFile, ModelSweep
from .sweeping import Curve, curve_of

_LEAST, _MOST = 2, 4
_NOWHERE: Final = "http://127.0.0.1"


def carry_out(
    *,
    models: tuple[str, ...],
    url: str | None,
    stack: Path | None,
    settings: Mapping[str, str],
    cost_per_hour: float | None,
    out: Path,
    **options: Any,
) -> int:
    """Carry out `sweep --models` and return its exit code.

    With ``url`` all models are served there, and take turns from rate to rate. With ``stack`` each one has the machine
    to itself: its stack is started, swept and stopped.

    Raises:
        LoadgenError: usage, or a model of which nothing could be measured.
    """
    path = files.prepare_folder(out, "models.json")
    if not _LEAST <= len(models) <= _MOST:
        raise LoadgenError(f"--models compares {_LEAST} to {_MOST} models, not {len(models)}.", EXIT_USAGE)
    if (url is None) == (stack is None):
        raise LoadgenError("Give --url, where all models are served, or --stack, a checkout to start.", EXIT_USAGE)
    started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    for model in models:  # refused before anything is started
        curve_of(model, url or _NOWHERE, say=click.echo, **options)
    if stack is None:
        curves = [curve_of(model, url or "", say=_say(model, models), **options) for model in models]
        code = _in_turns(curves)
    else:
        curves, code = _alone(models, stack, settings, out, options)
    found = ModelsFile(
        format=MODELS_FORMAT,
        version=VERSION,
        started_at=started_at,
        partial=code != EXIT_OK,
        alone=stack is not None,
        cost_per_hour=cost_per_hour,
        models=[_swept(curve) for curve in curves if curve.points],
    )
    files.write_atomically(path, files.encode(found))
    click.echo(models_page.table(found))
    for written in (path, *models_page.write(out, found)):
        click.echo(f"written to {written}")
    return code


def _in_turns(curves: list[Curve]) -> int:
    """Measure a rate of each model, then the next of each, so that a busy minute of the machine meets them all."""
    going = list(curves)
    while going:
        going = [curve for curve in going if curve.step()]
        stopped = next((curve.code for curve in curves if curve.code != EXIT_OK), EXIT_OK)
        if stopped != EXIT_OK:
            return stopped
    return EXIT_OK


def _alone(
    models: tuple[str, ...], stack: Path, settings: Mapping[str, str], out: Path, options: Mapping[str, Any]
) -> tuple[list[Curve], int]:
    curves: list[Curve] = []
    given = {name: value for name, value in options.items() if name != "metrics_urls"}
    for model in models:
        log = out / f"{model}.log"
        click.echo(f"Starting a stack with {model}; its output goes to {log}.", err=True)
        budget, _ = model_budget(options["budgets_path"], model)
        try:
            with running_stack(stack, model, {**precision_setting(budget), **settings}, log) as running:
                urls = (*running.metrics_urls, *options["metrics_urls"])
                curve = curve_of(model, running.url, say=_say(model, models), metrics_urls=urls, **given)
                curves.append(curve)
                while curve.step():
                    pass
        except (LoadgenError, KeyboardInterrupt) as stop:  # the curves measured so far are worth keeping
            if not any(one.points for one in curves):
                raise
            if isinstance(stop, LoadgenError):
                click.echo(f"loadgen: {stop}", err=True)
            return curves, stop_code(stop)
        if curve.code != EXIT_OK:
            return curves, curve.code
    return curves, EXIT_OK


def _swept(curve: Curve) -> ModelSweep:
    return ModelSweep(curve.result(), payload_infos(curve.scenario))


def _say(model: str, models: tuple[str, ...]) -> Callable[[str], None]:
    width = max(map(len, models))
    return lambda line: click.echo(f"{model:{width}}  {line}")
