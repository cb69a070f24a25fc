"""From results to tables: Markdown for the documents and plain text for the terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.perf.report.figures import Cells, Figure, Results, Section, Table
from tests.perf.report.maths import spread
from tests.perf.report.units import SHOW

RUNTIME_PACKAGES = ("torch", "onnxruntime", "openvino")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table of figures."""

    what: str
    target: str
    measured: str
    command: str
    missed: bool


def row(figure: Figure) -> Row | None:
    """Return the line of a figure, or None when it was not measured. The median is held against the target."""
    found, show = spread(figure.values, higher_is_better=figure.higher_is_better), SHOW[figure.unit]
    if found is None:
        return None
    told = f"{show(found.median)} (worst {show(found.worst)})" if found.median != found.worst else show(found.median)
    limit = figure.limit
    if limit is None:
        return Row(figure.what, "-", told, figure.command, False)
    missed = found.median < limit if figure.higher_is_better else found.median > limit
    return Row(figure.what, f"{'≥' if figure.higher_is_better else '≤'} {show(limit)}", told, figure.command, missed)


def rows(section: Section) -> list[Row]:
    """Return the lines of a section."""
    return [found for figure in section.figures if (found := row(figure)) is not None]


def grid(table: Table) -> list[list[str]]:
    """Return a table with several columns as cells, its head first."""
    return [["", *table.columns], *([line.what, *_cells(table, line)] for line in table.lines)]


def _cells(table: Table, line: Cells) -> list[str]:
    show, first = SHOW[line.unit], line.values[0]
    told = [table.missing if value is None else show(value) for value in line.values]
    if not table.compared or not first or line.unit == "percent":
        return told
    multiples = ["" if value is None else f", {_multiple(value / first)} times" for value in line.values[1:]]
    return [told[0], *(cell + multiple for cell, multiple in zip(told[1:], multiples, strict=True))]


def _multiple(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def table_block(table: Table) -> list[str]:
    """Return the paragraphs of a table with several columns, in Markdown."""
    return [f"{table.title}:", markdown(grid(table)), *table.remarks]


def conditions(results: Results) -> str:
    """Return the paragraph that says where it was measured."""
    machine = results.machine
    memory = "unknown" if machine.memory_bytes is None else f"{machine.memory_bytes / 2**30:.0f} GiB"
    steal = (
        "" if results.steal_share is None else f" The host kept back {results.steal_share:.1%} of the processor time."
    )
    busy = "" if machine.load_1m is None else f" Load average before the run: {machine.load_1m:.2f}."
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items() if name != "server")
    return (
        f"{machine.cpus} cores ({machine.processor or 'unknown processor'}), {memory}, {machine.system}, "
        f"Python {machine.python}; the load generator ({results.generator} for closed loops, loadgen for open ones, "
        f"tests/perf/programs/direct.py without HTTP) on the same cores.{busy}{steal} "
        f"{results.versions.get('server', '')}; {versions}."
    )


def place(results: Results) -> str:
    """Return in a few words what it was measured on."""
    machine = results.machine
    return f"{machine.cpus} cores ({machine.processor or 'unknown processor'}), {machine.system}"


def stamp(section: Section, where: str = "") -> str:
    """Return when a section was measured, at which commit, with which settings, and where."""
    commit = section.commit
    state = "" if commit is None else f" at commit `{commit.id[:12]}`{' with changes' if commit.dirty else ''}"
    settings = ", ".join(f"`{name}={value}`" for name, value in sorted(section.settings.items()))
    return (
        f"`python -m tests.perf.bench --only {section.name}`, {section.started_at[:16].replace('T', ' ')} UTC{state}, "
        f"{section.took_s:.0f} s{', on ' + where if where else ''}{'; ' + settings if settings else ''}."
    )


def warnings(section: Section) -> list[str]:
    """Return what a reader must know before trusting a section."""
    quick = "Made with `--quick`: the windows are too short for these figures to mean much."
    return [quick, *section.notes] if section.quick else list(section.notes)


def section_block(section: Section, where: str = "") -> str:
    """Return one section in Markdown, without its heading.

    Args:
        where: what it was measured on.
    """
    body = [[r.what, r.target, f"{r.measured}{' **missed**' if r.missed else ''}", r.command] for r in rows(section)]
    parts = [stamp(section, where), *(f"> {warning}" for warning in warnings(section))]
    if body:
        parts.append(markdown([["what", "target", "measured: middle window", "command"], *body]))
    for table in section.tables:
        parts += table_block(table)
    parts += [f"![{chart.alt}](img/bench-{chart.name}.svg)" for chart in section.charts]
    windows = window_table(section.figures)
    if len(windows) > 1:
        parts += ["<details><summary>Every window</summary>", markdown(windows), "</details>"]
    return "\n\n".join(parts)


def window_table(figures: Iterable[Figure]) -> list[list[str]]:
    """Return the figures that have several windows, all of them, their head first."""
    table = [["what", "each window"]]
    for figure in figures:
        if len(figure.values) > 1:
            table.append([figure.what, " · ".join(SHOW[figure.unit](value) for value in figure.values)])
    return table


def block(results: Results, names: Sequence[str]) -> str:
    """Return the Markdown of some sections, in that order, for docs/benchmarks.md."""
    sections = [results.sections[name] for name in names if name in results.sections]
    told = (f"### {section.title}\n\n{section_block(section, place(results))}" for section in sections)
    return "\n\n".join([conditions(results), *told])


def batching_block(results: Results) -> str:
    """Return the Markdown for the README.

    Raises:
        ValueError: batching has not been measured.
    """
    section = results.sections.get("batching")
    if section is None:
        raise ValueError("Batching has not been measured yet; run `make bench-batching`.")
    machine = results.machine
    parts = [part for table in section.tables for part in table_block(table)]
    where = f"{machine.cpus} cores ({machine.processor or 'unknown processor'})"
    told = f"`make bench-batching` made this on {where}, everything on them, {section.started_at[:10]}; medians."
    return "\n\n".join([*(f"> {warning}" for warning in warnings(section)), *parts, told])


def runtimes_part(results: Results) -> str:
    """Return what docs/runtimes.md says of this machine's kind of processor, without the kind.

    Raises:
        ValueError: the runtimes have not been measured.
    """
    section = results.sections.get("runtimes")
    if section is None or not section.kind:
        raise ValueError("The runtimes have not been measured yet; run `make bench`.")
    machine = results.machine
    where = f"{machine.processor or 'unknown processor'}, {machine.cpus} cores, {machine.system}"
    versions = ", ".join(f"{name} {results.versions[name]}" for name in RUNTIME_PACKAGES if name in results.versions)
    parts = [f"{where}; {versions}. {stamp(section)}", *(f"> {warning}" for warning in warnings(section))]
    for table in section.tables:
        parts += table_block(table)
    if body := rows(section):
        parts.append(markdown([["what", "target", "measured"], *(_short(row) for row in body)]))
    return "\n\n".join(parts)


def _short(row: Row) -> list[str]:
    return [row.what, row.target, f"{row.measured}{' **missed**' if row.missed else ''}"]


def text(results: Results, names: Sequence[str]) -> str:
    """Return some sections for a terminal."""
    lines = [conditions(results).replace("`", "")]
    for section in (results.sections[name] for name in names if name in results.sections):
        body = [[r.what, r.target, r.measured + ("  MISSED" if r.missed else "")] for r in rows(section)]
        lines += [f"{section.title}\n{stamp(section).replace('`', '')}", *warnings(section)]
        lines += [aligned([["what", "target", "measured: middle window"], *body])] if body else []
        for table in section.tables:
            lines += [f"{table.title.replace('`', '')}:\n{aligned(grid(table))}", *table.remarks]
    return "\n\n".join(lines)


def markdown(table: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; the first row is its head."""
    head, *body = [[cell.replace("|", "\\|") for cell in row] for row in table]
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def aligned(table: Sequence[Sequence[str]]) -> str:
    """Return a table for a terminal: no backticks, columns as wide as their widest cell."""
    table = [[cell.replace("`", "") for cell in row] for row in table]
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
    )
