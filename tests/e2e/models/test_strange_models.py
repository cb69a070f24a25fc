"""Models that nobody could guess a request for become ready, and one that fails on its own samples fails alone."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.stack import call
from tests.helpers import eventually
from tests.unit.headrace.stacks import Running, own_stack

MODELS = ("positive", "huge", "mistaken", "sour", "echo")

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """All of them, side by side."""
    folder = tmp_path_factory.mktemp("strangers")
    tables = [
        f'[models.{name}]\nfamily = "python"\n'
        f'entry = "tests.e2e.models.strangers:create"\noptions = {{ kind = "{name}" }}\n'
        for name in MODELS[:-1]
    ]
    (folder / "models.toml").write_text("".join([*tables, '[models.echo]\nfamily = "echo"\n']))
    environment = {**own_stack(folder, ",".join(MODELS)), "HEADRACE_BUCKETS": "1,2"}
    with Running([sys.executable, "-m", "headrace", "up"], environment) as running:
        running.until(r"Ctrl-C stops everything")
        yield running
        running.signal(signal.SIGTERM)
        assert running.end() == 0, running.output


def _url(stack: Running) -> str:
    [url] = re.findall(r"API +(http://\S+)", stack.output)
    return str(url)


def test_every_model_but_the_one_whose_answers_are_wrong_is_ready(stack: Running) -> None:
    assert "has run the samples of positive, huge, mistaken, echo." in stack.output
    models: dict[str, Any] = {one["name"]: one for one in call(f"{_url(stack)}/readyz").body["models"]}
    assert {name for name, one in models.items() if one["ready"]} == set(MODELS) - {"sour"}


def test_the_one_that_fails_says_why_as_its_own(stack: Running) -> None:
    said = (
        "Model sour cannot be loaded: its own samples do not pass through it: The model's answer is wrong: output sum"
    )
    assert said in stack.output
    assert re.search(r"FAILED +sour: consumer sour ended with code 69\.", stack.output)
    refused = eventually(lambda: call(f"{_url(stack)}/v1/models/sour/predict", b"abcd", "application/octet-stream"))
    assert (refused.status, refused.body["error"]["code"]) == (503, "no_worker")


def test_the_others_answer_beside_it(stack: Running) -> None:
    answer = call(f"{_url(stack)}/v1/models/positive/predict", bytes([1, 2, 3, 4]), "application/octet-stream")
    assert answer.body["outputs"][0]["data"] == [10.0]
    refused = call(f"{_url(stack)}/v1/models/positive/predict", bytes(4), "application/octet-stream")
    assert (refused.status, refused.body["error"]["message"]) == (422, "An empty picture.")


def test_an_example_that_is_wrong_is_told_and_one_of_samples_takes_its_place(stack: Running) -> None:
    assert "example() is no request: the value of input x has the shape [3], not [4]." in stack.output
    card = call(f"{_url(stack)}/v1/models/mistaken").body
    assert json.loads(card["example"]["body"])["inputs"] == [
        {"name": "x", "shape": [1, 4], "datatype": "UINT8", "data": [1, 1, 1, 1]}
    ]


def test_every_printed_line_succeeds(stack: Running) -> None:
    lines = [line.strip() for line in stack.output.partition("Try it:")[2].splitlines() if " | " not in line]
    commands = [line for line in lines if "/v1/models/" in line]
    assert len(commands) == len(MODELS) - 1
    for command in commands:
        subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"{command} --silent --fail"], check=True, capture_output=True
        )
    assert any(command.endswith("/v1/models/huge") for command in commands)
