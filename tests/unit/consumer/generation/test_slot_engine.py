"""The slot engine beyond the contract: the model's own answers, lack of memory, outputs that are not finite."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from consumer.generation.engine import Engine, Finish, Sampling
from consumer.generation.slots.engine import SlotEngine
from consumer.generation.slots.limits import CannotServe
from consumer.generation.slots.network import SlotNetwork
from consumer.runtimes.pytorch import packed_linear
from tests import memory
from tests.unit.consumer.generation.engines import CONTEXT, Ended, llama, run, sequence, slot_engine, slots, take

KIND = slots()


def prompts() -> list[str]:
    return ["abc", "the quick brown fox jumps over", "x", "zyxwvutsrqponm " * 3]


def expected(model: Any, prompt: str, count: int) -> list[int]:
    """Return what transformers' own ``generate`` answers greedily."""
    ids = torch.tensor([KIND.encode(prompt)])
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=count,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    return [int(token) for token in out[0, ids.shape[1] :]]


@pytest.mark.parametrize("prefill", [5, 64])
def test_the_answers_are_those_of_transformers(prefill: int) -> None:
    asked = [sequence(KIND, str(at), text, 20, ignores_end=True) for at, text in enumerate(prompts())]
    found = run(slot_engine(3, prefill), asked)
    assert [found[one.id].tokens for one in asked] == [expected(llama(), text, 20) for text in prompts()]


def test_packed_linear_layers_give_the_same_answers() -> None:
    model = deepcopy(llama())
    assert packed_linear.pack(model) == 15
    asked = [sequence(KIND, str(at), text, 20, ignores_end=True) for at, text in enumerate(prompts())]
    assert {id: one.tokens for id, one in run(slot_engine(3, 16, model), asked).items()} == {
        id: one.tokens for id, one in run(slot_engine(3, 16), asked).items()
    }


def test_a_packed_layer_does_what_its_layer_does() -> None:
    linear = nn.Linear(24, 17)
    packed = packed_linear.PackedLinear(linear)
    for shape in ((24,), (1, 24), (3, 24), (2, 5, 24), (40, 24)):
        x = torch.randn(shape)
        torch.testing.assert_close(packed(x), linear(x))


class _Failing:
    """A network that runs out of memory above ``most`` tokens."""

    def __init__(self, network: SlotNetwork, most: int) -> None:
        self._network, self.most, self.passes = network, most, list[int]()
        self.vocabulary, self.context, self.cache = network.vocabulary, network.context, network.cache

    def __call__(self, work: list[Any]) -> Tensor:
        tokens = sum(one.count for one in work)
        if tokens > self.most:
            raise torch.OutOfMemoryError("made up")
        self.passes.append(tokens)
        return self._network(work)


def failing(slots: int, most: int) -> tuple[SlotEngine, _Failing]:
    network = _Failing(SlotNetwork(deepcopy(llama()), slots, CONTEXT), most)
    return SlotEngine(network, KIND.decode, (KIND.end,)), network


@pytest.mark.parametrize("most", [1, 2, 3, 10])
def test_a_step_for_which_memory_does_not_suffice_runs_in_parts(most: int) -> None:
    engine, network = failing(4, most)
    asked = [sequence(KIND, str(at), text, 12, ignores_end=True) for at, text in enumerate(prompts())]
    found = run(engine, asked)
    assert {id: one.tokens for id, one in found.items()} == {
        id: one.tokens for id, one in run(slot_engine(4, 512), asked).items()
    }
    assert max(network.passes) <= most


def test_memory_that_does_not_suffice_for_one_token_ends_that_sequence() -> None:
    engine, network = failing(2, 0)
    found = run(engine, [sequence(KIND, "a")])["a"]
    assert found.finish is Finish.ERROR
    assert found.error is not None
    assert "Memory" in found.error.message
    network.most = 100
    assert len(run(engine, [sequence(KIND, "b", ignores_end=True)])["b"].tokens) == 12


class _Poison(nn.Module):
    """An embedding that gives NaN for one token."""

    def __init__(self, inner: nn.Embedding, token: int) -> None:
        super().__init__()
        self._inner, self._token = inner, token

    def forward(self, ids: Tensor) -> Tensor:
        out: Tensor = self._inner(ids)
        return out.masked_fill((ids == self._token)[..., None], math.nan)


def poisoned() -> Engine:
    model = deepcopy(llama())
    engine = slot_engine(2, 64, model)
    model.model.embed_tokens = _Poison(model.model.embed_tokens, ord("!"))
    return engine


def test_logits_that_are_not_finite_end_their_sequence_only() -> None:
    engine = poisoned()
    healthy = sequence(KIND, "healthy", "abcdef", 30, ignores_end=True)
    alone = run(slot_engine(1, 64), [healthy])["healthy"]
    engine.start(healthy)
    ended: dict[str, Ended] = {}
    take(ended, engine.step())
    engine.start(sequence(KIND, "ill", "abc!def", 9, ignores_end=True))
    while "ill" not in ended:
        take(ended, engine.step())
    assert ended["ill"].finish is Finish.ERROR
    assert ended["ill"].error is not None
    assert "not finite" in ended["ill"].error.message
    engine.start(sequence(KIND, "next", "gh", 30, ignores_end=True))  # takes the slot that was poisoned
    while not ended["healthy"].finish:
        take(ended, engine.step())
    assert ended["healthy"].tokens == alone.tokens
    while not ended["next"].finish:
        take(ended, engine.step())
    assert (
        ended["next"].tokens
        == run(slot_engine(1, 64), [sequence(KIND, "next", "gh", 30, ignores_end=True)])["next"].tokens
    )


def test_logprobs_are_the_models_own() -> None:
    one = sequence(KIND, prompt="abcd", max_tokens=1, sampling=Sampling(logprobs=5), ignores_end=True)
    [entry] = run(slot_engine(1, 64), [one])["a"].logprobs
    with torch.inference_mode():
        logits = llama()(torch.tensor([KIND.encode("abcd")])).logits[0, -1]
    values = torch.log_softmax(logits, -1)
    assert [token for token, _, _ in entry.top] == values.topk(5).indices.tolist()
    assert entry.logprob == pytest.approx(float(values.max()), abs=1e-4)


def test_a_model_that_cannot_be_served_in_slots_is_refused() -> None:
    class Other(type(llama())):  # type: ignore[misc]
        def forward(self, *arguments: Any, **named: Any) -> Any:
            out = super().forward(*arguments, **named)
            if "slot_pass" in named:
                out.logits = out.logits + torch.arange(out.logits.shape[-1])
            return out

    model = deepcopy(llama())
    model.__class__ = Other
    with pytest.raises(CannotServe):
        SlotNetwork(model, 2, CONTEXT)


def test_a_model_with_a_window_is_served_within_it() -> None:
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(1)
    config = MistralConfig(
        vocab_size=257,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        sliding_window=40,
        initializer_range=0.5,
    )
    model = MistralForCausalLM(config).eval()
    engine = slot_engine(2, 16, deepcopy(model))
    assert engine.capacity().tokens == 40
    one = sequence(KIND, prompt="abcdefgh", max_tokens=32, ignores_end=True)
    assert run(engine, [one])["a"].tokens == expected(model, "abcdefgh", 32)


def test_slots_take_no_memory_before_they_are_used() -> None:
    """Room for 2 GiB is reserved, and nearly none of it is taken."""
    from consumer.generation.slots.cache import Shape, SlotCache

    before = memory.resident_bytes()
    cache = SlotCache(Shape(layers=8, slots=16, heads=2, context=8192, size=128), torch.float32, "cpu")
    assert cache.shape.bytes() == 2 << 30
    assert memory.resident_bytes() - before < 64 << 20
