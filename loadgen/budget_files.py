"""[I/O] Reading what the budgets say of a model, its payloads and its precision."""

from __future__ import annotations

from pathlib import Path

import msgspec

from .budgets import Budgets, GateSettings, ModelBudget, parse_budgets
from .errors import EXIT_USAGE, LoadgenError
from .gate.terms import Hashes
from .load.payload_infos import workload_hash
from .results.runfile import RunFile
from .scenario import load_payloads, made_payloads


def read_budgets(path: Path) -> Budgets:
    """Read a budgets file.

    Raises:
        LoadgenError: usage, with one sentence.
    """
    try:
        found = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LoadgenError(f"Cannot read {path}: {error}.", EXIT_USAGE) from error
    return parse_budgets(found, str(path))


def base_budgets_of(path: Path | None) -> Budgets | str | None:
    """Return the merge base's budgets, or the sentence that says why they cannot be read; None when it has none."""
    if path is None:
        return None
    try:
        return read_budgets(path)
    except LoadgenError as error:
        return str(error)


def model_budget(path: Path | None, model: str) -> tuple[ModelBudget | None, Path]:
    """Return what a budgets file says on a model, and the folder its payload is seen from."""
    if path is None:
        return None, Path()
    return read_budgets(path).models.get(model), path.parent


def payload_hashes(budgets: Budgets, run: RunFile | str, folder: Path) -> Hashes:
    """Return the hash of each file that the budgets name as payload of a run's model, or why they cannot be read.

    Args:
        folder: where those files are.
    """
    budget = None if isinstance(run, str) else budgets.models.get(run.configuration.model)
    if budget is not None and budget.workload is not None and isinstance(run, RunFile):
        return (workload_hash(made_payloads(budget.workload, run.configuration.model)),)
    if budget is None or not budget.payloads:
        return None
    try:
        return tuple(file.sha256 for file in load_payloads(tuple(folder / path for path in budget.payloads)))
    except LoadgenError as error:
        return str(error)


def precision_setting(budget: ModelBudget | None) -> dict[str, str]:
    """Return the setting that makes a stack serve the precision which the budgets hold for."""
    return {"HEADRACE_PRECISION": budget.precision} if budget is not None and budget.precision else {}


def with_pairs(rules: GateSettings, pairs: int) -> GateSettings:
    """Return the rules with another number of pairs.

    Raises:
        LoadgenError: usage, when so many are too few or too many.
    """
    try:
        changed = {**msgspec.to_builtins(rules), "pairs": pairs, "most_pairs": max(pairs, rules.most_pairs)}
        return msgspec.convert(changed, GateSettings)
    except msgspec.ValidationError as error:
        raise LoadgenError(f"--pairs cannot be {pairs}: {error}.", EXIT_USAGE) from error
