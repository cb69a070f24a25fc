"""What `run` and `gate` do once their options are read; see `__main__` for the options themselves."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from . import gate, report, results
from .budgets import parse_budgets
from .errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE, LoadgenError
from .progress import choose_progress
from .runfile import RunFile
from .scenario import Scenario, Target, default_warmup_s, load_payloads, parse_target
from .schedule import Arrivals


def measure(
    *,
    url: str,
    model: str,
    payloads: tuple[Path, ...],
    content_type: str | None,
    rate: float | None,
    arrivals: Arrivals,
    concurrency: int | None,
    duration_s: float,
    warmup_s: float | None,
    seed: int,
    timeout_s: float,
    max_in_flight: int,
    connections: int | None,
    metrics_urls: tuple[str, ...],
    out: Path,
) -> int:
    """Carry out `run` and return its exit code: 0, 1 when no request succeeded, 128 + signal when it was broken off.

    Raises:
        LoadgenError: nothing was measured, or the result could not be written.
    """
    from .runner import perform

    path = results.prepare_folder(out)
    target = parse_target(url)
    scenario = Scenario(
        target=target,
        model=model,
        payloads=load_payloads(payloads, content_type),
        duration_s=duration_s,
        warmup_s=default_warmup_s(duration_s) if warmup_s is None else warmup_s,
        seed=seed,
        rate_per_s=rate,
        arrivals=arrivals,
        concurrency=concurrency,
        max_in_flight=max_in_flight,
        connections=connections or max_in_flight,
        timeout_s=timeout_s,
    )
    metrics = (target, *(_metrics_target(address) for address in metrics_urls))
    run, stopped_by = perform(scenario, metrics, lambda: choose_progress(f"{model} at {url}"))
    results.write_atomically(path, results.encode_run(run))
    click.echo(report.run_text(run, path))
    if stopped_by is not None:
        return 128 + stopped_by if stopped_by in (signal.SIGINT, signal.SIGTERM) else EXIT_FAILED
    if not run.counts.ok:
        click.echo(f"loadgen: no request succeeded ({gate.failure_text(run)}).", err=True)
        return EXIT_FAILED
    return EXIT_OK


def judge_file(budgets_path: Path, run_path: Path, github: bool, environment: Mapping[str, str]) -> int:
    """Carry out `gate` and return its exit code.

    Raises:
        LoadgenError: usage, when the budgets cannot be read.
    """
    try:
        text = budgets_path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LoadgenError(f"Cannot read {budgets_path}: {error}.", EXIT_USAGE) from error
    budgets = parse_budgets(text, str(budgets_path))
    run: RunFile | None = None
    try:
        run = results.read_run(run_path)
        verdict = gate.judge(budgets, run)
    except results.RunFileError as error:
        verdict = gate.unusable(str(error))
    click.echo(report.verdict_text(verdict))
    summary_path = environment.get("GITHUB_STEP_SUMMARY")
    if github or summary_path:
        for line in report.error_annotations(verdict):
            click.echo(line)
        _append_summary(summary_path, report.verdict_markdown(verdict, run))
    return verdict.exit_code


def _append_summary(path: str | None, markdown: str) -> None:
    """Append to the job's summary; a summary that cannot be written never changes the verdict."""
    if not path:
        click.echo("loadgen: GITHUB_STEP_SUMMARY is not set, so no summary was written.", err=True)
        return
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(markdown)
    except OSError as error:
        print(f"loadgen: cannot write the summary to {path}: {error.strerror}.", file=sys.stderr)


def _metrics_target(address: str) -> Target:
    return parse_target(address.rstrip("/").removesuffix("/metrics"))
