"""Runs, comparisons and verdicts for people: text for the terminal, Markdown for a step summary. Pure."""

from __future__ import annotations

from pathlib import Path

from loadgen.budgets import GateSettings
from loadgen.comparing import regression
from loadgen.gate.run_gate import failure_text
from loadgen.gate.verdict import Check, Verdict, number, percent
from loadgen.results.comparefile import CompareFile
from loadgen.results.runfile import RunFile
from loadgen.results.sweepfile import SweepFile

from .token_text import figures as figures
from .token_text import milliseconds, token_cells, token_columns, token_rows

_MARKS = {"pass": "✅", "wrong answers": "❌", "over budget": "❌", "regression": "❌", "invalid": "⚠️"}
_MOST_SUMMARY_CHARACTERS = 200_000


def run_text(run: RunFile, path: Path) -> str:
    """Sum a run up in a few lines."""
    counts, validity = run.counts, run.validity
    lines = [
        f"{run.configuration.model}: {counts.ok} of {counts.scheduled} requests answered, "
        f"{number(validity.achieved_rate_per_s, '/s')} sent" + (" (broken off)" if run.partial else ""),
        f"  latency     {figures(run.latency.from_planned)}",
        f"  from sent   {figures(run.latency.from_sent)}",
        f"  lag         {_lag(run)}",
    ]
    if counts.ok != counts.scheduled:
        lines.append(f"  failed      {failure_text(run)}")
        lines.append(f"  answered    {figures(run.latency.answered_from_planned)}")
    rows = [*token_rows(run.tokens), *service_figures(run)]
    width = max((len(label) for label, _ in token_rows(run.tokens)), default=11)
    lines += [f"  {label:{width}} {value}" for label, value in rows]
    return "\n".join([*lines, f"  written to {path}"])


def _lag(run: RunFile) -> str:
    validity = run.validity
    share = number(None if validity.generator_cpu_share is None else validity.generator_cpu_share * 100, "%")
    pacing, sending = number(validity.pacing_lag.p99_ms, " ms"), number(validity.send_lag.p99_ms, " ms")
    return f"p99 {pacing} pacing, {sending} until sent; the generator used {share} of a core"


def service_figures(run: RunFile) -> list[tuple[str, str]]:
    """Return the mean batch size and the mean time of each stage, as far as the service's metrics have them."""
    found = []
    for histogram in run.service.histograms or []:
        if histogram.mean is None or histogram.labels.get("model", run.configuration.model) != run.configuration.model:
            continue
        stage = histogram.labels.get("stage")
        if histogram.name.endswith("batch_size"):
            found.append(
                ("batch", f"mean size {number(histogram.mean, '')} over {number(histogram.count, '')} batches")
            )
        elif stage and histogram.name.endswith("_seconds"):
            found.append((stage, f"mean {number(histogram.mean * 1000, ' ms')}"))
    return found


def compare_text(compare: CompareFile, settings: GateSettings, path: Path) -> str:
    """Sum a comparison up in a few lines. It is no verdict: `gate` gives that."""
    decision = regression.decide(compare.pairs, settings)
    says = {
        "clear": "no regression",
        "suspicion": "no regression: a flag of the first batch was not confirmed",
        "regression": "the candidate is slower",
        "noisy": "too noisy to tell",
        "incomplete": "a flag, and no second batch to confirm it",
    }[decision.outcome]
    lines = [f"{compare.plan.model}: {says}" + (" (broken off)" if compare.partial else "")]
    for batch in (decision.first, decision.second):
        lines += [
            f"  {finding.metric:10} {percent(finding.change):>7}  ({percent(finding.low)} to {percent(finding.high)}, "
            f"{finding.pairs} pairs, p = {finding.p:.2g})"
            for finding in batch
            if finding.pairs
        ]
    return "\n".join([*lines, f"  written to {path}"])


def verdict_text(verdict: Verdict) -> str:
    """Print every figure that was judged, then the verdict."""
    checks = verdict.checks
    columns = zip(*((check.name, check.measured, check.required) for check in checks), strict=True)
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for check in checks:
        cells = (f"{check.name:{widths[0]}}", f"{check.measured:>{widths[1]}}", f"{check.required:{widths[2]}}")
        lines.append("  ".join((*cells, _mark(verdict, check, "ok", "FAILED"))))
    lines += [f"warning: {warning}" for warning in verdict.warnings]
    lines += [f"note: {note}" for note in verdict.notes]
    lines.append(f"{(verdict.model or 'gate')}: {verdict.status.upper()}")
    lines += [f"  {reason}" for reason in verdict.reasons]
    return "\n".join(lines)


def _mark(verdict: Verdict, check: Check, good: str, bad: str) -> str:
    if not verdict.is_judged(check):
        return "not judged"
    return good if check.passed else bad


def verdict_markdown(verdict: Verdict, run: RunFile | None) -> str:
    """Return the step summary."""
    title = f"Performance gate: {_cell(verdict.model or 'no result')}: {verdict.status}"
    lines = [f"## {_MARKS[verdict.status]} {title}", ""]
    lines += [f"- {_cell(reason)}" for reason in verdict.reasons]
    lines += [f"- ⚠️ {_cell(warning)}" for warning in verdict.warnings] + [""]
    lines += ["| judged | measured | required | |", "|---|---:|---|---|"]
    for check in verdict.checks:
        result = _mark(verdict, check, "✅", "❌")
        lines.append(f"| {_cell(check.name)} | {_cell(check.measured)} | {_cell(check.required)} | {result} |")
    lines += ["", *(f"> {_cell(note)}  " for note in verdict.notes)]
    if run is not None:
        lines += ["", *_run_markdown(run)]
    return "\n".join(lines)[:_MOST_SUMMARY_CHARACTERS] + "\n"


def sweep_markdown(sweep: SweepFile) -> str:
    """Return the curve as a table."""
    columns = token_columns([point.tokens for point in sweep.points])
    more = "".join(f" {name} |" for name in columns)
    rows = [
        f"| rate | answered | mean | p50 | p95 | p99 |{more} |",
        f"|---:|---:|---:|---:|---:|---:|{'---:|' * len(columns)}---|",
    ]
    for point in sweep.points:
        latency = point.latency
        values = (latency.mean_ms, latency.p50_ms, latency.p95_ms, latency.p99_ms)
        cells = " | ".join(map(milliseconds, values))
        cells = " | ".join((cells, *token_cells(point.tokens, columns)))
        mark = "" if point.within is None else "within" if point.within and point.fit else "beyond"
        answered = f"{point.scheduled - point.failed} of {point.scheduled}"
        rows.append(f"| {number(point.rate_per_s, '/s')} | {answered} | {cells} | {mark} |")
    return "\n".join(rows) + "\n"


def _run_markdown(run: RunFile) -> list[str]:
    rows = [
        ("latency from the planned time", figures(run.latency.from_planned)),
        ("latency from the sent time", figures(run.latency.from_sent)),
        ("requests", f"{run.counts.ok} of {run.counts.scheduled} answered"),
        ("rate", f"{number(run.validity.achieved_rate_per_s, '/s')} sent, {_load(run)}"),
        *token_rows(run.tokens),
        *service_figures(run),
        ("machine", f"{run.machine.processor or run.machine.system}, {run.machine.cpus or 'unknown'} processors"),
        ("commit", run.commit.id[:12] + (" with changes" if run.commit.dirty else "") if run.commit else "unknown"),
    ]
    return ["| run | |", "|---|---|", *(f"| {_cell(name)} | {_cell(value)} |" for name, value in rows)]


def _load(run: RunFile) -> str:
    configuration = run.configuration
    if configuration.scenario == "offline":
        return f"offline: {configuration.requests} requests, {configuration.concurrency} at a time"
    if configuration.scenario == "closed":
        return f"closed loop of {configuration.concurrency}"
    end = configuration.rate_end_per_s
    rate = number(configuration.rate_per_s, "/s") + (f" to {number(end, '/s')}" if end is not None else "")
    planned = f"{rate} {configuration.arrivals} planned"
    return (
        f"{planned} for {number(configuration.duration_s, ' s')} after {number(configuration.warmup_s, ' s')} warm-up"
    )


def _cell(text: str) -> str:
    """Make a text harmless inside a Markdown table: what a service says must not become markup."""
    for character in "\\|<>`*_[]":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())
