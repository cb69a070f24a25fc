"""The gate's larger parts on real stacks: direct producers, stacks that are started, mutants, CI's own steps."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from loadgen.load.runner import plan
from tests.children import ROOT
from tests.e2e.loadgen.bench import Bench, make_bench, only_sentence
from tests.e2e.stack import Stack, echo_models
from tests.helpers import eventually, first
from tests.proof import selftest
from tests.proof.mutants import MUTANTS, Mutant, enough


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return make_bench(tmp_path, "[models.x]\nmean_ms = 250\np95_ms = 500\n")


def test_straight_onto_the_stream_and_in_msgpack(bench: Bench, valkey_url: str, model_name: str) -> None:
    models = echo_models(bench.folder, model_name)
    (bench.folder / "budgets.toml").write_text(f"[models.{model_name}]\nmean_ms = 5000\n")
    common = ("--model", model_name, "--payload", "photo.jpg", "--content-type", "application/octet-stream")
    load = (*common, "--rate", "200", "--duration", "1s", "--warmup", "100ms", "--timeout", "20s", "--out", "out")
    with Stack(valkey_url, models) as stack:
        consumer = stack.start_consumer(model_name)
        address = consumer.until("metrics at ").rpartition("metrics at ")[2].rstrip(".")
        stack.start_front_end()
        stack.wait(model_name)
        direct = bench.run("run", "--url", valkey_url, "--metrics", address, *load)
        assert direct.returncode == 0, direct.stderr
        run = bench.written()
        assert run["counts"]["ok"] == run["counts"]["scheduled"] == 200
        assert run["service"]["card"]["name"] == model_name
        assert run["service"]["requests"] is None  # no front end had a part in it
        assert run["service"]["items"]["delta"] == run["validity"]["answered"] == 220
        assert bench.gate().returncode == 0
        packed = bench.run("run", "--url", stack.url, "--accept", "msgpack", *load)
        assert packed.returncode == 0, packed.stderr
        assert bench.written()["counts"]["ok"] == 200
        large = bench.folder / "large.bin"
        large.write_bytes(b"x" * 40_000)  # longer than a hint may be, so each reply is looked up
        more = ("--payload", "large.bin", "--concurrency", "4", "--requests", "30", "--warmup", "0", "--out", "out")
        looked_up = bench.run("run", "--url", valkey_url, "--model", model_name, *more)
        assert looked_up.returncode == 0, looked_up.stderr
        assert bench.written()["counts"]["ok"] == 30
        unknown = bench.run("run", "--url", valkey_url, *load, "--model", "nobody")
        assert (unknown.returncode, only_sentence(unknown)[-37:]) == (1, "no consumer has ever served it there.")


def test_a_redis_that_is_none_and_a_redis_that_is_away(bench: Bench) -> None:
    load = ("--model", "m", "--payload", "photo.jpg", "--rate", "5", "--out", "out")
    away = bench.run("run", "--url", "redis://127.0.0.1:9", *load)
    assert away.returncode == 1
    assert only_sentence(away) == "loadgen: Cannot reach redis://127.0.0.1:9/0: Connection refused."
    secret = bench.run("run", "--url", "redis://:secret@127.0.0.1:9/x", *load)
    assert secret.returncode == 2
    assert "secret" not in secret.stderr


def test_the_servers_log_agrees_with_the_generator() -> None:
    scenario = selftest.open_loop(200.0, 1.0)
    run, log = selftest.measure(scenario)
    assert run.counts.ok == run.counts.scheduled == len(log.arrived_s) == 200
    assert selftest.gap_distance(log.arrived_s, plan(scenario)) < 0.35
    crowded, seen = selftest.measure(selftest.closed_loop(0.5, 7), "--delay-ms", "5")
    assert seen.most_under_way == crowded.validity.most_in_flight == 7
    assert len(seen.arrived_s) == crowded.counts.ok


def test_gaps_that_are_not_as_planned_are_noticed() -> None:
    planned = plan(selftest.open_loop(200.0, 5.0))
    assert selftest.gap_distance([time_s + 3.5 for time_s in planned], planned) < 1e-9 + 0.01
    together = [round(time_s * 20) / 20 for time_s in planned]  # sent in bunches, every 50 ms
    assert selftest.gap_distance(together, planned) > 0.5
    assert selftest.gap_distance([], planned) == 1.0


SYNTHETIC = """\
[models.synthetic]
family = "python"
entry = "examples.synthetic_model:create"
max_batch = 16
window_ms = 2
options = { batch_ms = 5, row_ms = 0.1 }
"""
SHORT = """\
[models.synthetic]
mean_ms = 5000
rate_per_s = 100
duration_s = 1
payload = "LICENSE"
precision = "fp32"
window_s = 0.1
offline_requests = 30
concurrency = 10

[gate]
pairs = 9
most_pairs = 9
too_noisy = 10
mean_margin = 10
p95_margin = 10
throughput_margin = 0.99
"""


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository as GitHub checks out a pull request, with this working tree's files and a short, forgiving gate.

    The pull request has one commit. Meanwhile somebody else has landed one on main that answers otherwise; HEAD is the
    merge of the one into the other.
    """
    folder = tmp_path_factory.mktemp("checkout") / "repository"
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, tracked.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / "models.toml").write_text(SYNTHETIC)
    (folder / "budgets.toml").write_text(SHORT)
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "where the pull request began")
    git(folder, "branch", "began")
    git(folder, "checkout", "--quiet", "-b", "change")
    (folder / "CHANGELOG.md").write_text("changed")
    git(folder, "commit", "--quiet", "--all", "--message", "the pull request's own")
    git(folder, "checkout", "--quiet", "main")
    (folder / "models.toml").write_text(SYNTHETIC.replace("row_ms = 0.1", "row_ms = 0.1, wrong = 1"))
    git(folder, "commit", "--quiet", "--all", "--message", "somebody else's")
    git(folder, "branch", "landed")
    git(folder, "merge", "--quiet", "--no-ff", "--message", "the pull request, merged", "change")
    # An environment that is there already, as `make venv` leaves it.
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (folder / ".venv" / "bin" / "python").chmod(0o755)
    (folder / ".venv" / ".installed").touch()
    return folder


def steps(workflow: str, job: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((ROOT / ".github" / "workflows" / workflow).read_text())["jobs"][job][
        "steps"
    ]
    return [step for step in found if "run" in step]


def run_steps(workflow: str, job: str, folder: Path, values: dict[str, str], **more: str) -> list[int]:
    """Run every `run:` step of a job as GitHub does, with `${{ … }}` replaced by `values`; returns the exit codes."""
    codes = []
    for step in steps(workflow, job):
        chosen = {name: values.get(text, text) for name, text in step.get("env", {}).items()}
        assert not any("${{" in text for text in (*chosen.values(), step["run"])), step
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "HEADRACE_"))
        }
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]],
            cwd=folder,
            env={**environment, **chosen, "GITHUB_ACTIONS": "true", **more},
            capture_output=True,
            text=True,
            timeout=100,
        )
        codes.append(done.returncode)
        (folder / f"step{len(codes)}.log").write_text(done.stdout + done.stderr)
    return codes


@pytest.mark.soak  # a comparison of whole stacks; the parts of its command are below
@pytest.mark.timeout(150)
def test_every_step_of_the_performance_workflow(checkout: Path, tmp_path: Path) -> None:
    values = {"${{ matrix.model }}": "synthetic"}
    summary = tmp_path / "summary.md"
    pull_request = {"GITHUB_REF": "refs/pull/7/merge", "GITHUB_SHA": git(checkout, "rev-parse", "HEAD")}
    codes = run_steps("performance.yml", "gate", checkout, values, GITHUB_STEP_SUMMARY=str(summary), **pull_request)
    assert codes == [0, 0], (checkout / "step2.log").read_text()
    assert (checkout / "out" / "notes").is_dir()  # what the first stack found out, for both sides
    out = checkout / "out"
    names = {"run.json", "compare.json", "report.html", "report.md", "stack.log", "base.log", "candidate.log"}
    assert names <= {path.name for path in out.iterdir()}
    assert "Performance gate: synthetic: pass" in summary.read_text()
    compare = json.loads((out / "compare.json").read_text())
    # What others landed meanwhile is in both: it is not charged to the pull request, whose answers it would change.
    assert compare["base"]["version"]["commit"] == git(checkout, "rev-parse", "landed")
    assert [answer["difference"] for answer in compare["answers"]] == [0]
    assert compare["candidate"]["version"]["commit"] == git(checkout, "rev-parse", "HEAD")
    assert git(checkout, "worktree", "list").count("\n") == 0  # the base's is gone


@pytest.mark.soak  # two comparisons of whole stacks; each verdict is also in test_compare.py
@pytest.mark.timeout(150)
def test_faster_because_wrong_fails_the_gate_until_the_version_says_so(clone: Path) -> None:
    """Half the time, and answers that are off by one; then the same with the model's version raised."""
    wrong = SYNTHETIC.replace("batch_ms = 5", "batch_ms = 2, wrong = 1")
    (clone / "models.toml").write_text(wrong.replace("[models.synthetic]", "[models.synthetic]\nversion = '2'"))
    git(clone, "commit", "--quiet", "--all", "--message", "version 2")
    (clone / "models.toml").write_text(wrong)
    git(clone, "commit", "--quiet", "--all", "--message", "faster")
    done = subprocess.run(**gate_command(clone, MODEL="synthetic", BASE="origin/began"), capture_output=True)
    assert done.returncode == 12, done.stdout + done.stderr
    assert "synthetic: WRONG ANSWERS" in done.stdout
    assert "The candidate does not answer LICENSE as the base does: output 'output'[0], " in done.stdout
    git(clone, "checkout", "--quiet", "HEAD^")
    done = subprocess.run(**gate_command(clone, MODEL="synthetic", BASE="origin/began"), capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning: The version of 'synthetic' changed from 1 to 2, and so did its answer to LICENSE" in done.stdout


MERGED = "the pull request, merged"


@pytest.mark.parametrize(
    ("ref", "commit", "base"),
    first(
        2,
        [
            ("refs/pull/7/merge", "HEAD", "landed"),
            ("refs/heads/change", "change", "began"),  # a branch, at home or in a workflow for pushes
            ("refs/pull/7/merge", "change", "began"),  # a workflow that checks out the pull request's own last commit
            ("refs/heads/main", "landed", "began"),  # on main itself: the commit before
        ],
    ),
)
def test_what_a_gate_compares_with(checkout: Path, tmp_path: Path, ref: str, commit: str, base: str) -> None:
    """On a real repository; what would start the stacks only says what it was asked for."""
    git(tmp_path, "clone", "--quiet", "--branch", "main", str(checkout), "clone")
    clone, asked = tmp_path / "clone", tmp_path / "asked"
    merge = git(clone, "rev-parse", "HEAD")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$@" >> {asked}\ncase "$1" in -c) exit 1;; esac\n')
    python.chmod(0o755)
    git(clone, "checkout", "--quiet", "--detach", commit if commit == "HEAD" else f"origin/{commit}")
    main = "landed" if base == "began" else "main"
    git(clone, "update-ref", "refs/remotes/origin/main", git(checkout, "rev-parse", main))
    variables = {"PYTHON": str(python), "MODEL": "synthetic", "GITHUB_REF": ref, "GITHUB_SHA": merge}
    assert subprocess.run(**gate_command(clone, **variables), capture_output=True).returncode == 0
    [compared] = [line for line in asked.read_text().splitlines() if " compare " in line]
    assert f"--base git:{git(checkout, 'rev-parse', base)} " in compared


EVERY_CHECK = "compose performance wheel audit"


def merged(clone: Path, changes: list[str]) -> None:
    """Leave a clone at the merge of a branch ``mine``, which changed these files, into what had landed meanwhile."""
    git(clone, "checkout", "--quiet", "-B", "mine", "origin/began")
    for name in changes:
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        with (clone / name).open("a") as file:
            file.write("\n")
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--message", "mine")
    git(clone, "checkout", "--quiet", "--detach", "landed")
    git(clone, "merge", "--quiet", "--no-ff", "--message", MERGED, "mine")


def changed(clone: Path, ref: str) -> list[str]:
    """Return what ``.ci/changed`` prints there."""
    environment = {**os.environ, "GITHUB_REF": ref}
    done = subprocess.run([".ci/changed"], cwd=clone, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def printed(names: str) -> list[str]:
    return [f"{name}={str(name in names.split()).lower()}" for name in EVERY_CHECK.split()]


@pytest.fixture(scope="module")
def landed(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone for branches that begin where the pull request began."""
    folder = tmp_path_factory.mktemp("landed")
    git(folder, "clone", "--quiet", "--branch", "landed", str(checkout), "clone")
    return folder / "clone"


def test_where_no_pull_request_was_merged_every_check_runs(landed: Path) -> None:
    merged(landed, ["docs/rest.md"])
    assert changed(landed, "refs/pull/7/merge") == printed("")
    assert changed(landed, "refs/heads/main") == printed(EVERY_CHECK)
    git(landed, "checkout", "--quiet", "--detach", "mine")
    assert changed(landed, "refs/pull/7/merge") == printed(EVERY_CHECK)  # no merge: nothing is known


@pytest.mark.parametrize(
    ("changes", "touched"),
    [
        (["docs/rest.md", "README.md"], ""),
        (["tests/unit/test_docs.py"], ""),
        (["tests/e2e/headrace/test_compose.py"], "compose"),
        (["deploy/redis/redis.conf", "docs/rest.md"], "compose"),
        (["deploy/wheel/rewriting.py"], "wheel"),
        (["tests/e2e/wheel/test_wheel.py"], "wheel"),
        (["budgets.toml"], "performance"),
        (["docs/rest.md", "consumer/worker.py"], "compose performance wheel"),
        (["locks/api.txt"], EVERY_CHECK),
        (["something/quite new"], "compose performance wheel"),
        (["docs/\N{SNOWMAN}.md"], "compose performance wheel"),  # git quotes it; what is not known counts
    ],
)
def test_what_a_change_cannot_touch_is_left_out(landed: Path, changes: list[str], touched: str) -> None:
    merged(landed, changes)
    assert changed(landed, "refs/pull/7/merge") == printed(touched)


@pytest.mark.parametrize("workflow", ["ci.yml", "performance.yml"])
@pytest.mark.parametrize(
    ("results", "code"),
    [("success success skipped", 0), ("success failure success", 1), ("cancelled skipped", 1), ("success", 0)],
)
def test_one_check_stands_for_all(tmp_path: Path, workflow: str, results: str, code: int) -> None:
    assert run_steps(workflow, "all", tmp_path, {"${{ join(needs.*.result, ' ') }}": results}) == [code]


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed; GitHub's machines have it")
@pytest.mark.parametrize("is_open", [False, True])
def test_what_fails_at_night_becomes_one_issue(tmp_path: Path, is_open: bool) -> None:
    title = "The nightly run fails"
    listed = [{"number": 3, "title": "Something else"}, {"number": 5, "title": title if is_open else "The nightly run"}]
    called, gh = tmp_path / "called", tmp_path / "bin" / "gh"
    gh.parent.mkdir()
    gh.write_text(
        f'#!/bin/sh\nif [ "$2" = list ]; then echo \'{json.dumps(listed)}\'; else printf "%s\\n" "$@" > {called}; fi\n'
    )
    gh.chmod(0o755)
    needs = {"trust": {"result": "success"}, "storm": {"result": "failure"}, "slow-processor": {"result": "cancelled"}}
    values = {
        "${{ toJSON(needs) }}": json.dumps(needs),
        "${{ github.server_url }}/${{ github.repository }}/actions/runs/${{ github.run_id }}": "https://example.org/1",
        "${{ github.sha }}": "abc",
        "${{ github.token }}": "t",
        "${{ github.repository }}": "a/b",
    }
    codes = run_steps("nightly.yml", "tell", tmp_path, values, PATH=f"{gh.parent}:{os.environ['PATH']}")
    assert codes == [0], (tmp_path / "step1.log").read_text()
    said = called.read_text().splitlines()
    assert said[:3] == (["issue", "comment", "5"] if is_open else ["issue", "create", "--title"])
    assert said[-1] == (
        "At commit abc, storm: failure, slow-processor: cancelled. Logs and findings: https://example.org/1"
    )


@pytest.mark.soak
@pytest.mark.timeout(150)
def test_every_step_of_the_nightly_workflow(checkout: Path, tmp_path: Path) -> None:
    values = {"${{ matrix.only }}": "empty", "${{ matrix.repeat }}": "2"}
    summary, installed = tmp_path / "summary.md", tmp_path / "installed"
    sudo = tmp_path / "bin" / "sudo"  # nothing is installed here
    sudo.parent.mkdir()
    sudo.write_text(f'#!/bin/sh\necho "$@" >> {installed}\n')
    sudo.chmod(0o755)
    path = f"{sudo.parent}:{os.environ['PATH']}"
    codes = run_steps("nightly.yml", "trust", checkout, values, GITHUB_STEP_SUMMARY=str(summary), PATH=path)
    assert codes[:3] == [0, 0, 0], (checkout / "step3.log").read_text()
    assert "install -y -qq wrk" in installed.read_text()
    said = (checkout / "step4.log").read_text()
    assert "send lag, p99" in said
    assert codes[3] == (2 if "NOT FIT" in said else 0)  # beside other tests the generator may find itself unfit
    assert "| empty | the result is missing, then empty | 20 | 2 | 2 x 20 |" in summary.read_text()


@pytest.mark.soak  # starts whole stacks; a run that is not there is in test_loadgen.py
@pytest.mark.timeout(120)
def test_the_gate_without_a_base_or_a_stack_is_invalid(checkout: Path) -> None:
    def gate(**variables: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "MODEL": "synthetic", "OUT": "out2", **variables}
        return subprocess.run([".ci/gate"], cwd=checkout, env=environment, capture_output=True, text=True, timeout=60)

    lost = gate(BASE="0" * 40)
    assert lost.returncode == 20
    assert "Cannot read out2/compare.json" in lost.stdout
    unknown = gate(BASE="none", MODEL="nobody")
    assert unknown.returncode == 20
    assert "Cannot read out2/run.json" in unknown.stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_generator_that_is_killed_leaves_no_stack_behind(bench: Bench) -> None:
    (bench.folder / "models.toml").write_text(SYNTHETIC)
    models = f"HEADRACE_MODELS_FILE={bench.folder / 'models.toml'}"
    arguments = ("--stack", str(ROOT), "--set", models, "--model", "synthetic", "--payload", "photo.jpg")
    more = ("--content-type", "application/octet-stream", "--rate", "5", "--duration", "60s", "--out", "out")
    command = bench.command("run", *arguments, *more)
    with subprocess.Popen(
        command, cwd=bench.folder, env=bench.environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        while "measure" not in (line := process.stderr.readline()):
            assert line, "it ended"
        assert processes_with(str(bench.folder))
        process.send_signal(signal.SIGKILL)
        process.wait()
        eventually(lambda: not processes_with(str(bench.folder)), limit_s=30)


def processes_with(text: str) -> list[str]:
    """Return the processes in whose environment a text stands, the test's own aside."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"HEADRACE_MODELS_FILE={text}" in (folder / "environ").read_bytes().decode(errors="replace"):
                found.append(folder.name)
        except OSError:
            continue
    return found


@pytest.mark.soak
@pytest.mark.timeout(90)
def test_two_mutants_as_processes(bench: Bench) -> None:
    """All twelve run every night; these are the quick ones."""
    done = bench.prove("mutants", "--only", "few", "--only", "errors", "--stack", str(ROOT), "--out", "out", timeout=80)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((bench.folder / "out" / "mutants.json").read_text())
    assert {name: one["codes"] for name, one in found["mutants"].items()} == {"few": [20], "errors": [20]}
    unknown = bench.prove("mutants", "--only", "nobody")
    assert unknown.returncode == 2
    assert "There is no mutant 'nobody'" in only_sentence(unknown)


def test_there_are_twelve_mutants_with_the_promised_codes() -> None:
    proof = {mutant.name: mutant.expected for mutant in MUTANTS if not mutant.on_request}
    assert proof == {
        "none": 0, "delayed": 10, "slower": 11, "unbatched": 11, "wrong": 12, "mixed": 12, "errors": 20,
        "killed": 20, "few": 20, "throttled": 20, "empty": 20, "precision": 20,
    }  # fmt: skip


NONE, SLOWER = MUTANTS[0], next(mutant for mutant in MUTANTS if mutant.name == "slower")


@pytest.mark.parametrize(
    ("mutant", "codes", "good"),
    [
        (NONE, [0], True), (NONE, [11], False), (NONE, [20], False), (NONE, [0] * 59 + [11], True),
        (NONE, [0] * 58 + [11, 11], False), (NONE, [0] * 54 + [20] * 6, True), (NONE, [0] * 53 + [20] * 7, False),
        (SLOWER, [11] * 19 + [0], True), (SLOWER, [11] * 18 + [0, 20], False), (SLOWER, [0], False),
    ],
)  # fmt: skip
def test_how_often_the_right_code_must_come_out(mutant: Mutant, codes: list[int], good: bool) -> None:
    assert enough(mutant, codes) is good


def gate_command(folder: Path, **variables: str) -> dict[str, Any]:
    """Return how `.ci/gate` is started there, as arguments of subprocess."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "HEADRACE_"))}
    environment = {**kept, "PYTHON": sys.executable, "OUT": "out", **variables}
    return {"args": [".ci/gate"], "cwd": folder, "env": environment, "text": True}


@pytest.fixture
def clone(checkout: Path, tmp_path: Path) -> Path:
    """A clone of the checkout, for tests that change it."""
    git(tmp_path, "clone", "--quiet", str(checkout), "clone")
    return tmp_path / "clone"


@pytest.mark.soak  # a comparison that is stopped is in test_compare.py
@pytest.mark.timeout(100)
def test_after_ctrl_c_the_gate_calls_the_run_invalid_and_compares_nothing(clone: Path) -> None:
    (clone / "budgets.toml").write_text(SHORT.replace("duration_s = 1\n", "duration_s = 60\n"))
    command = gate_command(clone, MODEL="synthetic", BASE="HEAD^")
    shown: list[str] = []
    with subprocess.Popen(
        **command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            shown.append(line)
            if line.startswith("measure"):
                os.killpg(process.pid, signal.SIGINT)
                break
        shown += process.stdout
        assert process.wait(30) == 20, "".join(shown)
    assert any("The run was broken off" in line for line in shown)
    assert not (clone / "out" / "base.log").exists()
    assert json.loads((clone / "out" / "run.json").read_text())["partial"] is True


@pytest.mark.soak  # starts whole stacks
@pytest.mark.timeout(100)
def test_a_model_that_the_base_does_not_know_is_held_to_its_budgets_alone(clone: Path) -> None:
    for name, text in (("models.toml", SYNTHETIC), ("budgets.toml", SHORT)):
        table = text.split("[gate]")[0].replace("[models.synthetic]", "[models.flowers]")
        (clone / name).write_text(f"{table}\n{text}")
    git(clone, "commit", "--quiet", "--all", "--message", "another model")
    done = subprocess.run(**gate_command(clone, MODEL="flowers", BASE="HEAD^"), capture_output=True, timeout=90)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning: The base does not know the model flowers" in done.stdout
    assert not (clone / "out" / "compare.json").exists()
    assert not (clone / "out" / "base.log").exists()


def test_a_comparison_and_a_reason_for_none_exclude_each_other(bench: Bench) -> None:
    refused = bench.gate("--compare", "out/compare.json", "--no-base", "There is none.")
    assert (refused.returncode, only_sentence(refused)) == (2, "loadgen: Give --compare or --no-base, not both.")


@pytest.mark.soak  # every mutant runs at night
@pytest.mark.timeout(90)
def test_a_mutant_whose_measurement_fails_is_not_right(bench: Bench) -> None:
    """The gate says 20 to a result that is not there, and 20 is what this mutant asks for."""
    (bench.folder / "out" / "few" / "run.json").mkdir(parents=True)
    done = bench.prove("mutants", "--only", "few", "--stack", str(ROOT), "--out", "out", timeout=80)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "The measurement itself ended with exit code 1; see " in only_sentence(done)
    assert json.loads((bench.folder / "out" / "mutants.json").read_text())["mutants"]["few"]["codes"] == [1]


@pytest.mark.soak
def test_the_selftest_says_that_it_was_not_compared_with_wrk(bench: Bench) -> None:
    done = bench.prove("selftest", "--duration", "100ms", timeout=50, environment={"PATH": str(bench.folder)})
    assert done.returncode == (20 if "NOT FIT" in done.stdout else 0), done.stderr
    assert "like wrk         not installed, not compared\n" in done.stdout
