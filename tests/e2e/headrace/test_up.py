"""``python -m headrace up`` with the real processes: what a newcomer sees after the first command."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.process.machine import usable_cores
from tests.children import ROOT
from tests.embedded import answering_pid
from tests.unit.headrace.stacks import Running, wait_gone

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")

UP = [sys.executable, "-m", "headrace", "up"]


def _environment(folder: Path, **changes: str) -> dict[str, str]:
    return {
        "HEADRACE_DATA_DIR": str(folder),
        "HEADRACE_MODELS": "echo",
        "HEADRACE_PORT": "0",
        "HEADRACE_REDIS_PORT": "0",
        "HEADRACE_METRICS_PORT": "0",
        "HEADRACE_TORCH_THREADS": "1",
        "HEADRACE_CONSUMERS": "1",
        **changes,
    }


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A stack that serves photographs and echoes."""
    folder = tmp_path_factory.mktemp("up")
    with Running(UP, _environment(folder, HEADRACE_MODELS="imagenet,echo")) as running:
        running.until(r"Ctrl-C stops everything")
        yield running
        running.signal(signal.SIGTERM)
        assert running.end() == 0, running.output


def _printed_curl(stack: Running, model: str) -> list[str]:
    [line] = [line for line in stack.lines if line.startswith("  curl ") and f"/{model}/" in line]
    return [*shlex.split(line), "--silent", "--show-error", "--max-time", "20"]


@needs_curl
def test_the_printed_line_names_the_cat(stack: Running) -> None:
    answer = subprocess.run(_printed_curl(stack, "imagenet"), cwd=ROOT, capture_output=True, check=True, text=True)
    assert json.loads(answer.stdout)["predictions"][0]["label"] == "Egyptian cat"


@needs_curl
def test_the_printed_line_of_the_null_model_gives_the_bytes_back(stack: Running) -> None:
    answer = subprocess.run(_printed_curl(stack, "echo"), cwd=ROOT, capture_output=True, check=True, text=True)
    [output] = json.loads(answer.stdout)["outputs"]
    assert bytes(output["data"]) == b"hello"


@needs_curl
def test_every_printed_address_answers(stack: Running) -> None:
    banner = stack.output.partition("Headrace is ready")[2]
    addresses = re.findall(r"http://127\.0\.0\.1:\d+/(?:docs|metrics)", banner)
    assert len(addresses) == 4
    for address in addresses:
        subprocess.run(["curl", "--silent", "--fail", "--output", "/dev/null", address], check=True)


def _documented_commands() -> list[str]:
    """Every command of the README and of docs/metrics.md that speaks to a running stack."""
    pages = (ROOT / "README.md", ROOT / "docs/metrics.md")
    blocks = [block for page in pages for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)]
    lines = [line for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith(("curl ", ".venv/bin/python examples/"))]


@needs_curl
@pytest.mark.parametrize("command", _documented_commands())
def test_a_documented_command_works(stack: Running, command: str) -> None:
    banner = stack.output.partition("Headrace is ready")[2]
    [api] = re.findall(r"API +http://(\S+)", banner)
    [redis_url] = re.findall(r"Redis +(\S+)", banner)
    [metrics, *_] = re.findall(r"http://(\S+)/metrics \(consumer", banner)
    here = command.replace("127.0.0.1:8000", api).replace("127.0.0.1:9101", metrics)
    here = here.replace(".venv/bin/python", shlex.quote(sys.executable)).replace("curl ", "curl -sS --fail-with-body ")
    done = subprocess.run(
        ["bash", "-euc", here],
        cwd=ROOT,
        env={**os.environ, "HEADRACE_REDIS_URL": redis_url},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if "cat.jpg" in command:
        assert "Egyptian cat" in done.stdout
    if "coffee.jpg" in command:
        assert "espresso" in done.stdout


def test_the_readme_shows_commands_for_a_running_stack() -> None:
    assert len(_documented_commands()) >= 4


def test_nothing_is_left_of_the_real_stack_when_up_is_killed(tmp_path: Path) -> None:
    with Running(UP, _environment(tmp_path)) as stack:
        port = int(stack.until(r"Redis +redis://127\.0\.0\.1:(\d+)/0").group(1))
        redis = answering_pid(port)
        assert redis is not None
        children = Path(f"/proc/{stack.process.pid}/task/{stack.process.pid}/children").read_text().split()
        assert str(redis) in children
        assert len(children) == 4  # Redis, a consumer, the front end, and the parent watch
        stack.signal(signal.SIGKILL)
        wait_gone([int(pid) for pid in children])


@pytest.mark.soak
@pytest.mark.skipif(usable_cores() < 2, reason="one core cannot be shared out")
def test_two_consumers_run_on_cores_of_their_own(tmp_path: Path) -> None:
    models = tmp_path / "models.toml"
    models.write_text('[models.mine]\nfamily = "python"\nentry = "examples.custom_model:create"\nconsumers = 2\n')
    environment = _environment(tmp_path, HEADRACE_MODELS="mine", HEADRACE_MODELS_FILE=str(models))
    environment |= {"HEADRACE_CONSUMERS": "0"}
    with Running(UP, environment) as stack:
        stack.until(r"Ctrl-C stops everything")
        assert "2 of mine, 1 thread(s) each, each on cores of its own" in stack.output
        children = Path(f"/proc/{stack.process.pid}/task/{stack.process.pid}/children").read_text().split()
        cores = [
            os.sched_getaffinity(int(pid))
            for pid in children
            if b"--cores" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        ]
        assert [len(own) for own in cores] == [1, 1]
        assert cores[0] != cores[1]
        stack.signal(signal.SIGTERM)
        assert stack.end() == 0


def test_a_wrong_setting_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with Running(UP, _environment(tmp_path, HEADRACE_WINDOW="5")) as stack:
        assert stack.end() == 2
        assert len(stack.lines) == 1
        assert stack.lines[0].startswith("headrace: HEADRACE_WINDOW is not a setting")
