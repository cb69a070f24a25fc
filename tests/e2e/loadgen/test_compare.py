"""Comparing two services as a CI job does: the commands as processes, real servers, and their exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.loadgen.bench import Bench, make_bench
from tests.proof.null_server import Behaviour, null_server

BUDGETS = """\
[models.null]
mean_ms = 250
p95_ms = 500
rate_per_s = 200
duration_s = 0.6
payload = "photo.jpg"
window_s = 0.1
offline_requests = 30
concurrency = 10

[gate]
pairs = 9
most_pairs = 9
too_noisy = 10
"""
"""Too noisy to tell is switched off: these tests run beside others."""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return make_bench(tmp_path, BUDGETS)


def compared(bench: Bench, base: Behaviour, candidate: Behaviour, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Compare two null servers; then a run against the candidate is judged with it by `judged`."""
    with ExitStack() as held:
        ports = [held.enter_context(null_server(behaviour)).port for behaviour in (base, candidate)]
        ran = bench.run_budgets(ports[1])
        assert ran.returncode == 0, ran.stderr
        return bench.run(*arguments_for(ports[0], ports[1]), *arguments)


def arguments_for(base: int, candidate: int) -> list[str]:
    urls = [f"http://127.0.0.1:{port}" for port in (base, candidate)]
    names = ("--base", urls[0], "--candidate", urls[1], "--model", "null", "--budgets", "budgets.toml", "--out", "out")
    return ["compare", *names]


def judged(bench: Bench) -> subprocess.CompletedProcess[str]:
    return bench.gate("--compare", "out/compare.json", "--report", "report")


SLOW = Behaviour(delay_s=0.02)


def test_alike_passes(bench: Bench) -> None:
    done = compared(bench, SLOW, SLOW)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("pair ") == 9
    found = bench.written("compare")
    assert [pair["first"] for pair in found["pairs"][:3]] == ["base", "candidate", "base"]
    assert len({pair["seed"] for pair in found["pairs"]}) == 9
    assert all(
        pair[side]["ok"] == pair[side]["scheduled"] == 50 for pair in found["pairs"] for side in ("base", "candidate")
    )
    passed = judged(bench)
    assert passed.returncode == 0, passed.stdout
    assert "no worse than" in passed.stdout
    assert "Candidate against base" in (bench.folder / "report" / "report.html").read_text()


def test_twice_as_slow_within_its_budgets_is_a_regression(bench: Bench) -> None:
    done = compared(bench, SLOW, Behaviour(delay_s=0.04))
    assert done.returncode == 0, done.stderr
    assert "measuring a second, independent batch" in done.stderr
    assert "null: the candidate is slower" in done.stdout
    failed = judged(bench)
    assert failed.returncode == 11, failed.stdout
    assert "null: REGRESSION" in failed.stdout
    assert bench.gate().returncode == 0  # without the comparison nothing is wrong


def body(label: str, score: float) -> Behaviour:
    answer = {"id": "null", "predictions": [{"label": label, "index": len(label), "score": score}]}
    return Behaviour(delay_s=0.02, body=json.dumps(answer).encode())


def test_faster_because_wrong_is_a_failure_of_its_own(bench: Bench) -> None:
    done = compared(bench, body("cat", 0.9), replace(body("dogs", 0.9), delay_s=0.0))
    assert done.returncode == 0, done.stderr
    wrong = judged(bench)
    assert wrong.returncode == 12, wrong.stdout
    assert "null: WRONG ANSWERS" in wrong.stdout
    assert "The candidate does not answer photo.jpg as the base does: by " in wrong.stdout
    assert "Wrong answers" in (bench.folder / "report" / "report.html").read_text()


@pytest.mark.soak  # what the setting allows is in tests/unit/loadgen
def test_answers_may_differ_by_little(bench: Bench) -> None:
    done = compared(bench, body("cat", 0.9), body("cat", 0.891))
    assert done.returncode == 0, done.stderr
    [answer] = bench.written("compare")["answers"]
    assert answer["difference"] == pytest.approx(0.01)
    assert answer["own_difference"] == 0
    assert judged(bench).returncode == 12  # a hair above
    (bench.folder / "budgets.toml").write_text(BUDGETS.replace("[gate]", "answers_within = 0.011\n\n[gate]"))
    assert judged(bench).returncode == 0


@pytest.mark.soak
def test_a_candidate_that_fails_is_invalid_and_not_fast(bench: Bench) -> None:
    done = compared(bench, SLOW, Behaviour(fail_every=300))
    assert done.returncode == 0, done.stderr
    invalid = judged(bench)
    assert invalid.returncode == 20
    assert "requests of the candidate failed" in invalid.stdout


def test_a_comparison_that_is_missing_is_invalid(bench: Bench) -> None:
    with null_server() as server:
        bench.run_budgets(server.port)
    missing = judged(bench)
    assert missing.returncode == 20
    assert "Cannot read out/compare.json" in missing.stdout
    (bench.folder / "out" / "compare.json").write_text("{}")
    assert judged(bench).returncode == 20


def test_ctrl_c_keeps_what_was_measured_and_the_gate_calls_it_invalid(bench: Bench) -> None:
    with null_server(SLOW) as base, null_server(SLOW) as candidate:
        ran = bench.run_budgets(base.port)
        assert ran.returncode == 0
        command = bench.command(*arguments_for(base.port, candidate.port))
        options: dict[str, Any] = {"cwd": bench.folder, "env": bench.environment(), "text": True}
        with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, **options) as process:
            assert process.stderr is not None
            assert process.stderr.readline().startswith("pair  1 of 9")
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=20) == 130
    found = bench.written("compare")
    assert found["partial"] is True
    assert 0 < len(found["pairs"]) < 9
    invalid = judged(bench)
    assert invalid.returncode == 20
    assert "The comparison was broken off" in invalid.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--base", "http://127.0.0.1:9"), 1, "Cannot reach http://127.0.0.1:9"),
        (("--base", "git:no-such-commit"), 2, "There is no commit 'no-such-commit' here"),
        (("--base", "photo.jpg"), 2, "neither an address nor a checkout"),
        (("--base-set", "MAX_BATCH=1"), 2, "write HEADRACE_NAME=VALUE"),
        (("--pairs", "3"), 2, "--pairs cannot be 3"),
        (("--model", "nul"), 2, "--payload FILE"),
        (("--model", "nul", "--payload", "photo.jpg", "--rate", "5"), 1, "has no model named 'nul'"),
    ],
)
def test_mistakes_get_one_sentence(bench: Bench, arguments: tuple[str, ...], code: int, says: str) -> None:
    with null_server() as server:
        failed = bench.run(*arguments_for(server.port, server.port), *arguments)
    assert failed.returncode == code, failed.stderr
    assert says in failed.stderr.splitlines()[-1]
    assert "Traceback" not in failed.stderr
    assert not (bench.folder / "out" / "compare.json").exists()


def test_loosened_budgets_are_shown_as_annotations(bench: Bench) -> None:
    (bench.folder / "base.toml").write_text(BUDGETS.replace("mean_ms = 250", "mean_ms = 100"))
    with null_server() as server:
        bench.run_budgets(server.port)
    summary = bench.folder / "summary.md"
    shown = bench.gate("--base-budgets", "base.toml", environment={"GITHUB_STEP_SUMMARY": str(summary)})
    assert shown.returncode == 0, shown.stdout
    assert "::warning title=Worth a second look::null: mean_ms was loosened from 100 to 250." in shown.stdout
    assert "mean\\_ms was loosened" in summary.read_text()
    unreadable = bench.gate("--base-budgets", "missing.toml")
    assert unreadable.returncode == 0
    assert unreadable.stderr == ""
    assert "warning: Nobody saw whether budgets were loosened: Cannot read missing.toml" in unreadable.stdout
