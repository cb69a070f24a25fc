"""What `run`, `compare` and `gate` do once their options are read; see `__main__` for the options themselves."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import msgspec

from .budget_files import base_budgets_of, model_budget, payload_hashes, precision_setting, read_budgets, with_pairs
from .budgets import Budgets, GateSettings, ModelBudget
from .errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE, LoadgenError
from .gate import github, run_gate
from .gate.verdict import Verdict
from .reports import text
from .results import files
from .results.comparefile import CompareFile
from .results.runfile import RunFile
from .scenario import (
    JSON,
    MSGPACK,
    Scenario,
    Target,
    api_key,
    default_warmup_s,
    is_address,
    load_payloads,
    made_payloads,
    parse_target,
)
from .schedule import Arrivals
from .workloads.spec import Workload, make_workload

_FALLBACK_DURATION_S = 30.0
_TIMEOUT_S = 10.0
_CHAT_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Load:
    """The options that say what is sent. None: the budgets file's figure, if one is given, else the default."""

    model: str
    payloads: tuple[Path, ...] = ()
    content_type: str | None = None
    accept: str = "json"
    rate: float | None = None
    rate_end: float | None = None
    arrivals: Arrivals = "poisson"
    burstiness: float = 1.0
    concurrency: int | None = None
    requests: int | None = None
    duration_s: float | None = None
    warmup_s: float | None = None
    seed: int = 1
    timeout_s: float | None = None
    max_in_flight: int = 512
    connections: int | None = None
    key_env: str | None = None
    workload: Mapping[str, Any] = field(default_factory=dict)

    def scenario(self, target: Target, budget: ModelBudget | None, folder: Path) -> Scenario:
        """Return the scenario for a target.

        Args:
            budget: fills in what the options leave open.
            folder: where the budget's payload is.

        Raises:
            LoadgenError: usage, when something is missing or contradicts.
        """
        rate, payloads = self.rate, self.payloads
        if rate is None and self.concurrency is None and budget is not None:
            rate = budget.rate_per_s
        if not payloads and budget is not None:
            payloads = tuple(folder / path for path in budget.payloads)
        workload = self._workload(budget, target)
        if not payloads and workload is None:
            sentence = f"Say what to send: --payload FILE, or a budgets file with a payload for {self.model}."
            raise LoadgenError(sentence, EXIT_USAGE)
        duration_s = self.duration_s
        if duration_s is None:
            duration_s = _FALLBACK_DURATION_S if budget is None else budget.duration_s
        return Scenario(
            target=target,
            model=self.model,
            payloads=load_payloads(payloads, self.content_type)
            if workload is None
            else made_payloads(workload, self.model),
            duration_s=duration_s,
            warmup_s=default_warmup_s(duration_s) if self.warmup_s is None else self.warmup_s,
            seed=self.seed,
            rate_per_s=rate,
            arrivals=self.arrivals,
            burstiness=self.burstiness,
            rate_end_per_s=self.rate_end,
            concurrency=self.concurrency,
            requests=self.requests,
            max_in_flight=self.max_in_flight,
            connections=self.connections or self.max_in_flight,
            timeout_s=self.timeout_s or (_CHAT_TIMEOUT_S if workload and workload.kind == "chat" else _TIMEOUT_S),
            accept=MSGPACK if self.accept == "msgpack" else JSON,
            workload=workload,
        )

    def _workload(self, budget: ModelBudget | None, target: Target) -> Workload | None:
        """Return the workload: the budget's, with what the options change in it."""
        known = None if budget is None or self.payloads else budget.workload
        changes = dict(self.workload)
        if known is None and not changes:
            return None
        if self.payloads or self.content_type is not None:
            raise LoadgenError("Give --payload or --workload, not both.", EXIT_USAGE)
        if known is None and "kind" not in changes:
            raise LoadgenError("Say which --workload the options of its texts are for, chat or embed.", EXIT_USAGE)
        if known is not None and changes.get("kind", known.kind) == known.kind:
            changes = {**msgspec.to_builtins(known), **changes}
        elif self.seed != 1:
            changes["seed"] = self.seed
        if target.is_stream and changes.get("kind") == "chat":
            raise LoadgenError("A chat goes over HTTP: give the front end's --url http://HOST:PORT.", EXIT_USAGE)
        if target.is_stream:
            changes.setdefault("api", "native")
        return make_workload(changes)


def measure(
    load: Load,
    *,
    url: str | None,
    stack: Path | None,
    settings: Mapping[str, str],
    budgets_path: Path | None,
    metrics_urls: tuple[str, ...],
    out: Path,
) -> int:
    """Carry out `run` and return its exit code: 0, 1 when no request succeeded, 128 + signal when it was broken off.

    Raises:
        LoadgenError: nothing was measured, or the result could not be written.
    """
    from .comparing.stack import running_stack
    from .load.runner import perform
    from .progress import choose_progress

    path = files.prepare_folder(out)
    if (url is None) == (stack is None):
        raise LoadgenError(
            "Give exactly one of --url (a running service) and --stack (a checkout to start).", EXIT_USAGE
        )
    budget, folder = model_budget(budgets_path, load.model)
    key = None if url is None else api_key(os.environ, load.key_env)  # a stack that is started here asks for none
    target = parse_target(url or "http://127.0.0.1", key)
    scenario = load.scenario(target, budget, folder)  # refused before anything is started
    with ExitStack() as held:
        if stack is not None:
            click.echo(f"Starting the stack of {stack}; its output goes to {out / 'stack.log'}.", err=True)
            own = {**precision_setting(budget), **settings}
            started = held.enter_context(running_stack(stack, load.model, own, out / "stack.log", out / "notes"))
            target, metrics_urls = parse_target(started.url), (*started.metrics_urls, *metrics_urls)
            scenario = replace(scenario, target=target)
        further = [metrics_target(address, key) for address in metrics_urls]
        ours = (target.host, target.port, target.prefix)
        # An address that is given twice is still one process, whose requests count once.
        others = {(one.host, one.port, one.prefix): one for one in further}
        metrics = (target, *(one for place, one in others.items() if place != ours))
        run, stopped_by = perform(scenario, metrics, lambda: choose_progress(f"{load.model} at {target.shown}"))
        files.write_atomically(path, files.encode(run))
    click.echo(text.run_text(run, path))
    if stopped_by is not None:
        return broken_off(stopped_by)
    if not run.counts.ok:
        click.echo(f"loadgen: no request succeeded ({run_gate.failure_text(run)}).", err=True)
        return EXIT_FAILED
    return EXIT_OK


def compare(
    load: Load,
    *,
    sides: tuple[str, str],
    settings: tuple[Mapping[str, str], Mapping[str, str]],
    budgets_path: Path | None,
    pairs: int | None,
    window_s: float | None,
    shape: tuple[int | None, int | None],
    out: Path,
) -> int:
    """Carry out `compare` and return its exit code: 0, 1 when a side was lost, or 128 + signal when it was broken off.

    Raises:
        LoadgenError: nothing was measured, or the result could not be written.
    """
    from .comparing import comparing

    path = files.prepare_folder(out, "compare.json")
    for side in filter(is_address, sides):
        parse_target(side)  # refused before anything is started
    budget, folder = model_budget(budgets_path, load.model)
    rules = read_budgets(budgets_path).gate if budgets_path else GateSettings()
    if pairs is not None:
        rules = with_pairs(rules, pairs)
    filled = budget or ModelBudget(mean_ms=1.0)
    window_s = window_s or filled.window_s
    rate = load.rate or filled.window_rate_per_s
    planned = replace(load, rate=rate, duration_s=window_s, warmup_s=min(0.1 * window_s, 0.5))
    scenario = planned.scenario(parse_target("http://127.0.0.1"), budget, folder)
    if scenario.rate_per_s is None:
        raise LoadgenError("Say at which --rate to compare, or give a budgets file that states it.", EXIT_USAGE)
    requests, concurrency = (shape[0] or filled.offline_requests, shape[1] or filled.concurrency)
    own, key = precision_setting(budget), api_key(os.environ, load.key_env)
    base, candidate = (
        comparing.Source(side, more, key) if is_address(side) else comparing.Source(side, {**own, **more})
        for side, more in zip(sides, settings, strict=True)
    )
    found, code = comparing.compare(
        base, candidate, scenario, rules, (requests, concurrency), out, lambda line: click.echo(line, err=True)
    )
    files.write_atomically(path, files.encode(found))
    click.echo(text.compare_text(found, rules, path))
    return code


def judge_files(
    *,
    budgets_path: Path,
    run_path: Path,
    compare_path: Path | None,
    no_base: str | None,
    base_budgets_path: Path | None,
    expected_commit: str | None,
    report_folder: Path | None,
    on_github: bool,
    environment: Mapping[str, str],
) -> int:
    """Carry out `gate` and return its exit code.

    Args:
        no_base: why there is nothing to compare with, a sentence that becomes a warning.

    Raises:
        LoadgenError: usage, when the budgets cannot be read, or there is a comparison and a reason why there is none.
    """
    if compare_path is not None and no_base is not None:
        raise LoadgenError("Give --compare or --no-base, not both.", EXIT_USAGE)
    budgets = read_budgets(budgets_path)
    base_budgets = base_budgets_of(base_budgets_path)
    run = _read(run_path, RunFile)
    compared = None if compare_path is None else _read(compare_path, CompareFile)
    payload = payload_hashes(budgets, run, budgets_path.parent)
    verdict = run_gate.judge(budgets, run, compared, base_budgets, expected_commit, payload)
    if no_base is not None:
        verdict = replace(verdict, warnings=(*verdict.warnings, no_base))
    click.echo(text.verdict_text(verdict))
    measured = None if isinstance(run, str) else run
    summary_path = environment.get("GITHUB_STEP_SUMMARY")
    if on_github or summary_path:
        for line in github.annotation_lines(verdict):
            click.echo(line)
        github.append_summary(summary_path, text.verdict_markdown(verdict, measured))
    if report_folder is not None:
        _write_report(
            report_folder, verdict, budgets, measured, compared if isinstance(compared, CompareFile) else None
        )
    return verdict.exit_code


def _write_report(
    folder: Path, verdict: Verdict, budgets: Budgets, run: RunFile | None, compared: CompareFile | None
) -> None:
    """Write the report next to the verdict; a failure to write never changes the verdict."""
    from .reports.writing import Material, write_reports

    try:
        write_reports(folder, Material(verdict=verdict, budgets=budgets, run=run, compare=compared))
    except LoadgenError as error:
        click.echo(f"loadgen: {error}", err=True)


def check_scenario(wanted: str, load: Load) -> None:
    """Refuse options that make another scenario than the one asked for.

    Raises:
        LoadgenError: usage, with the options that this scenario needs.
    """
    needs = {
        "open": (load.concurrency is None and load.rate_end is None, "--rate"),
        "ramp": (load.rate is not None and load.rate_end is not None, "--rate and --rate-end"),
        "closed": (load.concurrency is not None and load.requests is None, "--concurrency"),
        "offline": (load.concurrency is not None and load.requests is not None, "--concurrency and --requests"),
    }
    fits, options = needs[wanted]
    if not fits:
        raise LoadgenError(f"--scenario {wanted} takes {options}, and not what the other scenarios take.", EXIT_USAGE)


def metrics_target(address: str, key: str | None) -> Target:
    """Return the target of a `/metrics` address, with or without that path."""
    return parse_target(address.rstrip("/").removesuffix("/metrics"), key)


def broken_off(number: int) -> int:
    """Return the exit code of a measurement that a signal cut short."""
    return 128 + number if number in (signal.SIGINT, signal.SIGTERM) else EXIT_FAILED


def _read(path: Path, kind: type[files.FileT]) -> files.FileT | str:
    try:
        return files.read(path, kind)
    except files.RunFileError as error:
        return str(error)
