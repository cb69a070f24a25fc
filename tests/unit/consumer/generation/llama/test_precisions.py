"""Lower precisions of language models: compared with fp32 by what the network says, or refused in a sentence."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from consumer.generation.engine import Sequence
from consumer.generation.slots.engine import SlotEngine
from consumer.generation.weights import precisions
from consumer.generation.weights.opening import open_model
from consumer.loading.precision import PrecisionRefused, prepare
from consumer.loading.start_cache import StartCache
from consumer.models.generate import prompts
from consumer.models.generate.generator import Generator
from consumer.runtimes.instructions import Processor
from shared.wire.messages import Request
from tests.unit.consumer.generation.llama.networks import made
from tests.unit.consumer.generation.test_model_files import saved
from tests.unit.consumer.generation.tokenisers import VOCABULARY


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Generator]:
    folder = saved(tmp_path_factory.mktemp("model"))
    made("llama", vocab_size=VOCABULARY, initializer_range=0.1).save_pretrained(folder)  # calm: rounding stays small

    def open_it(device: str, precision: str) -> object:
        return open_model(str(folder), folder, slots=4, device=device, precision=precision)

    return lambda: Generator(open_it, lambda device: ("fp32", "bf16"))  # type: ignore[arg-type]


def test_bf16_is_compared_by_logits(build: Callable[[], Generator]) -> None:
    model, parity = prepare(build, "cpu", "bf16", StartCache(), max_batch=8)
    assert parity.precision == "bf16"
    assert parity.rows == 1 + 5 + 8
    assert 0 < parity.largest_difference < 0.03
    assert 0.999 < parity.cosine < 1
    model.close()


def test_bf16_that_says_something_else_is_refused(
    build: Callable[[], Generator], monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = SlotEngine.logits

    def other(engine: SlotEngine, prompt: tuple[int, ...]) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        found = exact(engine, prompt)
        return found if engine._network._dtype is torch.float32 else found[::-1].copy()  # type: ignore[attr-defined]

    monkeypatch.setattr(SlotEngine, "logits", other)
    with pytest.raises(PrecisionRefused):
        prepare(build, "cpu", "bf16", StartCache(), max_batch=8)


def test_automatic_choice_ends_with_a_model_that_runs(build: Callable[[], Generator]) -> None:
    """Which one is quicker is not asserted: so small a model is a matter of luck."""
    model, parity = prepare(build, "cpu", "auto", StartCache(), max_batch=8)
    assert parity.passed
    assert "bf16" in parity.reason or parity.precision == "bf16"
    outputs = model.run(model.sample_rows(2))
    assert model.postprocess(outputs[:1], Request("a", 1)).generated.usage.generated == 2  # type: ignore[union-attr]
    model.close()


def test_samples_are_many_texts_that_fit(build: Callable[[], Generator]) -> None:
    model = build()
    model.load("cpu", "fp32")
    rows = model.sample_rows(32)
    assert len({row.sequence.prompt for row in rows}) > 16
    assert max(len(row.sequence.prompt) for row in rows) + 2 <= 96
    model.close()


def test_prompts_do_not_run_out() -> None:
    texts = [prompts.prompt(number) for number in range(64)]
    assert len(set(texts)) == 64
    assert all(text.strip() for text in texts)


def test_logits_are_not_told_while_sequences_run(build: Callable[[], Generator]) -> None:
    model = build()
    model.load("cpu", "fp32")
    engine = model.engine
    assert isinstance(engine, SlotEngine)
    engine.start(Sequence("a", (1, 2), 3))
    with pytest.raises(RuntimeError, match="sequences are in the engine"):
        engine.logits((1, 2))
    engine.cancel("a")
    assert engine.logits((1, 2)).shape == (engine._network.vocabulary,)
    model.close()


@pytest.mark.parametrize("precision", ["tf32", "int8"])
def test_a_precision_that_there_is_not_is_named(build: Callable[[], Generator], precision: str) -> None:
    with pytest.raises(ValueError, match=f"runs in fp32, bf16 and fp16, not in {precision}"):
        build().load("cpu", precision)


def test_fp16_needs_instructions_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precisions, "this_processor", lambda: Processor("x86_64", onednn=frozenset({"bf16"})))
    with pytest.raises(ValueError, match="fp16 only where there are instructions for it"):
        precisions.datatype("cpu", "fp16")
    monkeypatch.setattr(precisions, "this_processor", lambda: Processor("x86_64", onednn=frozenset({"fp16"})))
    assert precisions.datatype("cpu", "fp16") is torch.float16
    assert precisions.datatype("cuda", "bf16") is torch.bfloat16
