"""One page that compares models: a table, and their curves. Pure but for :func:`write`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from loadgen.gate.verdict import number
from loadgen.results import files
from loadgen.results.sweepfile import ModelsFile, ModelSweep, SweepFile

from .models_figures import bend, device_ms_of, models_figures
from .page import cards, framed

HEAD = (
    "model", "served", "budget", "highest rate within it", "knee", "latency there: p50, p95, p99",
    "device time an answer", "cost of 1,000 answers",
)  # fmt: skip


def cost_of_1000(sweep: SweepFile, cost_per_hour: float | None) -> float | None:
    """Return what 1,000 answers cost on a machine that is used as far as the budget allows; None where unknown."""
    best = sweep.best_per_s
    return None if cost_per_hour is None or not best else cost_per_hour / 3600 * 1000 / best


def rows(found: ModelsFile) -> list[tuple[str, ...]]:
    """Return the table: for each model what :data:`HEAD` says."""
    return [_row(model.sweep, found.cost_per_hour) for model in found.models]


def _row(sweep: SweepFile, cost_per_hour: float | None) -> tuple[str, ...]:
    limits = (("mean", sweep.target_mean_ms), ("p95", sweep.target_p95_ms))
    budget = ", ".join(f"{name} {number(limit, ' ms')}" for name, limit in limits if limit is not None)
    there = next((point for point in sweep.points if point.rate_per_s == sweep.best_per_s), None)
    latency = "" if there is None else ", ".join(
        "infinite" if value is None else number(value, " ms")
        for value in (there.latency.p50_ms, there.latency.p95_ms, there.latency.p99_ms)
    )  # fmt: skip
    at, device_ms, cost = bend(sweep), device_ms_of(sweep), cost_of_1000(sweep, cost_per_hour)
    best = "none of those tried" if sweep.best_per_s is None else number(sweep.best_per_s, "/s")
    return (
        sweep.model,
        _served(sweep),
        budget or "none",
        best if budget else "",
        "" if at is None else number(at, "/s"),
        latency,
        "unknown" if device_ms is None else number(device_ms, " ms"),
        "" if cost_per_hour is None else "unknown" if cost is None else _price(cost),
    )


def _served(sweep: SweepFile) -> str:
    card = sweep.card or {}
    precision, runtime, device, workers = (card.get(name) for name in ("precision", "runtime", "device", "workers"))
    said = [f"{precision} on {device}" if precision else "", f"by {runtime}" if runtime else ""]
    said.append(f"{workers} consumer{'' if workers == 1 else 's'}" if workers else "")
    return ", ".join(filter(None, said)) or "unknown"


def _price(value: float) -> str:
    """Write a price with three figures, however small, and without an exponent."""
    decimals = max(2, 2 - math.floor(math.log10(value))) if value > 0 else 2
    return f"{value:,.{decimals}f}"


def notes(found: ModelsFile) -> list[str]:
    """Return what a reader must know before comparing, a sentence each."""
    told = [
        "Each model had the machine to itself."
        if found.alone
        else "All models were served at the same time and asked in turns: those that were not asked held memory only."
    ]
    if len({_sent(model) for model in found.models}) > 1:
        told.append("The models were sent different inputs, so their figures do not say which of them is quicker.")
    if found.cost_per_hour is not None:
        told.append(
            f"Costs are for a machine of {number(found.cost_per_hour, '')} an hour that is used up to the highest rate "
            "within the budget, out of those that were tried."
        )
    told.append("How good the answers are is not measured here.")
    return told


def _sent(model: ModelSweep) -> tuple[str, ...]:
    """Return what tells inputs apart. Texts of a workload are the same for all, though each body names its model."""
    if model.sweep.workload is not None:
        return (repr(model.sweep.workload),)
    return tuple(payload.sha256 for payload in model.payloads)


def table(found: ModelsFile) -> str:
    """Return the table as text for a terminal, a block of lines for each model."""
    lines = []
    for row in rows(found):
        lines.append(row[0])
        lines += [f"  {name:29} {value}" for name, value in zip(HEAD[1:], row[1:], strict=True) if value]
    return "\n".join(lines)


def markdown(found: ModelsFile) -> str:
    """Return the table and its notes as Markdown."""
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    lines += [f"| {' | '.join(_plain(cell) for cell in row)} |" for row in rows(found)]
    return "\n".join([*lines, "", *notes(found)]) + "\n"


def _plain(text: str) -> str:
    """Make a text harmless inside a Markdown table."""
    for character in "\\|<>`*_[]":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())


def page(found: ModelsFile) -> str:
    """Return the page."""
    machine = found.models[0].sweep.machine
    where = f"{machine.processor or machine.system}, {machine.cpus or 'unknown'} processors"
    broken = " It was broken off." if found.partial else ""
    subtitle = f"measured {found.started_at[:16].replace('T', ' ')} UTC on {where}.{broken}"
    parts = [_table(rows(found)), _notes(notes(found)), cards(models_figures(found.models)), _curves(found.models)]
    return framed(f"Models compared: {', '.join(model.sweep.model for model in found.models)}", subtitle, parts)


def _table(lines: Sequence[Sequence[str]], head: Sequence[str] = HEAD) -> str:
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f'<td class="number">{escape(cell)}</td>' for cell in line) + "</tr>" for line in lines
    )
    return (
        '<section class="card" style="margin-bottom:16px"><div class="scroll"><table>'
        f"<tr>{top}</tr>{body}</table></div></section>"
    )


def _notes(told: Sequence[str]) -> str:
    return f'<p class="soft">{escape(" ".join(told))}</p>'


def _curves(models: Sequence[ModelSweep]) -> str:
    """Return every rate that was tried, folded up."""
    lines = []
    for model in models:
        for point in model.sweep.points:
            latency = point.latency
            values = (latency.mean_ms, latency.p50_ms, latency.p95_ms, latency.p99_ms)
            lines.append(
                (
                    model.sweep.model,
                    number(point.rate_per_s, "/s"),
                    f"{point.scheduled - point.failed} of {point.scheduled}",
                    *("infinite" if value is None else number(value, " ms") for value in values),
                    "unknown" if point.device_ms is None else number(point.device_ms, " ms"),
                    "" if point.fit else "not counted",
                )
            )
    head = ("model", "rate", "answered", "mean", "p50", "p95", "p99", "device", "")
    return f"<details><summary>Every rate</summary>{_table(lines, head)}</details>"


def write(folder: Path, found: ModelsFile) -> list[Path]:
    """Write `report.html` and `report.md`, and return their paths.

    Raises:
        LoadgenError: the folder cannot be written.
    """
    if not found.models:
        return []
    written = [files.prepare_folder(folder, "report.html"), files.prepare_folder(folder, "report.md")]
    files.write_atomically(written[0], page(found).encode())
    files.write_atomically(written[1], markdown(found).encode())
    return written
