"""The shape of `.headrace/bench/results.json`: what every section found, with what is needed to print and draw it."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from loadgen.results.runfile import Commit, Machine

FORMAT: Final = "headrace-bench"
VERSION: Final = 3

Unit = Literal["per_s", "s", "ms", "us", "bytes", "ratio", "percent", "times", "count"]


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of the file."""


class Figure(_Record, frozen=True, kw_only=True):
    """One line of a table: a figure, one value for each window or round in which it was measured.

    `limit` is what is to be reached: at least, where higher is better, else at most. None is for figures that only
    explain others.
    """

    what: str
    unit: Unit
    values: list[float]
    command: str
    higher_is_better: bool = False
    limit: float | None = None


class Line(_Record, frozen=True, kw_only=True):
    """One line of a chart; `fit` draws it thin, dashed and without points."""

    label: str
    x: list[float]
    y: list[float]
    fit: bool = False


class Bar(_Record, frozen=True, kw_only=True):
    """One bar made of parts; parts of the same name have the same colour in a panel."""

    label: str
    parts: dict[str, float]


class Panel(_Record, frozen=True, kw_only=True):
    """A part of a chart: lines over two axes, or bars. `unit` is what stands behind a bar's sum."""

    title: str
    told: str
    x_label: str = ""
    lines: list[Line] = []
    bars: list[Bar] = []
    unit: str = ""
    y_log: bool = False


class Chart(_Record, frozen=True, kw_only=True):
    """A picture, `docs/img/bench-NAME.svg`: panels in rows of so many columns."""

    name: str
    alt: str
    panels: list[Panel]
    columns: int = 2


class Cells(_Record, frozen=True, kw_only=True):
    """One line of a table with several columns; None where nothing was measured."""

    what: str
    unit: Unit
    values: list[float | None]


class Table(_Record, frozen=True, kw_only=True):
    """Figures of several things beside each other; values are medians.

    `missing` is what stands for None. `compared`: values are also told as multiples of those of the first column.
    `remarks` are sentences below it.
    """

    title: str
    columns: list[str]
    lines: list[Cells]
    missing: str = "-"
    compared: bool = False
    remarks: list[str] = []


class Section(_Record, frozen=True, kw_only=True):
    """What one section found. `settings` are those of its stacks; `notes` are what a reader must know.

    `kind` is that of the processor, where figures of several kinds stand beside each other in a document.
    """

    name: str
    title: str
    started_at: str
    took_s: float
    quick: bool
    commit: Commit | None
    settings: dict[str, str]
    figures: list[Figure]
    charts: list[Chart]
    tables: list[Table]
    notes: list[str]
    kind: str = ""


class Results(_Record, frozen=True, kw_only=True):
    """All sections that were measured on this machine, each at its own time.

    `steal_share` is the share of processor time that the host kept from this machine during the last run.
    """

    format: str = FORMAT
    version: int = VERSION
    machine: Machine
    versions: dict[str, str]
    generator: str
    steal_share: float | None
    sections: dict[str, Section]
