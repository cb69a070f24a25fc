"""Option ``engine`` of family ``generate``: which one runs a model, what is refused, and what its card says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from consumer.generation.engine import Promises
from consumer.generation.null_engine import NullEngine
from consumer.generation.weights import engines
from consumer.generation.weights.opening import open_model
from consumer.models import installed
from consumer.models.generate import generate_family, null
from consumer.models.generate.generator import Generator, Row
from shared.model_config import ModelConfig
from tests.unit.consumer.generation.test_model_files import saved


@pytest.mark.parametrize("value", ["torch", "", 3, True, ["slots"]])
def test_an_engine_that_there_is_not(value: object) -> None:
    with pytest.raises(ValueError, match="engine must be one of slots, transformers"):
        generate_family.build(ModelConfig("generate", weights="x", options={"engine": value}), 1)


def test_an_engine_that_is_not_installed_is_told_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "is_there", lambda name: False)
    with pytest.raises(ValueError, match=r"not installed.*--group text"):
        generate_family.build(ModelConfig("generate", weights="x", options={"engine": "transformers"}), 1)


def test_the_family_and_the_table_of_engines_name_the_same_ones() -> None:
    assert set(generate_family.PACKAGES) == set(engines.ENGINES)


def test_openvino_reads_files_of_gguf_only(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="GGUF files only"):
        open_model(str(saved(tmp_path)), tmp_path, engine="openvino")


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (None, "FileNotFoundError"),
        ("[]", "AttributeError"),
        ('{"vocab_size": 3}', "max_position_embeddings"),
        ('{"vocab_size": 3, "max_position_embeddings": null}', "TypeError"),
        ("{", "JSONDecodeError"),
    ],
)
def test_a_configuration_without_sizes_is_said(config: str | None, told: str, tmp_path: Path) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    given = engines.Given(tmp_path, tmp_path, lambda is_packed: None, lambda tokens: "", (), 1, 64, "cpu", "fp32")  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match=told):
        engines.sizes_of(given)


def test_the_sizes_of_a_model_within_a_larger_one(tmp_path: Path) -> None:
    text = {"vocab_size": 300, "max_position_embeddings": 32}
    (tmp_path / "config.json").write_text(json.dumps({"text_config": text, "vocab_size": 1}))
    given = engines.Given(tmp_path, tmp_path, lambda is_packed: None, lambda tokens: "", (), 1, 64, "cpu", "fp32")  # type: ignore[arg-type, return-value]
    assert engines.sizes_of(given) == (32, 300)


def test_vllm_has_an_environment_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "is_there", lambda name: name != "vllm")
    with pytest.raises(ValueError, match=r"docs/engines\.md"):
        generate_family.build(ModelConfig("generate", weights="x", options={"engine": "vllm"}), 1)


def texts(model: Generator) -> list[str]:
    asked = {"max_tokens": 6, "temperature": 0, "ignore_end": True}
    read = model.opened.reader.read
    rows = [Row(read("", {**asked, "prompt": prompt}), False, None) for prompt in ("Hello", "abc", "x")]
    outputs = model.run(rows)
    return [one.text for one in (getattr(output, "generated", output).choices[0] for output in outputs)]


@pytest.mark.parametrize("engine", ["slots", "transformers"])
def test_a_model_answers_the_same_by_each_engine(engine: str, tmp_path: Path) -> None:
    options = {"engine": engine, "slots": 2, "context": 64}
    model = generate_family.build(ModelConfig("generate", weights=str(saved(tmp_path)), options=options), 1)
    assert isinstance(model, Generator)
    model.load("cpu", "fp32")
    assert model.engine.capacity() == (2, 64)
    assert model.runtime() == (engine, "")
    answers = texts(model)
    same = {"slots": 2, "context": 64}
    slots = generate_family.build(ModelConfig("generate", weights=str(tmp_path), options=same), 1)
    slots.load("cpu", "fp32")
    assert isinstance(slots, Generator)
    assert answers == texts(slots)
    model.close()
    slots.close()


def test_the_card_says_what_the_engine_cannot() -> None:
    engine = NullEngine(1, 16)
    engine.promises = Promises(schemas=False)
    reader = null.build({})
    reader.load("cpu", "fp32")
    model = Generator(lambda device, precision: null.Null(engine, reader.opened.reader), engine="other")  # type: ignore[arg-type]
    model.load("cpu", "fp32")
    assert model.runtime() == ("other", "the engine of this model; it keeps to no schema.")
