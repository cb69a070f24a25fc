"""What people and GitHub get to read."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import msgspec

from loadgen.budgets import parse_budgets
from loadgen.gate.github import annotation_lines
from loadgen.gate.run_gate import judge
from loadgen.gate.verdict import Check, Verdict, unusable
from loadgen.progress import PlainProgress, Snapshot
from loadgen.reports import text
from loadgen.results import runfile
from loadgen.results.ledger import TIMEOUT, Ledger
from tests.unit.loadgen.runs import good_run, make_ledger, make_run

BUDGETS = parse_budgets("[models.imagenet]\nmean_ms = 250\np95_ms = 500\n", "budgets.toml")


def test_the_verdict_shows_measured_value_budget_and_count() -> None:
    run = make_run(make_ledger([600.0] * 200))
    verdict = judge(BUDGETS, run)
    for shown in (text.verdict_text(verdict), text.verdict_markdown(verdict, run)):
        for figure in ("600 ms", "250 ms", "500 ms", "200 of 200", "at most 3"):
            assert figure in shown
    assert "imagenet: OVER BUDGET" in text.verdict_text(verdict)


def test_an_invalid_run_has_its_budgets_shown_as_not_judged() -> None:
    run = make_run(make_ledger([600.0] * 80))
    shown = text.verdict_text(judge(BUDGETS, run))
    assert "imagenet: INVALID" in shown
    assert shown.count("not judged") == 3
    assert "Cannot read x." in text.verdict_markdown(Verdict(None, (unusable("Cannot read x."),)), None)


def test_annotations_are_ten_at_most_and_escaped() -> None:
    checks = tuple(Check("validity", "n", "m", "r", False, f"reason {number}: 100%\nnext") for number in range(14))
    lines = annotation_lines(Verdict("m", checks))
    assert len(lines) == 10
    assert lines[0] == "::error title=Performance gate%3A invalid::reason 0: 100%25%0Anext"
    assert "5 further lines" in lines[-1]
    assert annotation_lines(judge(BUDGETS, good_run())) == []


def test_what_a_service_says_does_not_become_markup() -> None:
    run = good_run()
    service = msgspec.structs.replace(run.service, card={"name": "imagenet", "warnings": ["<img src=x> | a\n# b"]})
    run = msgspec.structs.replace(run, service=service)
    assert r"\<img src=x\> \| a # b" in text.verdict_markdown(judge(BUDGETS, run), run)


def test_a_run_in_a_few_lines() -> None:
    sizes = runfile.Histogram("headrace_batch_size", {"model": "imagenet"}, 100, 250, 2.5, [])
    stage = runfile.Histogram(
        "headrace_stage_duration_seconds", {"model": "imagenet", "stage": "inference"}, 100, 1.2, 0.012, []
    )
    run = good_run(service=runfile.Service(None, None, None, None, None, [sizes, stage]))
    shown = text.run_text(run, Path("out/run.json"))
    for part in (
        "1000 of 1000 requests answered",
        "mean 100 ms",
        "mean size 2.5",
        "inference   mean 12 ms",
        "out/run.json",
    ):
        assert part in shown
    failing = text.run_text(make_run(make_ledger([5.0] * 10, TIMEOUT, failures=1)), Path("x"))
    assert "mean infinite" in failing
    assert "1 x timeout" in failing
    assert "nothing measured" in text.run_text(make_run(Ledger()), Path("x"))


def test_progress_in_plain_lines() -> None:
    stream = StringIO()
    shown = PlainProgress(stream)
    shown.show(Snapshot(1.0, 30.0, False, 5, 1, 2, 0.5, (1.0, 2.0, float("inf"))))
    shown.show(Snapshot(2.0, 30.0, True, 5, 1, 2, 1.0, ()))
    shown.show(Snapshot(3.0, 30.0, False, 5, 1, 2, 1.0, (9.0,), (4.0, 5.0)))
    assert stream.getvalue().splitlines() == [
        "measure    1/30 s  6/s  p50 2 ms  p95 failed  p99 failed  ok 5  failed 1  in flight 2",
        "warm-up    2/30 s  0/s  p50 -  p95 -  p99 -  ok 5  failed 1  in flight 2",
        "measure    3/30 s  1/s  p50 9 ms  p95 9 ms  p99 9 ms  ok 5  failed 1  in flight 2  ttft p95 5 ms",
    ]
