"""The models of docs/models.md, as they stand there: written to files, started with `headrace up`, asked with curl."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.children import ROOT
from tests.unit.headrace.stacks import Running, own_stack

PAGE = (ROOT / "docs/models.md").read_text()
SECTION = PAGE.partition("## A model of your own, step by step")[2].partition("\n## ")[0]

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
]


def _modules() -> dict[str, str]:
    """The files on the page, by their paths."""
    return dict(re.findall(r"```python\n# (my_models/\w+\.py)\n(.*?)```", SECTION, re.DOTALL))


def _exchanges() -> list[tuple[str, Any]]:
    """The curl lines on the page, and the answers below them."""
    found = re.findall(r"^\$ (curl .*)\n(\{.*\})$", SECTION, re.MULTILINE)
    return [(command, json.loads(answer)) for command, answer in found]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Both models, started with the page's command in a folder that holds nothing else."""
    folder = tmp_path_factory.mktemp("stranger")
    for path, text in _modules().items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)
    [table] = re.findall(r"```toml\n(.*?)```", SECTION, re.DOTALL)
    (folder / "models.toml").write_text(table)
    [models] = re.findall(r"^\$ HEADRACE_MODELS=(\S+) make up$", SECTION, re.MULTILINE)
    assert set(models.split(",")) == set(tomllib.loads(table)["models"]) == {"pooled", "mood"}
    environment = {**own_stack(folder, models), "PYTHONPATH": f"{ROOT}:{folder}"}
    with Running([sys.executable, "-m", "headrace", "up"], environment) as running:
        running.until(r"Ctrl-C stops everything")
        yield running
        running.signal(signal.SIGTERM)
        assert running.end() == 0, running.output
        assert "ended with code" not in running.output


def _said(command: str) -> Any:
    done = subprocess.run(
        ["bash", "-c", f"{command} --silent --show-error --max-time 20"], capture_output=True, check=True, text=True
    )
    return json.loads(done.stdout)


def _comparable(answer: Any) -> Any:
    """Leave out what is another each time."""
    if isinstance(answer, dict):
        return {name: _comparable(value) for name, value in answer.items() if name not in ("id", "timing")}
    return answer


@pytest.mark.parametrize(
    ("command", "answer"), _exchanges(), ids=lambda value: "" if isinstance(value, str) else "curl"
)
def test_what_the_page_asks_is_answered_as_the_page_says(stack: Running, command: str, answer: Any) -> None:
    [url] = re.findall(r"API +(http://\S+)", stack.output)
    said = _said(command.replace("http://127.0.0.1:8000", url))
    assert _comparable(said) == _comparable(answer)
    assert said.keys() == answer.keys()


def test_the_card_says_what_the_cost_of_a_batch_is_counted_in(stack: Running) -> None:
    [url] = re.findall(r"API +(http://\S+)", stack.output)
    batches = {name: _said(f"curl {url}/v1/models/{name}")["batch"] for name in ("pooled", "mood")}
    assert batches["pooled"]["unit"] == "token"
    assert "max_units" not in batches["pooled"]
    assert batches["pooled"]["per_unit_ms"] <= batches["pooled"]["per_row_ms"]
    mood = batches["mood"]
    assert (mood["unit"], mood["max_units"]) == ("row", mood["max_batch"])


def test_the_page_has_two_complete_models_and_three_exchanges() -> None:
    assert sorted(_modules()) == ["my_models/mood.py", "my_models/pooled.py"]
    assert len(_exchanges()) == 3


@pytest.mark.parametrize("model", ["pooled", "mood"])
def test_the_line_that_is_printed_for_a_model_is_answered(stack: Running, model: str) -> None:
    [line] = [line for line in stack.lines if line.startswith("  curl ") and f"/{model}/predict" in line]
    said = _said(line)
    assert said["model"] == model
    assert said.get("outputs") or said.get("predictions")
    assert shlex.split(line)[1:3] == ["-H", "Content-Type: application/json"]
