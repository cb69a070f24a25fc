"""Figures of chats stand wherever those of latency do: terminal, Markdown, page, pictures, results."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from loadgen.reports.svg import draw
from loadgen.reports.text import run_text, sweep_markdown
from loadgen.reports.writing import Material, write_reports
from loadgen.results import files, runfile
from loadgen.results.ledger import TIMEOUT, Ledger, Told
from loadgen.results.sweepfile import Point, SweepFile
from loadgen.workloads.spec import make_workload
from tests.unit.loadgen.runs import START_S
from tests.unit.loadgen.workloads.chat_runs import chat_run, with_workload, workload_of
from tests.unit.loadgen.workloads.test_chat_gate import budgets


def run() -> runfile.RunFile:
    return chat_run(200, lambda number: (20.0 + number, 10.0 + number / 20))


def embed_run() -> runfile.RunFile:
    ledger = Ledger(reads_texts=True)
    for number in range(100):
        index = ledger.open(START_S + number / 50, START_S + number / 50, 0, False)
        ledger.sent_s[index] = START_S + number / 50
        ledger.told[index] = Told(texts=3, prompt_tokens=30)
        ledger.close(index, 0, START_S + number / 50 + 0.01)
    return with_workload(ledger, make_workload({"kind": "embed", "most_texts": 4}))


def sweep() -> SweepFile:
    points = []
    for rate, ttft in ((5.0, 20.0), (10.0, 25.0), (20.0, 60.0), (40.0, 400.0)):
        made = chat_run(200, lambda number, ttft=ttft: (ttft + number / 10, 10.0))  # type: ignore[misc]
        points.append(Point(rate, rate, rate, 200, 0, True, ttft < 100, made.latency.from_planned, tokens=made.tokens))
    return SweepFile(
        "headrace-sweep", 1, "2026-11-23T10:00:00", False, "u", "talk", 1, 4.0, None, None, 20.0, run().machine, None,
        points, workload_of(), 0.9,
    )  # fmt: skip


@pytest.mark.parametrize("made", [run(), embed_run(), chat_run(3, lambda number: (1.0, 1.0), tokens=1)])
def test_results_follow_their_schema_and_read_back(made: runfile.RunFile, tmp_path: Path) -> None:
    schema = json.loads(Path(files.__file__).with_name("run.schema.json").read_text())
    data = files.encode(made)
    jsonschema.Draft202012Validator(schema).validate(json.loads(data))
    (tmp_path / "run.json").write_bytes(data)
    assert files.read(tmp_path / "run.json", runfile.RunFile) == made


def test_a_sweep_follows_its_schema() -> None:
    schema = json.loads(Path(files.__file__).with_name("sweep.schema.json").read_text())
    assert list(jsonschema.Draft202012Validator(schema).iter_errors(json.loads(files.encode(sweep())))) == []


def test_a_result_from_before_there_were_workloads_can_be_read(tmp_path: Path) -> None:
    old: dict[str, Any] = json.loads(files.encode(msgspec.structs.replace(run(), tokens=None)))
    del old["tokens"], old["requests"]["tokens"], old["configuration"]["workload"], old["counts"]["aborted"]
    (tmp_path / "run.json").write_text(json.dumps(old))
    assert files.read(tmp_path / "run.json", runfile.RunFile).tokens is None


def test_the_terminal_and_the_report_have_them(tmp_path: Path) -> None:
    text = run_text(run(), Path("run.json"))
    for line in (
        "ttft          mean 119.5 ms  p50 119 ms  p95 209 ms",
        "itl           mean 14.97 ms",
        "worst gap     mean 29.95 ms",
        "goodput       40.5% of the requests, 20.25/s, TTFT within 100 ms and ITL within 20 ms",
        "prompt tokens 8,000, ",
        "output tokens 2,200, ",
    ):
        assert line in text
    html, markdown = write_reports(tmp_path, Material(budgets=budgets(), run=run(), sweep=sweep()))
    page = html.read_text()
    for found in ("time to first token, p95", "between tokens, p95", "40.5%, 20.25/s", "p95 budget 100 ms"):
        assert found in page
    for found in ("Time to first token", "Goodput against rate", "target, 90% of that", "TTFT objective 100 ms"):
        assert found in page
    assert "goodput       40.5% of the requests" in markdown.read_text()


def test_texts_for_vectors_have_their_own() -> None:
    text = run_text(embed_run(), Path("run.json"))
    assert "texts         300, 150/s" in text
    assert "prompt tokens 3,000, 1,500/s" in text
    assert "ttft" not in text
    point = msgspec.structs.replace(sweep().points[0], tokens=embed_run().tokens)
    table = sweep_markdown(msgspec.structs.replace(sweep(), points=[point]))
    assert "| texts | tokens |" in table and "| 150/s | 1,500/s |" in table
    assert [figure.key for figure in Material(run=embed_run()).figures()] == ["percentiles", "timeline"]


def test_a_sweep_as_a_table_and_as_pictures() -> None:
    table = sweep_markdown(sweep())
    assert "| TTFT p95 | ITL p95 | goodput | output tokens |" in table
    assert "| 38.9 ms | 10 ms | 100.0% | " in table
    keys = [figure.key for figure in Material(sweep=sweep()).figures()]
    assert keys == ["sweep", "sweep-tokens", "sweep-goodput"]


@pytest.mark.parametrize("width", [330, 560, 1150])
def test_every_picture_is_inside_its_frame(width: int) -> None:
    some_failed = chat_run(50, lambda number: (5.0, 0.0), outcome_of=lambda number: TIMEOUT if number % 5 == 0 else 0)
    for material in (Material(run=run(), budgets=budgets(), sweep=sweep()), Material(run=some_failed)):
        for figure in material.figures():
            root = ElementTree.fromstring(draw(figure, width))
            for element in root.iter():
                for names, most in ((("x", "x1", "x2", "cx"), width), (("y", "y1", "y2", "cy"), figure.height)):
                    for name in names:
                        if name in element.attrib:
                            assert -1 <= float(element.attrib[name]) <= most + 1, (figure.key, element.attrib)


def test_nothing_succeeded() -> None:
    failed = chat_run(20, lambda number: (5.0, 5.0), outcome_of=lambda number: TIMEOUT)
    assert [figure.key for figure in Material(run=failed).figures()] == ["timeline"]
    assert "ttft          mean infinite" in run_text(failed, Path("run.json"))
