"""The parts of `make bench` that measure nothing: reading figures, tables, the picture, the document's block."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadgen.runfile import Machine
from tests.children import ROOT
from tests.perf import document, picture, processes, sections, tables, wrk
from tests.perf.figures import DirectRun, Overhead, Results, Start, Window, spread
from tests.perf.load import ECHO_BODY
from tests.perf.stack import BenchError, chosen_settings

FIGURES = (
    "figures requests=40001 duration_us=4000100 mean_us=3100.5 p50_us=2900.0 p99_us=7654.0 max_us=20000.0 "
    "status=1 connect=0 read=2 write=0 timeout=0"
)


def window(subject: str = "echo", connections: int = 32, **changes: Any) -> Window:
    figures = Window(
        subject=subject, connections=connections, duration_s=4.0, requests=40_000, failed=0, rate_per_s=10_500.0,
        mean_ms=3.1, p50_ms=2.9, p99_ms=7.0,
    )  # fmt: skip
    return msgspec.structs.replace(figures, **changes)


def results(windows: list[Window], **changes: Any) -> Results:
    made = Results(
        started_at="2026-11-23T10:00:00+00:00", took_s=250.0, quick=False,
        machine=Machine("Linux", "A|B processor", 2, 4 * 2**30, "3.11.7", 0.1),
        commit=None, versions={"torch": "2.15.0", "server": "Valkey 9.1"}, settings={"HEADRACE_APPENDONLY": "everysec"},
        echo_settings={"HEADRACE_APPENDONLY": "everysec", "HEADRACE_WINDOW_MS": "0"}, generator="wrk 4.1.0",
        steal_share=0.004, starts=[], overheads=[], windows=windows, direct=[], resident_bytes={}, notes=[],
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


@pytest.fixture
def full() -> Results:
    """Results with something in every section."""
    echo = [window(connections=connections, cpu_us={"front end": 40.0, "Redis": 17.0, "consumer echo": 10.0})
            for connections in (1, 32, 128)]  # fmt: skip
    bare = [window("bare", rate_per_s=21_000.0, cpu_us={"server": 35.0})]
    models = [
        window(model, max_batch=most, rate_per_s=rate, busy_share=0.97, batch_rows=float(most))
        for model, off, on in (("imagenet", 30.0, 33.0), ("bench-mobilenet", 100.0, 250.0))
        for most, rate in ((32, on), (1, off))
    ]
    return results(
        echo + bare + models,
        starts=[Start(ready_s=4.0, front_end_bytes=45_000_000, consumer_bytes=1_100_000_000)],
        overheads=[Overhead(consumer_bytes=840_000_000, bare_bytes=820_000_000)],
        direct=[DirectRun(requests=50_000, failed=0, rate_per_s=20_000.0)],
        resident_bytes={"front end, after the echo load": 81_000_000},
    )


def row(found: Results, start: str) -> tables.Row:
    return next(row for row in tables.rows(found) if row.what.startswith(start))


def test_the_line_of_the_lua_script_is_read() -> None:
    read = wrk.parse(f"Running 4s test\n{FIGURES}\n", "echo", 32)
    assert (read.requests, read.failed) == (40_000, 3)  # answers with an error status are not requests served
    assert read.rate_per_s == pytest.approx(40_000 / 4.0001)
    assert (read.mean_ms, read.p50_ms, read.p99_ms) == (3.1005, 2.9, 7.654)


@pytest.mark.parametrize("output", ["", "unable to connect to 127.0.0.1:1 Connection refused\n"])
def test_wrk_without_figures_is_an_error(output: str) -> None:
    with pytest.raises(ValueError, match="no figures"):
        wrk.parse(output, "echo", 1)


def test_wrk_without_answers_is_an_error() -> None:
    with pytest.raises(ValueError, match="no answer"):
        wrk.parse(FIGURES.replace("requests=40001", "requests=0"), "echo", 1)


def test_wrk_sends_the_body_that_is_checked_beforehand() -> None:
    script = (ROOT / wrk.SCRIPT).read_text()
    match = re.search(r'wrk\.body = string\.rep\("(\w+)", (\d+)\)', script)
    assert match is not None
    assert match[1].encode() * int(match[2]) == ECHO_BODY
    assert len(ECHO_BODY) == 64


@pytest.mark.parametrize("seconds", ["in 0.31 s: 16120", "16120.0"])
def test_the_direct_producers_last_line_is_read(seconds: str) -> None:
    run = sections.parse_direct(f"something\n5000 answered, 2 failed, 1 unknown, {seconds} items/s\n")
    assert run == DirectRun(requests=5000, failed=3, rate_per_s=16_120.0)


def test_a_direct_producer_without_a_rate_is_an_error() -> None:
    with pytest.raises(BenchError, match="Traceback"):
        sections.parse_direct("Traceback (most recent call last)")


def test_median_and_worst_depend_on_what_is_better() -> None:
    rate, latency = (
        spread([3.0, 1.0, 2.0], higher_is_better=True),
        spread([3.0, None, 1.0, 2.0], higher_is_better=False),
    )
    assert rate is not None
    assert latency is not None
    assert (rate.median, rate.worst, latency.median, latency.worst) == (2.0, 1.0, 2.0, 3.0)
    assert spread([None], higher_is_better=True) is None


def test_the_median_is_held_against_the_target(full: Results) -> None:
    assert not row(full, "echo, 32 connections: requests/s").missed
    slow = msgspec.structs.replace(full, windows=[*full.windows, *[window(rate_per_s=9_000.0, p99_ms=8.1)] * 2,
                                                  *[window("bare")] * 2])  # fmt: skip
    assert row(slow, "echo, 32 connections: requests/s").missed
    assert row(slow, "echo, 32 connections: p99").missed
    assert row(full, "front end, after the echo load").missed
    assert row(full, "consumer's own overhead").measured == "20 MB"


def test_the_ratio_is_taken_within_each_round() -> None:
    rates = [(10_000.0, 20_000.0), (5_000.0, 20_000.0), (9_000.0, 10_000.0)]
    windows = [w for ours, theirs in rates
               for w in (window(rate_per_s=ours), window("bare", rate_per_s=theirs))]  # fmt: skip
    assert row(results(windows), "echo over the web server").measured == "0.50 (worst 0.25)"


def test_every_row_has_a_command_and_the_block_is_a_table(full: Results) -> None:
    assert all(row.command for row in tables.rows(full))
    block = tables.block(full)
    lines = [line for line in block.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {4, 5, 8}
    assert "up to 32" in block
    assert "2.50" in block
    assert "`HEADRACE_APPENDONLY=everysec` (and for echo `HEADRACE_WINDOW_MS=0`)" in block


def test_what_was_not_measured_has_no_row_and_no_invented_figure() -> None:
    empty = results([])
    assert tables.rows(empty) == []
    lines = [line for line in tables.block(empty).splitlines() if line.startswith("|")]
    assert len(lines) == 3 * 2  # the heads of the tables
    assert tables.text(empty)


def test_a_reader_is_warned(full: Results) -> None:
    assert tables.warnings(full) == []
    doubtful = msgspec.structs.replace(full, quick=True, notes=["busy"], windows=[window(failed=2)])
    quick, busy, failed = tables.warnings(doubtful)
    assert "--quick" in quick
    assert busy == "busy"
    assert failed == "2 requests failed."


def test_results_survive_their_file(full: Results) -> None:
    assert msgspec.json.decode(msgspec.json.encode(full), type=Results) == full


def test_only_the_block_between_the_markers_changes() -> None:
    text = f"before\n{document.BEGIN}\nold\n{document.END}\nafter\n"
    once = document.replace_block(text, "new")
    assert once == f"before\n{document.BEGIN}\n\nnew\n\n{document.END}\nafter\n"
    assert document.replace_block(once, "new") == once


@pytest.mark.parametrize(
    "text", ["", document.BEGIN, document.END + document.BEGIN, (document.BEGIN + document.END) * 2]
)
def test_a_document_without_its_markers_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"once each|stands before"):
        document.replace_block(text, "new")


def test_the_page_has_its_markers() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    assert document.replace_block(page, "new") != page


def test_the_picture_is_an_image_that_stays_within_its_frame(full: Results) -> None:
    root = ElementTree.fromstring(picture.draw(full))
    width, height = (float(root.attrib[name]) for name in ("width", "height"))
    bars = root.findall("{http://www.w3.org/2000/svg}rect")
    assert len(bars) == 1 + 2 + 4 + 6  # background, legend, two models twice, three pairs
    for bar in bars:
        x, y, wide, tall = (float(bar.attrib[name]) for name in ("x", "y", "width", "height"))
        assert 0 <= x <= x + wide <= width
        assert 0 <= y <= y + tall <= height


def test_a_picture_of_nothing_is_still_an_image() -> None:
    ElementTree.fromstring(picture.draw(results([])))


def test_the_readers_addresses_and_models_are_not_measured() -> None:
    environment = {"HEADRACE_REDIS_URL": "redis://elsewhere", "HEADRACE_MODELS": "mine", "HEADRACE_APPENDONLY": "no"}
    assert chosen_settings(environment) == {"HEADRACE_APPENDONLY": "no"}
    assert chosen_settings({}) == {"HEADRACE_APPENDONLY": "everysec"}


@pytest.mark.parametrize(("ends_s", "measured"), [(float("inf"), [1, 2, 3]), (float("-inf"), [1])])
def test_a_late_run_measures_one_round_of_everything_and_says_so(
    ends_s: float, measured: list[int], tmp_path: Path
) -> None:
    bench = sections.Bench(sections.QUICK, {}, tmp_path, print, [], ends_s)
    assert list(bench.rounds(3, "echo", float("inf"))) == measured
    assert bench.notes == ([] if len(measured) == 3 else ["echo: 1 of 3 rounds, because this machine is slow or busy."])


@pytest.mark.parametrize(
    ("text", "seconds"), [("0:01.50", 1.5), ("01:02:03", 3723.0), ("1-00:00:01", 86401.0), ("", 0.0)]
)
def test_the_clock_of_ps_is_read(text: str, seconds: float) -> None:
    assert processes.parse_clock_s(text) == seconds
