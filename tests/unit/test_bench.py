"""The parts of `make bench` that measure nothing: reading figures, ratios, fits, tables, pictures, the documents."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.models.base import Model
from loadgen.results.runfile import Machine
from shared.wire.messages import ModelTag, Reply, Request, Tensor, Timing, decode_request, encode_reply
from tests.children import ROOT
from tests.perf import h2load, processes, rooms, scrape, wrk
from tests.perf.context import Bench
from tests.perf.load import ECHO_BODY, Generator, from_outcome
from tests.perf.programs import direct, waiting_model
from tests.perf.report import charts, document, maths, tables
from tests.perf.report.figures import Bar, Cells, Chart, Figure, Line, Panel, Results, Section, Table
from tests.perf.sections import batching, model, peers, policy
from tests.perf.stack import BenchError, chosen_settings, knows
from tests.perf.windows import Window

FIGURES = (
    "figures requests=40001 duration_us=4000100 mean_us=3100.5 p50_us=2900.0 p99_us=7654.0 max_us=20000.0 "
    "status=1 connect=0 read=2 write=0 timeout=0"
)
SVG = "{http://www.w3.org/2000/svg}"


def window(**changes: Any) -> Window:
    return Window(**{"requests": 4000, "failed": 0, "rate_per_s": 1000.0, "mean_ms": 3.0, "p50_ms": 2.9, "p99_ms": 7.0,
                     **changes})  # fmt: skip


def figure(**changes: Any) -> Figure:
    return Figure(**{"what": "echo", "unit": "per_s", "values": [9.0, 10.0, 12.0], "command": "`wrk`",
                     "higher_is_better": True, **changes})  # fmt: skip


def section(**changes: Any) -> Section:
    made: dict[str, Any] = {
        "name": "echo", "title": "Echo", "started_at": "2026-11-23T10:00:00+00:00", "took_s": 20.0, "quick": False,
        "commit": None, "settings": {"HEADRACE_APPENDONLY": "no"}, "figures": [figure()], "charts": [],
        "tables": [], "notes": [],
    }  # fmt: skip
    return Section(**{**made, **changes})


def results(*sections: Section) -> Results:
    return Results(
        machine=Machine("Linux", "A|B processor", 2, 4 * 2**30, "3.11.7", 0.1),
        versions={"torch": "2.15.0", "server": "Valkey 9.1"},
        generator="wrk 4.1.0",
        steal_share=0.004,
        sections={one.name: one for one in sections},
    )


# --- what generators print


def test_the_line_of_the_lua_script_is_read() -> None:
    read = wrk.parse(f"Running 4s test\n{FIGURES}\n")
    assert (read.requests, read.failed) == (40_000, 3)  # answers with an error status are not requests served
    assert read.rate_per_s == pytest.approx(40_000 / 4.0001)
    assert (read.mean_ms, read.p50_ms, read.p99_ms) == (3.1005, 2.9, 7.654)


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("", "no figures"),
        ("unable to connect to 127.0.0.1:1 Connection refused\n", "no figures"),
        (FIGURES.replace("requests=40001", "requests=0"), "no answer"),
    ],
)
def test_wrk_without_figures_or_answers_is_an_error(output: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        wrk.parse(output)


def test_replies_that_are_not_stored_are_no_result() -> None:
    outcome = direct.Outcome(
        items=500, failed=0, seconds=2.0, mean_ms=1.0, p50_ms=1.0, p99_ms=2.0, durable=3, stages=None
    )
    assert from_outcome(outcome).rate_per_s == 250.0
    with pytest.raises(BenchError, match="not stored"):
        from_outcome(msgspec.structs.replace(outcome, durable=0))


# --- the direct producer's messages and its account


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> direct.Fast:
    monkeypatch.setattr(direct, "Connection", lambda url: None)
    job = direct.Job(url="redis://nowhere", model="echo", body="", echoes=True)
    return direct.Fast(job, ECHO_BODY)


def reply(request_id: str, data: bytes = ECHO_BODY) -> bytes:
    tensor = Tensor("output", "UINT8", (1, len(data)), data)
    return encode_reply(Reply(request_id, ModelTag("echo", "1", "fp32"), Timing(1, 1, 1, 1, 1), outputs=[tensor]))


def test_the_producers_messages_are_requests(producer: direct.Fast) -> None:
    first, second = producer.next_ids(2)
    request = decode_request(producer.message(first))
    assert (request.id, request.body, request.ttl_ms) == (first.decode(), ECHO_BODY, direct.TTL_MS)
    assert msgpack.unpackb(producer.message(second))["rt"] == producer.me
    assert len(producer.message(first)) == producer.length


def test_a_plain_add_is_well_formed(producer: direct.Fast) -> None:
    [request_id] = producer.next_ids(1)
    message = producer.message(request_id)
    expected = direct.command(b"XADD", producer.work, b"NOMKSTREAM", b"*", b"m", message)
    assert b"".join(producer.add([request_id])) == expected


def test_only_the_first_right_answer_to_a_request_counts(producer: direct.Fast) -> None:
    one, two, three = (request_id.decode() for request_id in producer.next_ids(3))
    producer.verify(one.encode(), reply(one))
    assert (len(producer.latencies_s), producer.failed) == (1, 0)
    producer.verify(one.encode(), reply(one))  # again
    producer.verify(two.encode(), reply(two, b"other"))
    producer.verify(three.encode(), None)
    assert (len(producer.latencies_s), producer.failed) == (1, 3)


@pytest.mark.parametrize("wrong", [None, "data", "id"])
def test_an_answer_that_is_decoded_must_be_right(producer: direct.Fast, wrong: str | None) -> None:
    [request_id] = producer.next_ids(1)
    answer = reply("other" if wrong == "id" else request_id.decode(), b"other" if wrong == "data" else ECHO_BODY)
    if wrong is None:
        producer.verify_fully(request_id, answer)
    else:
        with pytest.raises(SystemExit, match="wrong answer"):
            producer.verify_fully(request_id, answer)


# --- arithmetic


def test_median_and_worst_depend_on_what_is_better() -> None:
    rate = maths.spread([3.0, 1.0, 2.0], higher_is_better=True)
    latency = maths.spread([3.0, None, 1.0, 2.0], higher_is_better=False)
    assert rate == maths.Spread(2.0, 1.0)
    assert latency == maths.Spread(2.0, 3.0)
    assert maths.spread([None], higher_is_better=True) is None
    assert maths.middle([None]) is None


def test_ratios_are_taken_within_each_round() -> None:
    assert maths.ratios([10.0, 5.0, 9.0], [20.0, 20.0, 10.0]) == [0.5, 0.25, 0.9]
    assert maths.ratios([10.0, None, 9.0, 1.0], [20.0, 1.0, 0.0]) == [0.5]


@given(slope=st.floats(0.1, 100), intercept=st.floats(0.1, 100))
def test_points_on_a_line_give_that_line(slope: float, intercept: float) -> None:
    x = [1.0, 2.0, 8.0, 32.0]
    for fit in (maths.fit_line, maths.fit_relative):
        found = fit(x, [slope * value + intercept for value in x])
        assert found.slope == pytest.approx(slope, rel=1e-6)
        assert found.intercept == pytest.approx(intercept, rel=1e-4, abs=1e-6)


def test_a_relative_fit_heeds_small_batches() -> None:
    x, y = [1.0, 2.0, 4.0, 32.0], [4.0, 5.0, 7.0, 60.0]  # 3 + n, and one that is far off
    assert abs(maths.fit_relative(x, y).at(1) - 4.0) < abs(maths.fit_line(x, y).at(1) - 4.0)


@pytest.mark.parametrize("fit", [maths.fit_line, maths.fit_relative])
def test_one_point_is_no_line(fit: Any) -> None:
    with pytest.raises(ValueError, match="two points"):
        fit([2.0, 2.0], [1.0, 3.0])


def test_what_consumers_say_is_added_up_and_averaged() -> None:
    stage = (("model", "m"), ("stage", "inference"))
    labels = (("model", "m"),)

    def samples(run_s: float, batches: float) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        return {
            ("headrace_stage_duration_seconds_sum", stage): run_s,
            ("headrace_stage_duration_seconds_count", stage): batches,
            ("headrace_batch_size_sum", labels): 32 * batches,
            ("headrace_batch_size_count", labels): batches,
        }

    found = scrape.change([samples(1.0, 10), samples(0.0, 0)], [samples(2.0, 20), samples(0.5, 5)], 1.0)
    assert found.busy_share == 0.75  # of two consumers
    assert found.batch_rows == 32.0
    assert found.stages_ms == {"inference": pytest.approx(100.0)}
    assert scrape.change([samples(0.0, 0)], [samples(1.2, 1)], 1.0).busy_share == 1.0


def test_the_parts_of_a_request_add_up_to_its_latency() -> None:
    stages = {"queue": 0.5, "wait": 0.25, "inference": 1.0, "postprocess": 0.1, "commit": 0.15}
    parts = model.parts([window(mean_ms=3.0, stages_ms=stages)])
    assert sum(parts.values()) == pytest.approx(3.0)
    assert parts["the model"] == 1.0


def test_adaptive_is_held_against_the_best_window() -> None:
    by_policy = {"0": [window(mean_ms=4.0)], "5": [window(mean_ms=2.0)], "adaptive": [window(mean_ms=1.0)]}
    assert policy._against(by_policy, "mean_ms") == 0.5
    by_policy["adaptive"] = [window(mean_ms=None)]
    assert policy._against(by_policy, "mean_ms") is None


def test_all_three_shapes_of_an_answer_are_understood() -> None:
    best = [{"index": 7, "score": 0.9}, {"index": 3, "score": 0.1}]
    assert peers.best_class(best) == peers.best_class({"predictions": best, "id": "x"}) == 7


# --- the waiting model


def test_the_waiting_models_file_can_be_served(tmp_path: Path) -> None:
    from consumer.models.families import build
    from shared.model_config import load, pick

    path = tmp_path / "models.toml"
    path.write_text(waiting_model.models_file(0.0, 0.0))
    made = build("waiting", pick(load(str(path)), "waiting", str(path)))
    assert isinstance(made, Model)
    rows = made.preprocess(Request("one", 1000, content_type="application/octet-stream", body=b"x"))
    outputs = made.run([*rows, *made.sample_rows(2)])
    assert len(outputs) == 3
    answer = made.postprocess(outputs[:1], Request("one", 1000)).outputs
    assert answer is not None
    assert answer[0].shape == (1, 4)


# --- tables


@pytest.mark.parametrize(
    ("changes", "target", "missed"),
    [
        ({"limit": 10.0}, "≥ 10.0/s", False),
        ({"limit": 11.0}, "≥ 11.0/s", True),
        ({"limit": 9.0, "higher_is_better": False}, "≤ 9.0/s", True),
        ({}, "-", False),
    ],
)
def test_the_median_is_held_against_the_target(changes: dict[str, Any], target: str, missed: bool) -> None:
    row = tables.row(figure(**changes))
    assert row is not None
    assert (row.target, row.missed) == (target, missed)
    worst = "12.0/s" if changes.get("higher_is_better") is False else "9.0/s"
    assert row.measured == f"10.0/s (worst {worst})"


def test_what_was_not_measured_has_no_row() -> None:
    assert tables.row(figure(values=[])) is None
    assert tables.rows(section(figures=[figure(values=[])])) == []


def table(**changes: Any) -> Table:
    lines = [
        Cells(what="throughput", unit="per_s", values=[200.0, 700.0, 1000.0]),
        Cells(what="p99 | a bar", unit="ms", values=[None, 50.0, 40.0]),
    ]
    return Table(**{"title": "`m`", "columns": ["off", "on", "chosen"], "lines": lines, **changes})


def test_every_table_of_a_block_has_lines_of_one_width() -> None:
    block = tables.block(results(section(tables=[table()])), ["echo", "absent"])
    widths = [
        {len(re.findall(r"(?<!\\)\|", line)) for line in part.splitlines()}
        for part in block.split("\n\n")
        if part.startswith("|")
    ]
    assert widths == [{5}, {5}, {3}]
    assert "`HEADRACE_APPENDONLY=no`" in block
    assert "A|B processor" in block


def test_columns_are_told_as_multiples_of_the_first() -> None:
    grid = tables.grid(table(compared=True, missing="overloaded"))
    assert grid[0] == ["", "off", "on", "chosen"]
    assert grid[1] == ["throughput", "200/s", "700/s, 3.50 times", "1,000/s, 5.00 times"]
    assert grid[2] == ["p99 | a bar", "overloaded", "50.0 ms", "40.0 ms"]  # nothing to be a multiple of
    quick = table(compared=True, lines=[Cells(what="p50", unit="ms", values=[2872.0, 52.9, 11.8])])
    assert tables.grid(quick)[1] == ["p50", "2,872 ms", "52.9 ms, 0.018 times", "11.8 ms, 0.0041 times"]
    assert tables.grid(table())[1] == ["throughput", "200/s", "700/s", "1,000/s"]


def test_the_three_sides_of_batching_are_medians() -> None:
    def side(rates: tuple[float, ...], offered: dict[float, list[Window]]) -> batching.Side:
        return batching.Side(None, [window(rate_per_s=rate) for rate in rates], offered)  # type: ignore[arg-type]

    sides = {
        batching.OFF: side((90.0, 100.0, 120.0), {}),
        batching.ON: side((400.0,), {0.8: [window(p99_ms=5.0)]}),
        batching.CHOSEN: side((800.0,), {1.5: [window(p99_ms=50.0)]}),
    }
    made = batching.table(sides)
    assert made.columns == list(batching.SIDES)
    assert made.lines[0].values == [100.0, 400.0, 800.0]
    assert made.lines[4].what.startswith("p50 latency at 80/s through REST")
    assert made.lines[5].values == [None, 5.0, None]
    assert made.lines[7].values == [None, None, 50.0]
    figures = batching._figures(sides)
    [gain] = [one for one in figures if one.limit == 5.0]
    assert gain.values == [800 / 90]
    [p99] = [one for one in figures if one.limit == batching.LONGEST_P99_MS]
    assert p99.values == [50.0]


def test_a_reader_is_warned() -> None:
    assert tables.warnings(section()) == []
    quick, busy = tables.warnings(section(quick=True, notes=["busy"]))
    assert "--quick" in quick
    assert busy == "busy"
    assert "> busy" in tables.section_block(section(notes=["busy"]))
    assert "on 2 cores (A|B processor), Linux;" in tables.section_block(section(), tables.place(results(section())))


def test_the_readme_needs_batching() -> None:
    with pytest.raises(ValueError, match="make bench-batching"):
        tables.batching_block(results(section()))


def test_the_terminal_shows_what_was_missed() -> None:
    shown = tables.text(results(section(figures=[figure(limit=11.0)])), ["echo"])
    assert "MISSED" in shown
    assert "`" not in shown


def test_results_survive_their_file() -> None:
    full = results(section(charts=[chart()], tables=[table()], kind="AVX2"))
    assert msgspec.json.decode(msgspec.json.encode(full), type=Results) == full


# --- documents


def test_only_the_block_between_the_markers_changes() -> None:
    begin, end = document.BENCH
    text = f"before\n{begin}\nold\n{end}\nafter\n"
    once = document.replace_block(text, "new")
    assert once == f"before\n{begin}\n\nnew\n\n{end}\nafter\n"
    assert document.replace_block(once, "new") == once


@pytest.mark.parametrize("text", ["", "{0}", "{1}{0}", "{0}{1}{0}{1}"])
def test_a_document_without_its_markers_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"once each|stands before"):
        document.replace_block(text.format(*document.BENCH), "new")


@pytest.mark.parametrize(
    ("page", "between"),
    [
        ("docs/benchmarks.md", document.BENCH),
        ("docs/benchmarks.md", document.PEERS),
        ("README.md", document.BATCHING),
        ("docs/runtimes.md", document.RUNTIMES),
    ],
)
def test_the_pages_have_their_markers(page: str, between: tuple[str, str]) -> None:
    text = (ROOT / page).read_text("utf-8")
    assert document.replace_block(text, "new", between) != text


def test_every_picture_on_the_page_is_there_and_every_picture_is_on_the_page() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    shown = set(re.findall(r"\(img/(bench-[\w-]+\.svg)\)", page))
    assert shown == {path.name for path in (ROOT / "docs" / "img").glob("bench-*.svg")}


# --- pictures


def chart() -> Chart:
    lines = [
        Line(label="off <one by one>", x=[1.0, 2.0, 4.0], y=[10.0, 400.0, 2500.0]),
        Line(label="fitted", x=[1.0, 4.0], y=[12.0, 2400.0], fit=True),
        Line(label="nothing", x=[], y=[]),
    ]
    return Chart(name="one", alt="A & B", panels=[
        Panel(title="a", told="b", lines=lines, x_label="x"),
        Panel(title="a", told="b", lines=lines, y_log=True),
    ])  # fmt: skip


def test_each_panel_has_its_lines_and_a_fitted_one_has_no_points() -> None:
    root = ElementTree.fromstring(charts.draw(chart(), "told"))
    panels = root.findall(f"{SVG}svg")
    assert len(panels) == 2
    for panel in panels:
        wide, tall = (float(panel.attrib[name]) for name in ("width", "height"))
        lines = panel.findall(f"{SVG}polyline")
        assert [line.attrib["class"] for line in lines] == ["line c1", "line c0 fit", "line c0"]
        points = [[tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()] for line in lines]
        assert [len(line) for line in points] == [0, 2, 3]
        assert all(0 < x < wide and 0 < y < tall for line in points for x, y in line)
        heights = [[y for _, y in line] for line in points]
        assert heights == [sorted(line, reverse=True) for line in heights]  # higher values are drawn higher
    assert ".mark.fit { display: none; }" in ElementTree.tostring(root, "unicode")


def test_panels_stand_in_rows_with_one_legend_for_all() -> None:
    panels = [Panel(title=str(n), told="", lines=[Line(label="a", x=[1, 2], y=[1, 2])]) for n in range(6)]
    root = ElementTree.fromstring(charts.draw(Chart(name="c", alt="c", panels=panels, columns=3), ""))
    places = [(float(panel.attrib["x"]), float(panel.attrib["y"])) for panel in root.findall(f"{SVG}svg")]
    assert len({x for x, _ in places}) == 3
    assert len({y for _, y in places}) == 2
    assert [text.text for text in root.findall(f"{SVG}text")].count("a") == 1
    assert all(y + 200 < float(root.attrib["height"]) for _, y in places)


def test_the_parts_of_a_bar_fill_it_and_stay_within() -> None:
    bars = [Bar(label="a", parts={"one": 1.0, "two": 3.0}), Bar(label="b", parts={"one": 100.0, "two": 0.0})]
    picture = charts.draw(Chart(name="b", alt="b", panels=[Panel(title="t", told="t", bars=bars, unit="ms")]), "told")
    root = ElementTree.fromstring(picture)
    found = [(float(r.attrib["x"]), float(r.attrib["width"]), r.attrib["fill"]) for r in root.findall(f"{SVG}rect")][1:]
    assert found[1][1] == pytest.approx(3 * found[0][1], abs=0.2)
    assert found[0][2] == found[2][2] != found[1][2]
    assert all(x + wide < float(root.attrib["width"]) for x, wide, _ in found)


def test_a_picture_of_nothing_is_still_an_image() -> None:
    picture = charts.draw(Chart(name="n", alt="n", panels=[Panel(title="t", told="t")]), "told")
    assert ElementTree.fromstring(picture).tag == f"{SVG}svg"


# --- choices


def test_the_readers_addresses_and_models_are_not_measured() -> None:
    environment = {
        "HEADRACE_REDIS_URL": "redis://elsewhere",
        "HEADRACE_MODELS": "mine",
        "HEADRACE_APPENDONLY": "always",
    }
    assert chosen_settings(environment) == {"HEADRACE_APPENDONLY": "always"}
    assert chosen_settings({}) == {"HEADRACE_APPENDONLY": "no"}


def test_settings_of_other_versions_are_told_apart() -> None:
    assert knows("HEADRACE_PRECISION", "fp32")
    assert not knows("HEADRACE_PRECISION", "fp7")
    assert not knows("HEADRACE_NO_SUCH_THING", "1")


def test_sections_are_chosen_by_name() -> None:
    assert rooms.chosen("memory, echo") == ["echo", "memory"]
    assert "peers" not in rooms.chosen(None)
    assert "runtimes" in rooms.chosen(None)
    assert not {"peers", "runtimes"} & set(rooms.documented())
    with pytest.raises(ValueError, match="no section nothing"):
        rooms.chosen("nothing")


@pytest.mark.parametrize(("limit_s", "measured"), [(float("inf"), [1, 2, 3]), (float("-inf"), [1])])
def test_a_late_section_measures_one_round_and_says_so(limit_s: float, measured: list[int], tmp_path: Path) -> None:
    bench = Bench(False, {}, tmp_path, print, Generator(tmp_path), [])
    assert list(bench.rounds(3, "echo", limit_s)) == measured
    assert bench.notes == ([] if len(measured) == 3 else ["echo: 1 of 3 rounds, because this machine is slow or busy."])


@pytest.mark.parametrize(
    ("text", "seconds"), [("0:01.50", 1.5), ("01:02:03", 3723.0), ("1-00:00:01", 86401.0), ("", 0.0)]
)
def test_the_clock_of_ps_is_read(text: str, seconds: float) -> None:
    assert processes.parse_clock_s(text) == seconds


def test_the_figures_of_h2load_are_read() -> None:
    found = h2load.parse(
        "finished in 2.00s, 540.50 req/s, 77.68MB/s\n"
        "requests: 1083 total, 1129 started, 1083 done, 1081 succeeded, 1 failed, 1 errored, 0 timeout\n"
        "time for request:    840us    239.39ms     87.70ms     25.92ms    74.65%\n"
    )
    assert (found.requests, found.failed, found.rate_per_s, found.mean_ms) == (1081, 2, 540.5, 87.7)
    argv = h2load.argv("h2load", "127.0.0.1:1", Path("m"), 8, 6, 1.5)
    assert argv[-1] == "http://127.0.0.1:1/inference.GRPCInferenceService/ModelInfer"


@pytest.mark.parametrize(
    "output", ["", "finished in 1s, 0 req/s\nrequests: 1 total, 0 succeeded, 1 failed, 0 errored, 0 timeout\n"]
)
def test_h2load_without_an_answer_has_no_figures(output: str) -> None:
    with pytest.raises(ValueError, match="h2load"):
        h2load.parse(output)
