"""transformers' continuous batching beyond the contract: schemas, outputs that are not finite, a model that fails."""

from __future__ import annotations

import json
import math
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from consumer.generation.detokeniser import Decode
from consumer.generation.engine import EngineDied, Finish, Sampling, Sequence
from consumer.generation.library_engine import LibraryEngine
from consumer.generation.schema import Schemas
from consumer.generation.slots.engine import SlotEngine
from consumer.generation.slots.network import SlotNetwork
from consumer.generation.transformers_batching.library import TransformersLibrary
from tests.unit.consumer.generation.engines import CONTEXT, Ended, llama, run, sequence, slot_engine, slots, take
from tests.unit.consumer.generation.tokenisers import END, VOCABULARY, byte_tokenizer, tokeniser

KIND = slots()


def engine_of(model: Any, count: int = 2, decode: Decode = KIND.decode) -> LibraryEngine:
    library = TransformersLibrary(model, count, CONTEXT, decode, prompt_tokens=16)
    return LibraryEngine(library, count, decode, (KIND.end,))


class _Poison(nn.Module):
    """An embedding that gives NaN for one token, and fails for another."""

    def __init__(self, inner: nn.Embedding, token: int, fails: int) -> None:
        super().__init__()
        self._inner, self._token, self._fails = inner, token, fails

    def forward(self, ids: Tensor) -> Tensor:
        if bool((ids == self._fails).any()):
            raise RuntimeError("the device is gone")
        out: Tensor = self._inner(ids)
        return out.masked_fill((ids == self._token)[..., None], math.nan)


def poisoned(count: int = 2) -> LibraryEngine:
    model = deepcopy(llama())
    model.model.embed_tokens = _Poison(model.model.embed_tokens, ord("!"), ord("?"))
    return engine_of(model, count)


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_logits_that_are_not_finite_end_their_sequence_only(temperature: float) -> None:
    """All share one attention, in which one spoils the others: each is tried alone, and those that are well go on."""
    engine = poisoned()
    sampling = Sampling(temperature=temperature, seed=3)
    healthy = [
        sequence(KIND, id, prompt, 30, sampling=sampling, ignores_end=True)
        for id, prompt in (("first", "abcdef"), ("next", "gh"))
    ]
    engine.start(healthy[0])
    ended: dict[str, Ended] = {}
    for _ in range(3):
        take(ended, engine.step())
    engine.start(sequence(KIND, "ill", "abc!def" * 4, 9, ignores_end=True))
    while "ill" not in ended:
        take(ended, engine.step())
    engine.start(healthy[1])
    while len([one for one in ended.values() if one.finish]) < 3:
        take(ended, engine.step())
    error = ended["ill"].error
    assert ended["ill"].finish is Finish.ERROR
    assert error is not None
    assert "not finite" in error.message
    for one in healthy:
        assert ended[one.id].tokens == run(slot_engine(1, 64), [one])[one.id].tokens
    engine.close()


def test_while_one_is_looked_for_others_may_come_and_go() -> None:
    engine = poisoned(4)
    for id in "abc":
        engine.start(sequence(KIND, id, id * 9, 12, ignores_end=True))
    engine.step()
    engine.start(sequence(KIND, "ill", "!", 9, ignores_end=True))
    engine.step()
    engine.cancel("a")
    new = sequence(KIND, "new", "xyz", 12, ignores_end=True)
    engine.start(new)
    ended: dict[str, Ended] = {}
    while not all(id in ended and ended[id].finish for id in ("b", "c", "ill", "new")):
        take(ended, engine.step())
    assert "a" not in ended
    assert ended["new"].tokens == run(slot_engine(1, 64), [new])["new"].tokens
    assert engine.capacity().slots == 4
    engine.close()


def test_a_model_that_fails_is_an_engine_that_died_and_it_can_be_closed() -> None:
    engine = poisoned()
    engine.start(sequence(KIND, "a", "abc", 30, ignores_end=True))
    engine.step()
    engine.start(sequence(KIND, "b", "a?c", 30, ignores_end=True))
    with pytest.raises(EngineDied, match="the device is gone"):
        engine.step()
    engine.close()


def test_a_schema_and_log_probabilities_are_those_of_the_slot_engine() -> None:
    made = tokeniser()
    schemas = Schemas(lambda: made.definition, VOCABULARY, END)
    model = deepcopy(llama())
    model.resize_token_embeddings(VOCABULARY, mean_resizing=False)
    assert byte_tokenizer().get_vocab_size() == VOCABULARY

    def asked(id: str, temperature: float) -> Sequence:
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}},
        }
        schema |= {"required": ["a"], "additionalProperties": False}
        return Sequence(
            id,
            made.encode("json"),
            40,
            Sampling(temperature=temperature, seed=7, logprobs=2),
            constraint=schemas.constraint(schema),
        )

    found = run(engine_of(deepcopy(model), decode=made.decode), [asked("a", 0.0), asked("b", 0.8)])
    by_slots = SlotEngine(SlotNetwork(model, 2, CONTEXT), made.decode, (END,))
    expected = run(by_slots, [asked("a", 0.0), asked("b", 0.8)])
    for id in "ab":
        assert set(json.loads(made.decode(found[id].tokens))) == {"a"}
        assert found[id].tokens == expected[id].tokens
        pairs = zip(found[id].logprobs, expected[id].logprobs, strict=True)
        assert all(one.logprob == pytest.approx(other.logprob, abs=1e-3) for one, other in pairs)


def test_memory_for_the_keys_is_taken_once_and_suffices_for_every_slot() -> None:
    engine = engine_of(deepcopy(llama()), count=3)
    longest = [sequence(KIND, str(at), "x" * (CONTEXT - 20 - at), 20 + at, ignores_end=True) for at in range(3)]
    for _ in range(2):
        found = run(engine, longest)
        assert [len(found[one.id].tokens) for one in longest] == [20, 21, 22]
    assert torch.is_inference_mode_enabled() is False
