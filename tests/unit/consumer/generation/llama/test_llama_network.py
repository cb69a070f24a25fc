"""Headrace's own code for the Llama family: the answers of transformers in every configuration, or transformers."""

from __future__ import annotations

import gc
import logging
import math
import weakref
from copy import deepcopy
from typing import Any

import pytest
import torch

from consumer.generation import null_engine
from consumer.generation.engine import Finish
from consumer.generation.seats import Work
from consumer.generation.slots.choice import network_of
from consumer.generation.slots.engine import SlotEngine
from consumer.generation.slots.limits import CannotServe
from consumer.generation.slots.llama import LlamaNetwork, knows
from consumer.generation.slots.network import SlotNetwork
from consumer.runtimes.pytorch import packed_linear
from tests.unit.consumer.generation.engines import CONTEXT, Ended, run, sequence, take
from tests.unit.consumer.generation.llama.networks import ARCHITECTURES, engine, kind, made, model
from tests.unit.consumer.generation.test_slot_engine import expected, prompts

KIND = kind("llama")
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 24}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "one head of keys": {"num_key_value_heads": 1},
    "as many heads of keys": {"num_key_value_heads": 4},
    "three queries a head": {"hidden_size": 48, "num_attention_heads": 6, "num_key_value_heads": 2},
    "heads wider than the rest": {"head_dim": 24},
    "tied head": {"tie_word_embeddings": True},
    "biases everywhere": {"attention_bias": True, "mlp_bias": True},
    "yarn": {"rope_parameters": YARN},
    "llama3": {"rope_parameters": LLAMA3},
    "linear": {"rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 2.0}},
}


def asked() -> list[Any]:
    return [sequence(KIND, str(at), text, 20, ignores_end=True) for at, text in enumerate(prompts())]


def answers(ours: SlotEngine) -> list[list[int]]:
    found = run(ours, asked())
    return [found[one.id].tokens for one in asked()]


def of_transformers(tiny: Any) -> list[list[int]]:
    return [expected(tiny, text, 20) for text in prompts()]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_answers_are_those_of_transformers(architecture: str) -> None:
    tiny = model(architecture)
    assert knows(tiny)
    assert answers(engine(3, 5, tiny)) == of_transformers(tiny)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_in_every_configuration(name: str) -> None:
    tiny = made("llama", **CONFIGURATIONS[name])
    assert knows(tiny)
    assert answers(engine(3, 16, tiny)) == of_transformers(tiny)


def test_without_packed_weights_as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_linear, "is_possible", lambda: False)
    assert answers(engine(3, 16, model("qwen2"))) == of_transformers(model("qwen2"))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_are_those_of_transformers(architecture: str) -> None:
    tiny = model(architecture)
    running = engine(1, 64, tiny)
    text = "the quick brown fox"
    running.start(sequence(KIND, "a", text, 2, ignores_end=True))
    [seat] = running._seats
    found = running._network([Work(seat, 0, len(seat.tokens), False)])[0]
    with torch.inference_mode():
        exact = tiny(torch.tensor([KIND.encode(text)])).logits[0, -1]
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-4 * float(exact.abs().max()))


def test_in_bf16_it_comes_as_close_to_fp32_as_transformers_does() -> None:
    """Ours is compared with fp32 and not with transformers' bf16: both round, and not at the same places."""
    tiny = model("llama")
    half = deepcopy(tiny).to(torch.bfloat16)
    text = KIND.encode("zyxwvutsrqponm " * 4)
    with torch.inference_mode():
        exact = tiny(torch.tensor([text])).logits[0, -1]
        theirs = half(torch.tensor([text])).logits[0, -1].float()
    running = SlotEngine(LlamaNetwork(half, 1, CONTEXT), KIND.decode, ())
    running.start(sequence(KIND, "a", "zyxwvutsrqponm " * 4, 2))
    [seat] = running._seats
    mine = running._network([Work(seat, 0, len(seat.tokens), False)])[0]
    assert float((mine - exact).abs().max()) < 2 * float((theirs - exact).abs().max())


def test_a_model_with_a_window_is_served_within_it() -> None:
    tiny = made("mistral", sliding_window=40)
    running = engine(2, 16, tiny)
    assert running.capacity().tokens == 40
    one = sequence(KIND, prompt="abcdefgh", max_tokens=32, ignores_end=True)
    assert run(running, [one])["a"].tokens == expected(tiny, "abcdefgh", 32)


def test_no_layer_of_the_model_is_left_while_the_next_one_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = deepcopy(model("llama"))
    layers = [weakref.ref(layer.mlp.up_proj.weight) for layer in tiny.model.layers]
    alive: list[int] = []
    packed = packed_linear.packed

    def counted(weight: torch.Tensor) -> torch.Tensor:
        gc.collect()
        alive.append(sum(layer() is not None for layer in layers))
        return packed(weight)

    monkeypatch.setattr(packed_linear, "packed", counted)
    LlamaNetwork(tiny, 2, CONTEXT)
    assert alive == [2, 2, 2, 2, 1, 1, 1, 1, 0]  # four products a layer, and the head


def test_it_is_chosen_for_what_it_knows_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert isinstance(network_of(lambda: deepcopy(model("qwen2")), 2, CONTEXT), LlamaNetwork)
    assert "Headrace's own code" in caplog.text


@pytest.mark.parametrize(
    "more",
    [
        {"hidden_act": "gelu"},
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}},
    ],
)
def test_what_it_does_not_know_is_left_to_transformers(more: dict[str, Any]) -> None:
    tiny = made("llama", **more)
    assert not knows(tiny)
    network = network_of(lambda: deepcopy(tiny), 3, CONTEXT)
    assert isinstance(network, SlotNetwork)
    assert answers(SlotEngine(network, KIND.decode, ())) == of_transformers(tiny)


class _Other:
    """Makes a model compute something else than its configuration says, in a way that only its outputs show."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> Any:
        self.count += 1
        tiny = deepcopy(model("llama"))
        for layer in tiny.model.layers:
            layer.mlp.register_forward_hook(lambda module, given, out: out * 1.5)
        return tiny


def test_what_computes_something_else_falls_back_to_transformers(caplog: pytest.LogCaptureFixture) -> None:
    read = _Other()
    with caplog.at_level(logging.WARNING):
        network = network_of(read, 3, CONTEXT)
    assert isinstance(network, SlotNetwork)
    assert read.count == 2
    assert "transformers' modules compute this 'llama'" in caplog.text
    assert answers(SlotEngine(network, KIND.decode, ())) == of_transformers(_Other()())


def test_layers_of_another_kind_fall_back_too() -> None:
    tiny = deepcopy(model("llama"))
    del tiny.model.layers[1].mlp.gate_proj
    tiny.model.layers[1].mlp.forward = lambda x: x
    with pytest.raises(CannotServe, match="its layers are not those of its kind"):
        LlamaNetwork(tiny, 2, CONTEXT)


def test_numbers_that_are_not_finite_end_their_sequence_only() -> None:
    healthy = sequence(KIND, "healthy", "abcdef", 30, ignores_end=True)
    alone = run(engine(1, 64, model("llama")), [healthy])["healthy"].tokens
    ours = engine(2, 64, model("llama"))
    with torch.inference_mode():
        ours._network._embedding[ord("!")] = math.nan  # type: ignore[attr-defined]
    ours.start(healthy)
    ended: dict[str, Ended] = {}
    take(ended, ours.step())
    ours.start(sequence(KIND, "ill", "abc!def", 9, ignores_end=True))
    while "ill" not in ended:
        take(ended, ours.step())
    assert ended["ill"].finish is Finish.ERROR
    ours.start(sequence(KIND, "next", "gh", 30, ignores_end=True))  # takes the slot that was poisoned
    while not ended["healthy"].finish:
        take(ended, ours.step())
    assert ended["healthy"].tokens == alone
    assert ended["next"].finish is not Finish.ERROR


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_on_a_gpu_the_answers_are_the_same(architecture: str) -> None:
    tiny = model(architecture)
    network = LlamaNetwork(deepcopy(tiny).to("cuda"), 3, CONTEXT)
    assert answers(SlotEngine(network, null_engine.decode, (), alone=16, beside=16)) == of_transformers(tiny)
