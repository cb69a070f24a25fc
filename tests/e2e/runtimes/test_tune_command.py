"""`headrace tune`: what it finds is what `headrace up` serves, and whatever ends it leaves nothing behind."""

from __future__ import annotations

import fcntl
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shared import keys
from shared.redis.client import connect
from tests.children import ROOT, clean_environment
from tests.e2e.runtimes.tuned import models_file
from tests.unit.headrace.stacks import Running

MODEL = "bench-mobilenet"
HEADRACE = [sys.executable, "-m", "headrace"]
TRYING_TORCH = "trying torch in fp32; "

pytestmark = pytest.mark.timeout(240)


def settings(folder: Path, **more: str) -> dict[str, str]:
    """A small network, one runtime beside torch, and small batches: a short search. No Redis is there to be found."""
    with models_file(folder, MODEL).open("a") as models:
        models.write('[models.echo]\nfamily = "echo"\n')
    return {
        "HEADRACE_DATA_DIR": str(folder),
        "HEADRACE_MODELS_FILE": str(folder / "models.toml"),
        "HEADRACE_MODELS": MODEL,
        "HEADRACE_RUNTIME": "onnxruntime",
        "HEADRACE_PRECISION": "fp32",
        "HEADRACE_MAX_BATCH": "2",
        "HEADRACE_PORT": "0",
        "HEADRACE_REDIS_PORT": "0",
        "HEADRACE_METRICS_PORT": "0",
        **more,
    }


def tune(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `headrace tune`."""
    return subprocess.run(
        [*HEADRACE, "tune", *arguments],
        cwd=ROOT,
        env=clean_environment(**settings(folder, **more)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A data folder in which the model was tuned, and what the command said."""
    folder = tmp_path_factory.mktemp("tuned")
    return folder, tune(folder, MODEL)


def test_it_says_what_it_tries_and_what_came_of_it(tuned: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, said = tuned
    assert said.returncode == 0, said.stderr
    steps = [line.removeprefix(f"headrace: {MODEL}: ") for line in said.stderr.splitlines()]
    assert steps[0].startswith("looking for the fastest runtime, with ")
    # What it has used so far includes that it was started.
    assert re.fullmatch(rf"{TRYING_TORCH}\d+ of 60 s are used\.", steps[1])
    assert steps[2].startswith("trying onnxruntime in fp32; ")
    head, torch, onnxruntime, found = said.stdout.splitlines()
    assert head.split() == ["MODEL", "RUNTIME", "PRECISION", "ROWS/S", "BATCH", "OUTCOME"]
    assert torch.split()[:3] == [MODEL, "torch", "fp32"]
    assert onnxruntime.endswith("chosen.")
    assert found.startswith(f"headrace: {MODEL} runs in onnxruntime in fp32, best with ")
    assert str(folder / "tuned" / MODEL) in found


@pytest.mark.soak  # that up serves what was found is below
def test_what_was_found_is_not_searched_for_again(tuned: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = tuned
    said = tune(folder, MODEL, "--json")
    [found] = json.loads(said.stdout)["models"]
    assert (found["runtime"], found["precision"], found["is_new"], found["exit_code"]) == (
        "onnxruntime", "fp32", False, 0
    )  # fmt: skip
    assert [trial["runtime"] for trial in found["tuning"]["trials"]] == ["torch", "onnxruntime"]
    assert "trying" not in said.stderr
    again = tune(folder, MODEL, "--json", "--again")
    assert json.loads(again.stdout)["models"][0]["is_new"]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="nothing says what a process has loaded")
def test_up_serves_what_was_tuned_ahead_of_time_and_loads_no_torch(
    tuned: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, _ = tuned
    with Running([*HEADRACE, "up"], settings(folder)) as stack:
        stack.until(r"Ctrl-C stops everything")
        address = next(line.split()[1] for line in stack.lines if line.strip().startswith("Redis "))
        [model] = shown(address)["models"]
        assert (model["runtime"], model["precision"], model["tuning"]["state"]) == ("onnxruntime", "fp32", "tuned")
        assert model["workers"]
        with connect(address) as client:
            for worker in model["workers"]:
                assert worker["runtime"] == "onnxruntime"
                assert worker["preferred"] == str(model["preferred"])
                pid = int(client.hget(keys.worker(MODEL, worker["worker"]), "pid") or b"")
                loaded = Path(f"/proc/{pid}/maps").read_text()
                assert "onnxruntime" in loaded
                assert "libtorch" not in loaded
        stack.signal(signal.SIGTERM)
        assert stack.end() == 0


def shown(address: str) -> Any:
    """What `headrace status` says."""
    done = subprocess.run(
        [*HEADRACE, "status", "--interval", "0", "--json"],
        cwd=ROOT,
        env=clean_environment(HEADRACE_REDIS_URL=address),
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return json.loads(done.stdout)


@pytest.mark.soak
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_it_leaves_nothing_half_made(tmp_path: Path, number: signal.Signals, status: int) -> None:
    with Running([*HEADRACE, "tune", MODEL], settings(tmp_path)) as command:
        command.until(TRYING_TORCH)
        command.signal(number)
        assert command.end() == status
        assert command.lines[-1] == f"headrace: Interrupted; nothing of this search for {MODEL} was kept."
        assert "Traceback" not in command.output
    assert [path.suffix for path in (tmp_path / "tuned").iterdir()] == [".lock"]


@pytest.mark.soak  # one that is interrupted is above
def test_a_search_that_is_ended_is_no_fault_of_the_model(tmp_path: Path) -> None:
    with Running([sys.executable, "-m", "consumer.tune", "--model", MODEL, "--steps"], settings(tmp_path)) as search:
        search.until('"trying"')
        search.signal(signal.SIGTERM)
        assert search.end() == 143
        assert "cannot be loaded" not in search.output
    assert [path.suffix for path in (tmp_path / "tuned").iterdir()] == [".lock"]


def test_who_comes_second_waits_and_takes_what_the_first_one_found(
    tuned: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, _ = tuned
    [lock] = (folder / "tuned").glob("*.lock")
    with lock.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # as a search does
        with Running([*HEADRACE, "tune", MODEL], settings(folder)) as second:
            second.until("another process looks for it at this moment")
            fcntl.flock(held, fcntl.LOCK_UN)
            assert second.end() == 0
            assert "trying" not in second.output
            assert "found before" in second.lines[-1]


MISSING = f"""
[models.{MODEL}]
family = "torchvision"
architecture = "mobilenet_v3_small"
weights = "nowhere.pt"

[models.echo]
family = "echo"
"""


@pytest.mark.soak  # seven processes; one that fails beside a good one is below
def test_each_way_to_fail_has_its_status_and_its_sentence(tmp_path: Path) -> None:
    table, files = tmp_path / "missing.toml", tmp_path / "files.toml"
    table.write_text(MISSING)
    files.write_text('[models.file]\nfamily = "onnx"\nweights = "model.onnx"\n')
    for arguments, more, status, sentence in (
        (("nobody",), {}, 2, "Model 'nobody' is not in "),
        ((MODEL, "nobody"), {}, 2, "Model 'nobody' is not in "),  # before anything is searched for
        (("echo",), {}, 2, "Model echo has no runtime to choose, because its family is 'echo'."),
        (("file",), {"HEADRACE_MODELS_FILE": str(files)}, 2, 'runtime = "onnxruntime", the default, or "openvino".'),
        ((MODEL,), {"HEADRACE_RECIPE": "plain"}, 2, "HEADRACE_RECIPE is gone: "),
        ((MODEL,), {"HEADRACE_DATA_DIR": "/dev/null/here"}, 1, "What is found cannot be kept: "),
        ((MODEL,), {"HEADRACE_MODELS_FILE": str(table)}, 69, f"Model {MODEL} cannot be loaded: "),
    ):
        said = tune(tmp_path, *arguments, **more)
        assert (said.returncode, said.stdout) == (status, ""), said
        assert sentence in said.stderr
        assert "Traceback" not in said.stderr
        assert "trying" not in said.stderr


def test_one_model_that_fails_keeps_the_others_from_nothing(
    tuned: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, _ = tuned
    said = tune(folder, "echo", MODEL, "--json")
    echo, found = json.loads(said.stdout)["models"]
    assert (said.returncode, echo["exit_code"], found["exit_code"]) == (2, 2, 0)
    assert "runtime" not in echo
    assert found["runtime"] == "onnxruntime"
