"""[I/O] `loadgen report`: writes the page and the Markdown into a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from loadgen.budgets import Budgets, GateSettings
from loadgen.errors import EXIT_OK, EXIT_USAGE, LoadgenError
from loadgen.gate.verdict import Verdict
from loadgen.results import files
from loadgen.results.comparefile import CompareFile
from loadgen.results.runfile import Machine, RunFile
from loadgen.results.sweepfile import SweepFile

from . import chat_figures
from .comparison_figures import hockey_stick, paired_ratios
from .figure import Figure
from .figures import run_figures
from .page import page
from .text import compare_text, run_text, sweep_markdown, verdict_markdown


@dataclass(frozen=True, slots=True)
class Material:
    """What a report is made of; None for what there is not."""

    verdict: Verdict | None = None
    budgets: Budgets | None = None
    run: RunFile | None = None
    compare: CompareFile | None = None
    sweep: SweepFile | None = None

    @property
    def model(self) -> str:
        """Whose report it is."""
        if self.run is not None:
            return self.run.configuration.model
        if self.compare is not None:
            return self.compare.plan.model
        if self.sweep is not None:
            return self.sweep.model
        return (self.verdict.model if self.verdict else None) or "no result"

    @property
    def settings(self) -> GateSettings:
        """The gate's settings."""
        return self.budgets.gate if self.budgets else GateSettings()

    def figures(self) -> list[Figure]:
        """Return every figure that there are data for."""
        found: list[Figure | None] = []
        if self.sweep is not None:
            found += [hockey_stick(self.sweep), *chat_figures.sweep_figures(self.sweep)]
        if self.compare is not None:
            found.append(paired_ratios(self.compare, self.settings))
        if self.run is not None:
            budget = self.budgets.models.get(self.model) if self.budgets else None
            found += [*run_figures(self.run, budget), *chat_figures.run_figures(self.run, budget)]
        return [figure for figure in found if figure is not None]

    def subtitle(self) -> str:
        """Return when and on what it was measured."""
        first = self.run or self.compare or self.sweep
        if first is None:
            return "Nothing was measured."
        return f"measured {first.started_at[:16].replace('T', ' ')} UTC on {_machine(first.machine)}"

    def markdown(self) -> str:
        """Return the report as Markdown."""
        parts = []
        if self.verdict is not None:
            parts.append(verdict_markdown(self.verdict, self.run))
        elif self.run is not None:
            parts.append(f"```\n{run_text(self.run, Path('run.json'))}\n```\n")
        if self.compare is not None:
            parts.append(f"```\n{compare_text(self.compare, self.settings, Path('compare.json'))}\n```\n")
        if self.sweep is not None:
            parts.append(sweep_markdown(self.sweep))
        return "\n".join(parts)


def write_reports(folder: Path, material: Material) -> list[Path]:
    """Write `report.html` and `report.md`, and return their paths.

    Raises:
        LoadgenError: the folder cannot be written.
    """
    title = f"Performance of {material.model}"
    html = page(title, material.subtitle(), material.verdict, material.run, material.figures())
    files.prepare_folder(folder, "report.html")
    written = [folder / "report.html", folder / "report.md"]
    files.write_atomically(written[0], html.encode())
    files.write_atomically(written[1], material.markdown().encode())
    return written


def carry_out(
    *,
    run_path: Path | None,
    compare_path: Path | None,
    sweep_path: Path | None,
    budgets_path: Path | None,
    out: Path,
) -> int:
    """Carry out `report` and return its exit code.

    Raises:
        LoadgenError: there is nothing to draw, a file cannot be used, or the folder cannot be written.
    """
    from loadgen.budget_files import read_budgets

    if run_path is None and compare_path is None and sweep_path is None:
        raise LoadgenError("Say what to draw: --run, --compare or --sweep.", EXIT_USAGE)
    try:
        material = Material(
            budgets=read_budgets(budgets_path) if budgets_path else None,
            run=files.read(run_path, RunFile) if run_path else None,
            compare=files.read(compare_path, CompareFile) if compare_path else None,
            sweep=files.read(sweep_path, SweepFile) if sweep_path else None,
        )
    except files.RunFileError as error:
        raise LoadgenError(str(error)) from error
    for path in write_reports(out, material):
        click.echo(f"written to {path}")
    return EXIT_OK


def _machine(machine: Machine) -> str:
    return f"{machine.processor or machine.system}, {machine.cpus or 'unknown'} processors"
