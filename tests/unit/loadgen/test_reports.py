"""The page and its figures: well formed, self-contained, and made of what was measured."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from loadgen.budgets import GateSettings, parse_budgets
from loadgen.gate.run_gate import judge
from loadgen.reports import comparison_figures, figures
from loadgen.reports.figure import Axis, Figure, Point, Rule, Series, axis_from
from loadgen.reports.svg import draw
from loadgen.reports.writing import Material, write_reports
from loadgen.results import runfile
from loadgen.results.ledger import TIMEOUT, Ledger
from loadgen.results.sweepfile import Point as SweepPoint
from loadgen.results.sweepfile import SweepFile
from tests.unit.loadgen.comparisons import comparison_of, noisy_pairs
from tests.unit.loadgen.runs import good_run, make_ledger, make_run

BUDGETS = parse_budgets("[models.imagenet]\nmean_ms = 250\np95_ms = 500\n", "b")
HOSTILE = "</title><script>alert(1)</script>\"'&"


def histogram(name: str, mean: float, **labels: str) -> runfile.Histogram:
    edges: tuple[float | None, ...] = (1.0, 2.0, 4.0, None)
    buckets = [runfile.Bucket(edge, 10.0 * (index + 1)) for index, edge in enumerate(edges)]
    return runfile.Histogram(name, {"model": "imagenet", **labels}, 40, 40 * mean, mean, buckets)


def full_run(**changes: object) -> runfile.RunFile:
    found = [
        histogram("headrace_batch_size", 2.0),
        histogram("headrace_queue_wait_seconds", 0.001),
        histogram("headrace_stage_duration_seconds", 0.02, stage="inference"),
    ]
    service = runfile.Service({"commit": HOSTILE}, {"name": "imagenet", "precision": HOSTILE}, None, None, None, found)
    run = make_run(make_ledger([5.0 + number % 90 for number in range(400)]))
    return msgspec.structs.replace(run, service=service, **changes)


def sweep() -> SweepFile:
    latency = good_run().latency.from_planned
    points = []
    for rate, p95 in ((5.0, 40.0), (10.0, 42.0), (20.0, 45.0), (40.0, 60.0), (50.0, 900.0)):
        values = msgspec.structs.replace(latency, mean_ms=p95 / 1.5, p50_ms=p95 / 2, p95_ms=p95, p99_ms=p95 * 1.2)
        points.append(SweepPoint(rate, rate, rate, 100, 0, True, p95 < 500, values))
    machine = good_run().machine
    return SweepFile(
        "headrace-sweep",
        1,
        "2026-11-23T10:00:00",
        False,
        "u",
        "imagenet",
        1,
        10.0,
        250.0,
        500.0,
        40.0,
        machine,
        None,
        points,
    )


class Links(HTMLParser):
    """Collects every tag, and every attribute that could fetch something."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.fetches: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.fetches += [
            f"{tag} {name}" for name, _ in attrs if name in ("src", "href", "xlink:href", "srcset", "action")
        ]


def test_a_whole_report(tmp_path: Path) -> None:
    run = full_run()
    compare = comparison_of(noisy_pairs(10, 1.3, 0.02, 1) + noisy_pairs(10, 1.3, 0.02, 1, batch=2))
    verdict = judge(BUDGETS, run, compare)
    assert verdict.status == "regression"
    material = Material(verdict, BUDGETS, run, compare, sweep())
    assert [figure.key for figure in material.figures()] == [
        "sweep", "pairs", "percentiles", "timeline", "batches", "stages",
    ]  # fmt: skip
    paths = write_reports(tmp_path / "out", material)
    html = paths[0].read_text()
    links = Links()
    links.feed(html)
    assert links.fetches == []  # nothing is fetched
    assert "script" not in links.tags
    assert not re.search(r"url\(|@import", html)
    for text in ("Regression: slower than the base.", "exit code 11", "400 of 400", "p95 budget 500 ms", "knee 40/s"):
        assert text in html
    assert len(html) < 1_000_000
    markdown = paths[1].read_text()
    assert "Performance gate: imagenet: regression" in markdown
    assert "| 40/s | 100 of 100 |" in markdown
    assert (tmp_path / "out" / "report.html").stat().st_size == len(html.encode())


@pytest.mark.parametrize("width", [330, 560, 1150])
def test_every_figure_is_well_formed_and_inside_its_frame(width: int) -> None:
    material = Material(None, BUDGETS, full_run(), comparison_of(noisy_pairs(10, 1.3, 0.02, 1)), sweep())
    for figure in material.figures():
        root = ElementTree.fromstring(draw(figure, width))
        for element in root.iter():
            for name in ("x", "x1", "x2", "cx"):
                if name in element.attrib:
                    assert -1 <= float(element.attrib[name]) <= width + 1, (figure.key, element.attrib)
            for name in ("y", "y1", "y2", "cy"):
                if name in element.attrib:
                    assert -1 <= float(element.attrib[name]) <= figure.height + 1, (figure.key, element.attrib)


def test_a_failed_run_is_drawn_and_failures_are_seen() -> None:
    run = make_run(make_ledger([5.0] * 100, TIMEOUT, failures=30))
    found = figures.timeline(run, None)
    assert found is not None
    failed = next(series for series in found.series if series.name == "failed")
    assert len(failed.points) == 30
    nothing = make_run(make_ledger([5.0] * 100, TIMEOUT, failures=100))
    assert figures.percentiles(nothing, None) is None
    assert [figure.key for figure in Material(run=make_run(Ledger())).figures()] == []


def test_the_slowest_requests_are_never_left_out_of_the_timeline() -> None:
    latencies = [5.0] * 20_000
    latencies[12_345] = 900.0
    found = figures.timeline(make_run(make_ledger(latencies, rate_per_s=1000.0), rate_per_s=1000.0), None)
    assert found is not None
    dots = found.series[0].points
    assert max(point.y for point in dots) == 900.0
    assert len(dots) <= 2000


def test_histograms_of_several_consumers_are_added_up() -> None:
    run = full_run()
    twice = msgspec.structs.replace(
        run.service, histograms=[*(run.service.histograms or []), histogram("headrace_batch_size", 4.0)]
    )
    found = figures.batch_sizes(msgspec.structs.replace(run, service=twice))
    assert found is not None
    assert "80 batches, 3 rows on average" in found.caption
    assert [point.y for point in found.series[0].points] == [20.0, 20.0, 20.0, 20.0]
    assert [text for _, text in found.x.ticks] == ["1", "2", "3 to 4", "over 4"]


def test_the_knee_is_where_the_curve_turns() -> None:
    assert comparison_figures.knee(sweep().points) == 40.0
    flat = [msgspec.structs.replace(point, latency=sweep().points[0].latency) for point in sweep().points]
    assert comparison_figures.knee(flat) is None
    assert comparison_figures.hockey_stick(msgspec.structs.replace(sweep(), points=sweep().points[:1])) is None


def test_pairs_show_the_margin_of_each_metric() -> None:
    found = comparison_figures.paired_ratios(comparison_of(noisy_pairs(10, 1.0, 0.01, 1)), GateSettings())
    assert found is not None
    margins = next(series for series in found.series if series.name == "margin")
    assert [round(point.x, 2) for point in margins.points] == [5.0, 10.0, 5.26]
    assert comparison_figures.paired_ratios(comparison_of([]), GateSettings()) is None


@pytest.mark.parametrize("values", [[0.0], [5.0], [0.001, 0.002], [1.0, 1e6], [-3.0, 3.0]])
def test_axes_have_a_few_ticks_between_their_ends(values: list[float]) -> None:
    for axis in (
        axis_from("ms", values, zero=False),
        axis_from("ms", [abs(value) + 1e-3 for value in values], log=True),
    ):
        assert axis.low < axis.high
        places = [axis.place(value) for value, _ in axis.marks()]
        assert all(-0.01 <= place <= 1.01 for place in places)
        assert len(places) <= 25


def test_text_in_figures_is_escaped() -> None:
    figure = Figure(
        "x", HOSTILE, HOSTILE, Axis(HOSTILE, 0, 1), Axis(HOSTILE, 0, 1),
        (Series(HOSTILE, "dots", "one", (Point(0.5, 0.5, HOSTILE),)),), (Rule("y", 0.5, HOSTILE),),
    )  # fmt: skip
    assert "script" not in {element.tag for element in ElementTree.fromstring(draw(figure, 400)).iter()}
