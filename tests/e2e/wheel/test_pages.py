"""README, the tutorial and the simple models of docs/models.md, typed in a folder beside an installed wheel."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.children import ROOT
from tests.unit.headrace.stacks import Running

from . import pages
from .building import Installed

README, TUTORIAL, MODELS = pages.page("README.md"), pages.page("docs/tutorial.md"), pages.page("docs/models.md")
SIMPLE = MODELS.partition("## A class with `load` and `compute`")[2].partition("\n## ")[0]
FREE = dict.fromkeys(("HEADRACE_PORT", "HEADRACE_REDIS_PORT", "HEADRACE_METRICS_PORT"), "0")
PICTURE, *_ = [line for line in pages.commands(TUTORIAL) if line.startswith("python -c")]
MEASURE, JUDGE, *_ = [line for line in pages.commands(TUTORIAL) if "budgets.toml" in line]
WORKFLOW = pages.files(TUTORIAL, "yaml")[".github/workflows/gate.yml"]
WEIGHTS = """
import torch, torchvision
torch.save(torchvision.models.mobilenet_v3_small(num_classes=3).state_dict(), "flowers.pt")
"""
# How slow the tests' machine is belongs to no verdict here: on a busy one the generator itself is late.
PATIENT = "\n[gate]\nmax_pacing_lag_ms = 10000\nmin_rate_share = 0.95\n"

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
]


@dataclass(frozen=True)
class Served:
    """A folder with the files of the pages, and what serves them."""

    installed: Installed
    folder: Path
    running: Running

    def types(self, command: str, **places: str) -> subprocess.CompletedProcess[str]:
        """Type a line there; what it prints is shown when the test fails."""
        [api] = re.findall(r"API +http://(\S+)", self.running.output)
        [metrics] = re.findall(r"http://(\S+)/metrics \(consumer colours", self.running.output)
        addresses = {pages.PORT: api, pages.METRICS: metrics}
        done = pages.typed(self.installed, command, self.folder, **places, **addresses)
        print(done.stdout, done.stderr)
        return done


@contextmanager
def _served(installed: Installed, folder: Path, *texts: str) -> Iterator[Served]:
    """The models of pages, each from its file, by the commands that the pages have."""
    for path, text in {path: text for page in texts for path, text in pages.files(page, "python").items()}.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)
    shutil.copyfile(ROOT / "examples/photos/cat.jpg", folder / "photo.jpg")
    starts = [line for page in texts for line in pages.commands(page) if line.startswith("headrace up")]
    models = [word for line in starts for word in line.removeprefix("headrace up").split()]
    command = [str(installed.bin / "headrace"), "up", *models]
    with Running(
        command, {**FREE, "HEADRACE_CONSUMERS": "1", "HEADRACE_TUNE": "off", "PYTHONPATH": ""}, cwd=folder
    ) as up:
        up.until(r"Ctrl-C stops everything")
        served = Served(installed, folder, up)
        assert served.types(PICTURE).returncode == 0
        yield served
        up.signal(signal.SIGTERM)
        assert up.end() == 0, up.output


@pytest.fixture(scope="module")
def served(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The model of README and tutorial."""
    with _served(installed, tmp_path_factory.mktemp("stranger"), TUTORIAL) as running:
        yield running


def _said(served: Served, command: str) -> Any:
    return pages.comparable(json.loads(served.types(command).stdout))


def test_the_first_screen_is_the_beginning_of_the_tutorial() -> None:
    assert pages.files(README, "python")["my_model.py"] == pages.files(TUTORIAL, "python")["my_model.py"]
    typed = [line for line in pages.commands(README) if "pip install" not in line]
    assert typed
    assert set(typed) <= set(pages.commands(TUTORIAL))
    assert "pip install 'headrace[all]'" in pages.commands(TUTORIAL)


@pytest.mark.parametrize(
    ("command", "answer"),
    [*pages.exchanges(README), *pages.exchanges(TUTORIAL)],
    ids=lambda value: "" if isinstance(value, str) else "curl",
)
def test_what_a_page_asks_is_answered_as_it_says(served: Served, command: str, answer: Any) -> None:
    assert _said(served, command) == pages.comparable(answer)


@pytest.mark.soak  # four models, two of them with PyTorch; each kind of them is in tests/unit/consumer/models/simple
def test_the_simple_models_answer_as_their_page_says(installed: Installed, tmp_path: Path) -> None:
    installed.run("-c", WEIGHTS, cwd=tmp_path)
    with _served(installed, tmp_path, TUTORIAL, SIMPLE) as served:
        for command, answer in pages.exchanges(SIMPLE):
            said, shown = _said(served, command), pages.comparable(answer)
            if "flowers" in command:  # with weights that the test has made up
                assert said["predictions"][0].pop("label") in ("daisy", "rose", "tulip")
                shown["predictions"], said["predictions"] = len(shown["predictions"]), len(said["predictions"])
            assert said == shown


def test_the_load_of_the_tutorial_shows_batches(served: Served) -> None:
    [line] = [line for line in pages.commands(TUTORIAL) if "--concurrency" in line]
    done = served.types(line, **{"--duration 5s": "--duration 1s"})
    assert done.returncode == 0
    [size] = re.findall(r"batch +mean size ([\d.]+)", done.stdout)
    assert float(size) > 1.5


def test_a_model_within_its_budget_passes(served: Served) -> None:
    budgets = pages.files(TUTORIAL, "toml")["budgets.toml"].replace("p95_ms = 250", "p95_ms = 10000")
    (served.folder / "budgets.toml").write_text(budgets.replace("duration_s = 10", "duration_s = 3") + PATIENT)
    assert served.types(MEASURE, **{"--stack .": "--url http://127.0.0.1:8000"}).returncode == 0
    done = served.types(JUDGE)
    assert (done.returncode, "colours: PASS" in done.stdout) == (0, True)


def _repository(installed: Installed, folder: Path) -> None:
    """Make what step 8 has in ``folder``, with the slower model on top, as a pull request would be checked out."""
    for kind in ("python", "toml", "yaml", ""):
        for path, text in pages.files(TUTORIAL, kind).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
    budgets = pages.files(TUTORIAL, "toml")["budgets.toml"].replace("duration_s = 10", "duration_s = 3")
    (folder / "budgets.toml").write_text(budgets + PATIENT)
    assert pages.typed(installed, PICTURE, folder).returncode == 0


def _slowed(folder: Path, seconds: str = "0.3") -> None:
    [slower] = re.findall(r"```python\n# my_model.py, slower\n(.*?)```", TUTORIAL, re.DOTALL)
    (folder / "my_model.py").write_text(slower.replace("sleep(0.3)", f"sleep({seconds})"))


@pytest.mark.soak  # one within its budget is above; a slow service fails the gate in tests/e2e/loadgen
def test_a_slower_model_fails_the_gate(installed: Installed, tmp_path: Path) -> None:
    _repository(installed, tmp_path)
    _slowed(tmp_path)
    measured = pages.typed(installed, MEASURE, tmp_path)
    assert measured.returncode == 0, measured.stderr
    done = pages.typed(installed, JUDGE, tmp_path)
    assert (done.returncode, "colours: OVER BUDGET" in done.stdout) == (10, True), done.stdout + done.stderr
    assert (tmp_path / "out/report.html").is_file()


def test_the_workflow_is_one(tmp_path: Path) -> None:
    (tmp_path / "gate.yml").write_text(WORKFLOW)
    checked = ["check-jsonschema", "--builtin-schema", "vendor.github-workflows", str(tmp_path / "gate.yml")]
    program = str(ROOT / ".venv/bin" / checked[0])
    done = subprocess.run([program, *checked[1:]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    steps = [step["run"] for step in yaml.safe_load(WORKFLOW)["jobs"]["gate"]["steps"] if "run" in step]
    assert [step.split()[:3] for step in steps[1:]] == [
        ["headrace", "loadgen", one] for one in ("run", "compare", "gate")
    ]


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_the_workflow_fails_a_change_that_is_slower_within_the_budget(installed: Installed, tmp_path: Path) -> None:
    _repository(installed, tmp_path)
    [commit] = [line for line in pages.commands(TUTORIAL) if line.startswith("git init")]
    named = "git -c user.name=me -c user.email=me@example.org commit"
    assert pages.typed(installed, commit, tmp_path, **{"git commit": named}).returncode == 0
    _slowed(tmp_path, "0.02")
    assert pages.typed(installed, f"{named} -am slower", tmp_path).returncode == 0
    steps = [step["run"] for step in yaml.safe_load(WORKFLOW)["jobs"]["gate"]["steps"] if "run" in step][1:]
    *measured, done = [pages.typed(installed, step, tmp_path) for step in steps]
    assert [one.returncode for one in measured] == [0, 0]
    assert (done.returncode, "colours: REGRESSION" in done.stdout) == (11, True), done.stdout + done.stderr
