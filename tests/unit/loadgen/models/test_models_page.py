"""The page that compares models: whose figures are whose, what they cost, and what is not known."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadgen.reports import models_page
from loadgen.reports.models_figures import models_figures, share_of_budget
from loadgen.reports.svg import draw
from loadgen.results import files
from loadgen.results.runfile import Histogram, PayloadInfo
from loadgen.results.sweepfile import ModelsFile, ModelSweep, Point, SweepFile
from loadgen.sweeping import LatencyTarget, device_ms, next_rate
from loadgen.workloads.spec import make_workload
from tests.unit.loadgen.runs import good_run

HOSTILE = "</td><script>alert(1)</script>|`"
PHOTO = PayloadInfo("cat.jpg", "image/jpeg", 100, "00")
TARGET = LatencyTarget(None, None)


def swept(model: str, capacity: float, p95_budget_ms: float | None = 100.0, **more: Any) -> SweepFile:
    """A curve that is flat up to a capacity and fails beyond it, found by the search that is used."""
    latency, points = good_run().latency.from_planned, list[Point]()
    while (rate := next_rate(points, 5.0)) is not None:
        p95_ms = 20.0 / max(0.05, 1 - rate / (1.25 * capacity))
        one = msgspec.structs.replace(latency, mean_ms=p95_ms / 2, p50_ms=p95_ms / 3, p95_ms=p95_ms, p99_ms=2 * p95_ms)
        points.append(Point(rate, rate, rate, 100, 0, True, rate <= capacity, one, device_ms=1000 / capacity))
    good = [point.rate_per_s for point in points if point.within]
    points.sort(key=lambda point: point.rate_per_s)
    card = {"precision": "fp32", "device": "cpu", "runtime": "torch", "workers": 2, **more}
    at, machine = "2026-11-30T10:00:00.000+00:00", good_run().machine
    limits = (None, p95_budget_ms, max(good))
    return SweepFile("headrace-sweep", 1, at, False, "u", model, 1, 10.0, *limits, machine, card, points)


def compared(*sweeps: SweepFile, cost: float | None = 3.6, alone: bool = False) -> ModelsFile:
    models = [ModelSweep(sweep, [PHOTO]) for sweep in sweeps]
    return ModelsFile("headrace-models", 1, sweeps[0].started_at, False, alone, cost, models)


def test_each_model_has_its_own_rate_budget_and_cost() -> None:
    found = compared(swept("large", 10.0, 400.0), swept("small", 100.0, 50.0))
    large, small = (dict(zip(models_page.HEAD, row, strict=True)) for row in models_page.rows(found))
    assert (large["budget"], small["budget"]) == ("p95 400 ms", "p95 50 ms")
    assert 9.5 <= float(large["highest rate within it"].removesuffix("/s")) <= 10
    assert 95 <= float(small["highest rate within it"].removesuffix("/s")) <= 100
    # 3.6 an hour is 0.001 a second, in which the machine answers so many.
    assert 0.1 <= float(large["cost of 1,000 answers"]) <= 0.106
    assert 0.01 <= float(small["cost of 1,000 answers"]) <= 0.0106
    assert (large["device time an answer"], small["device time an answer"]) == ("100 ms", "10 ms")
    assert large["served"] == "fp32 on cpu, by torch, 2 consumers"
    text = models_page.table(found)
    assert text.startswith("large\n  served") and "\nsmall\n" in text


def test_what_is_unknown_is_not_made_up() -> None:
    never = msgspec.structs.replace(swept("never", 10.0), best_per_s=None)
    unbudgeted = swept("unbudgeted", 10.0, None)
    points = [msgspec.structs.replace(point, device_ms=None, within=None) for point in unbudgeted.points]
    unbudgeted = msgspec.structs.replace(unbudgeted, points=points, best_per_s=None)
    first, second = (
        dict(zip(models_page.HEAD, row, strict=True)) for row in models_page.rows(compared(never, unbudgeted))
    )
    assert (first["highest rate within it"], first["cost of 1,000 answers"]) == ("none of those tried", "unknown")
    assert (second["budget"], second["highest rate within it"], second["device time an answer"]) == (
        "none",
        "",
        "unknown",
    )
    [row, _] = models_page.rows(compared(swept("a", 10.0), swept("b", 10.0), cost=None))
    assert row[-1] == ""


@pytest.mark.parametrize(("value", "told"), [(1234.5, "1,234.50"), (0.25, "0.250"), (0.0000907, "0.0000907")])
def test_a_small_price_has_no_exponent(value: float, told: str) -> None:
    sweep = swept("a", 10.0)
    assert sweep.best_per_s is not None
    cost = value * sweep.best_per_s * 3.6
    [row, _] = models_page.rows(compared(sweep, swept("b", 10.0), cost=cost))
    assert row[-1] == told


def test_models_that_were_sent_different_inputs_are_told_apart() -> None:
    one, two = swept("a", 10.0), swept("b", 20.0)
    assert not any("different inputs" in note for note in models_page.notes(compared(one, two)))
    other = PayloadInfo("dog.jpg", "image/jpeg", 100, "11")
    mixed = msgspec.structs.replace(compared(one), models=[ModelSweep(one, [PHOTO]), ModelSweep(two, [other])])
    assert any("different inputs" in note for note in models_page.notes(mixed))
    chat, embed = make_workload({"kind": "chat"}), make_workload({"kind": "embed"})
    same = [ModelSweep(msgspec.structs.replace(one, workload=chat), [PHOTO])]
    same.append(ModelSweep(msgspec.structs.replace(two, workload=chat), [other]))  # each body names its model
    assert not any("different" in note for note in models_page.notes(msgspec.structs.replace(mixed, models=same)))
    same[1] = ModelSweep(msgspec.structs.replace(two, workload=embed), [other])
    assert any("different" in note for note in models_page.notes(msgspec.structs.replace(mixed, models=same)))
    assert "to itself" in models_page.notes(compared(one, two, alone=True))[0]


def test_a_model_within_its_budget_lies_below_the_line() -> None:
    sweep = swept("a", 100.0)
    shares = {point.rate_per_s: share_of_budget(sweep, point) for point in sweep.points}
    assert shares[5.0] == pytest.approx(0.2083, abs=0.001)
    assert max(share for rate, share in shares.items() if rate <= 100 and share is not None) <= 1.01
    assert share_of_budget(swept("b", 10.0, None), sweep.points[0]) is None


def test_a_model_of_which_every_request_failed_is_still_named() -> None:
    sweep = swept("failing", 10.0)
    nothing = msgspec.structs.replace(sweep.points[0].latency, mean_ms=None, p50_ms=None, p95_ms=None, p99_ms=None)
    points = [msgspec.structs.replace(point, latency=nothing, within=False) for point in sweep.points]
    failing = msgspec.structs.replace(sweep, points=points, best_per_s=None)
    for figure in models_figures(compared(failing, swept("well", 20.0)).models):
        assert [series.name for series in figure.series] == ["failing", "well"]
    assert "failing" in models_page.page(compared(failing))


@pytest.mark.parametrize("width", [330, 560, 1150])
def test_every_figure_is_well_formed_and_inside_its_frame(width: int) -> None:
    found = compared(
        *(swept(name, capacity) for name, capacity in zip("abcd", (3.0, 10.0, 400.0, 5000.0), strict=True))
    )
    figures = models_figures(found.models)
    assert [figure.key for figure in figures] == ["models", "budgets", "device"]
    for figure in figures:
        assert [series.name for series in figure.series] == list("abcd")
        for element in ElementTree.fromstring(draw(figure, width)).iter():
            for name in ("x", "x1", "x2", "cx"):
                if name in element.attrib:
                    assert -1 <= float(element.attrib[name]) <= width + 1, (figure.key, element.attrib)


def test_what_a_service_says_stays_text(tmp_path: Path) -> None:
    html, markdown = models_page.write(tmp_path, compared(swept("a", 10.0, precision=HOSTILE), swept("b", 20.0)))
    assert "<script" not in html.read_text()
    assert "\\|\\`" in markdown.read_text()


def test_the_file_reads_back(tmp_path: Path) -> None:
    found = compared(swept("a", 10.0), swept("b", 20.0))
    files.write_atomically(tmp_path / "models.json", files.encode(found))
    assert files.read(tmp_path / "models.json", ModelsFile) == found
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(files.RunFileError, match="is not a models file"):
        files.read(tmp_path / "other.json", ModelsFile)


def test_device_time_is_that_of_this_models_consumers() -> None:
    def inference(model: str, seconds: float) -> Histogram:
        labels = {"model": model, "stage": "inference"}
        return Histogram("headrace_stage_duration_seconds", labels, 10, seconds, seconds / 10, [])

    run, answered = good_run(), 1000
    assert device_ms(run) is None
    told = [inference("imagenet", 2.0), inference("imagenet", 3.0), inference("other", 50.0)]
    service = msgspec.structs.replace(run.service, histograms=told)
    validity = msgspec.structs.replace(run.validity, answered=answered)
    assert device_ms(msgspec.structs.replace(run, service=service, validity=validity)) == pytest.approx(5.0)
