"""What every engine promises; see ``consumer/generation/engine.py``. A new engine is one more of ``KINDS``."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from math import exp

import pytest

from consumer.generation.engine import Finish, Sampling, Sequence
from shared.wire.outcomes import CONTEXT_LENGTH_EXCEEDED, INVALID_INPUT, UNSUPPORTED, RequestError
from tests.helpers import first
from tests.unit.consumer.generation import engines
from tests.unit.consumer.generation.engines import CONTEXT, Ended, Kind, run, sequence, take
from tests.unit.consumer.generation.llama import networks

KINDS: dict[str, Callable[[], Kind]] = {
    "null": engines.null,
    "slots": engines.slots,
    "slots, own code, llama": lambda: networks.kind("llama"),
    "slots, own code, mistral": lambda: networks.kind("mistral"),
    "slots, own code, qwen2": lambda: networks.kind("qwen2"),
    "transformers": engines.transformers,
    "openvino": engines.openvino,
    "vllm": engines.vllm,
}
NEEDS = {"openvino": "openvino_genai", "vllm": "vllm"}
"""Those with a real model, which takes longer, and the module without which there is none of them."""

PARAMETERS = [
    pytest.param(
        name,
        marks=[
            pytest.mark.soak,
            pytest.mark.timeout(300),
            pytest.mark.skipif(find_spec(NEEDS[name]) is None, reason=f"{NEEDS[name]} is not installed"),
        ]
        if name in NEEDS
        else [],
    )
    for name in KINDS
]
HALF = "\N{REPLACEMENT CHARACTER}"


@pytest.fixture(scope="module", autouse=True)
def _closed() -> Iterator[None]:
    yield
    engines.close_shared()


@cache
def _kind(name: str) -> Kind:
    return KINDS[name]()


@pytest.fixture(params=PARAMETERS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return _kind(request.param)


def alone(kind: Kind, one: Sequence) -> Ended:
    return run(kind.make(1, 64), [one])[one.id]


def some(kind: Kind, count: int = 7) -> list[Sequence]:
    """Sequences of different lengths, greedy and sampled."""
    drawn = random.Random(5)
    return [
        sequence(
            kind,
            f"s{number}",
            "".join(drawn.choices("abcdefgh é", k=drawn.randint(1, 40))),
            drawn.randint(1, 20),
            sampling=Sampling(temperature=0.9 * (number % 2), top_p=0.95, seed=number) if number % 3 else Sampling(),
            ignores_end=True,
        )
        for number in range(count)
    ]


def test_an_empty_engine_does_nothing(kind: Kind) -> None:
    engine = kind.make(3, 64)
    assert engine.capacity() == (3, CONTEXT)
    assert engine.step() == []


def test_a_sequence_ends_with_its_last_token(kind: Kind) -> None:
    ended = alone(kind, sequence(kind, max_tokens=9, ignores_end=True))
    assert len(ended.tokens) == 9
    assert ended.finish is Finish.LENGTH
    assert ended.text == kind.decode(ended.tokens)


@pytest.mark.parametrize("slots", first(2, [1, 3, 2, 5]))
@pytest.mark.parametrize("prefill", first(2, [3, 128, 16]))
def test_company_changes_nothing(kind: Kind, slots: int, prefill: int) -> None:
    together = run(kind.make(slots, prefill), some(kind))
    assert {one.id: together[one.id].tokens for one in some(kind)} == {
        one.id: alone(kind, one).tokens for one in some(kind)
    }


def test_texts_join_to_what_the_tokens_say(kind: Kind) -> None:
    for ended in run(kind.make(3, 16), some(kind)).values():
        assert ended.text == kind.decode(ended.tokens)


def test_steps_come_in_the_order_of_the_starts(kind: Kind) -> None:
    engine = kind.make(4, 128)
    for id in "dbca":
        engine.start(sequence(kind, id, id * 3, 5, ignores_end=True))
    for _ in range(5):
        ids = [step.id for step in engine.step()]
        assert ids == [id for id in "dbca" if id in ids]


def test_slots_are_taken_and_given_back(kind: Kind) -> None:
    engine = kind.make(2, 64)
    engine.start(sequence(kind, "a", max_tokens=1, ignores_end=True))
    assert engine.capacity().slots == 1
    engine.start(sequence(kind, "b", max_tokens=40, ignores_end=True))
    assert engine.capacity().slots == 0
    with pytest.raises(RuntimeError):
        engine.start(sequence(kind, "c"))
    ended: dict[str, Ended] = {}
    while "a" not in ended:
        take(ended, engine.step())
    assert engine.capacity().slots == 1


def test_an_id_is_in_the_engine_once(kind: Kind) -> None:
    engine = kind.make(2, 64)
    engine.start(sequence(kind, "a"))
    with pytest.raises(RuntimeError):
        engine.start(sequence(kind, "a"))
    assert engine.capacity().slots == 1


def test_cancelling_frees_the_slot_and_nobody_else_notices(kind: Kind) -> None:
    engine = kind.make(3, 64)
    kept = [sequence(kind, "x", "abcab", 10, ignores_end=True), sequence(kind, "z", "hgf", 10, ignores_end=True)]
    engine.start(kept[0])
    engine.start(sequence(kind, "y", "cde", 40, ignores_end=True))
    engine.start(kept[1])
    ended: dict[str, Ended] = {}
    for _ in range(3):
        take(ended, engine.step())
    engine.cancel("y")
    assert engine.capacity().slots == 1
    engine.start(sequence(kind, "w", "ggg", 4, ignores_end=True))
    late: dict[str, Ended] = {}
    for _ in range(12):
        steps = engine.step()
        assert "y" not in [step.id for step in steps]
        take(late, steps)
    for one in kept:
        assert ended[one.id].tokens + late[one.id].tokens == alone(kind, one).tokens
    assert late["w"].tokens == alone(kind, sequence(kind, "w", "ggg", 4, ignores_end=True)).tokens


def test_cancelling_before_the_first_step_and_what_is_unknown(kind: Kind) -> None:
    engine = kind.make(1, 64)
    engine.cancel("nobody")
    engine.start(sequence(kind, "a"))
    engine.cancel("a")
    assert engine.capacity().slots == 1
    assert engine.step() == []


def test_cancelling_while_the_prompt_is_read(kind: Kind) -> None:
    engine = kind.make(2, 3)
    engine.start(sequence(kind, "long", "abcd" * 10, 4, ignores_end=True))
    engine.step()
    engine.cancel("long")
    other = sequence(kind, "other", "fed", 6, ignores_end=True)
    assert run(engine, [other])["other"].tokens == alone(kind, other).tokens


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_going_on_is_as_if_nothing_had_happened(kind: Kind, temperature: float) -> None:
    whole = sequence(
        kind,
        prompt="dé fg",
        max_tokens=18,
        sampling=Sampling(temperature=temperature, top_p=0.9, seed=77),
        ignores_end=True,
    )
    undisturbed = alone(kind, whole)
    is_the_same = temperature == 0 or kind.promises.draws_go_on
    for done in range(0, len(undisturbed.tokens) + 1, 6 if kind.is_slow else 2):
        first = kind.make(1, 64)
        first.start(whole)
        before = Ended()
        while len(before.tokens) < done:
            for step in first.step():
                before.take(step)
        rest = alone(kind, replace(whole, generated=tuple(before.tokens)))
        assert before.tokens == undisturbed.tokens[:done]
        if not is_the_same:
            assert len(before.tokens + rest.tokens) == len(undisturbed.tokens)
            assert 0 < done < 18 or rest.tokens == undisturbed.tokens[done:]
            continue
        assert before.tokens + rest.tokens == undisturbed.tokens
        if before.finish is None:
            assert before.text + rest.text == undisturbed.text
        assert rest.finish is undisturbed.finish


def test_going_on_beside_others(kind: Kind) -> None:
    engine = kind.make(2, 7)
    engine.start(sequence(kind, "other", "hhe", 30, ignores_end=True))
    engine.step()
    whole = sequence(kind, prompt="bad", max_tokens=14, ignores_end=True)
    undisturbed = alone(kind, whole)
    rest = run(engine, [replace(whole, generated=tuple(undisturbed.tokens[:9]))])["a"]
    assert rest.tokens == undisturbed.tokens[9:]


def test_a_seed_decides_and_so_does_the_position(kind: Kind) -> None:
    def drawn(seed: int) -> list[int]:
        one = sequence(kind, max_tokens=16, sampling=Sampling(temperature=1.0, seed=seed), ignores_end=True)
        return alone(kind, one).tokens

    assert drawn(3) == drawn(3)
    assert len({tuple(drawn(seed)) for seed in range(6)}) == 6
    assert len(set(drawn(3))) > 1


def test_text_never_holds_half_a_character(kind: Kind) -> None:
    one = sequence(kind, prompt="€𝄞é", max_tokens=27, ignores_end=True)
    engine = kind.make(1, 64)
    engine.start(one)
    ended = Ended()
    while ended.finish is None:
        for step in engine.step():
            ended.take(step)
            if step.finish is None:  # later pieces never change what is there already
                assert kind.decode(ended.tokens).startswith(ended.text)
    assert ended.text == kind.decode(ended.tokens)


def test_the_first_stop_string_ends_a_sequence_and_is_not_part_of_it(kind: Kind) -> None:
    free = alone(kind, sequence(kind, prompt="abcdefg", max_tokens=40, ignores_end=True))
    text = free.text
    stop = next(
        text[at : at + 3] for at in range(2, len(text)) if HALF not in text[at : at + 3] and text[at : at + 3].strip()
    )
    one = sequence(kind, prompt="abcdefg", max_tokens=40, stop=("\x00never", stop), ignores_end=True)
    ended = alone(kind, one)
    assert ended.text == text[: text.index(stop)]
    assert ended.finish is Finish.STOP
    assert ended.tokens == free.tokens[: len(ended.tokens)]
    assert stop in kind.decode(ended.tokens)
    for done in range(len(ended.tokens) + 1):
        rest = alone(kind, replace(one, generated=tuple(ended.tokens[:done])))
        assert (rest.tokens, rest.finish) == (ended.tokens[done:], Finish.STOP)


def test_what_may_become_a_stop_string_is_held_back_until_the_end(kind: Kind) -> None:
    free = alone(kind, sequence(kind, prompt="abcdefg", max_tokens=10, ignores_end=True))
    stop = free.text[-2:] + "\x00 and more"
    ended = alone(kind, sequence(kind, prompt="abcdefg", max_tokens=10, stop=(stop,), ignores_end=True))
    assert ended.text == free.text
    assert ended.finish is Finish.LENGTH
    assert len(ended.texts[-1]) >= 2


def test_logprobs_are_those_of_a_distribution(kind: Kind) -> None:
    most = kind.promises.logprobs
    if most is None or most < 3:
        wanted = sequence(kind, sampling=Sampling(logprobs=(most or 0) + 1))
        assert (refused(kind, wanted).outcome, refused(kind, wanted).field) == (UNSUPPORTED, "logprobs")
    if most is None:
        return
    one = sequence(kind, max_tokens=6, sampling=Sampling(logprobs=min(3, most)), ignores_end=True)
    ended = alone(kind, one)
    assert [entry.token for entry in ended.logprobs] == ended.tokens
    for entry in ended.logprobs:
        assert 0 < exp(entry.logprob) <= 1 + 1e-9
        assert sum(exp(value) for _, _, value in entry.top) <= 1 + 1e-6
        assert [value for _, _, value in entry.top] == sorted((value for _, _, value in entry.top), reverse=True)
        if entry.top:  # greedy: the token is the likeliest one
            assert entry.top[0][0] == entry.token
    assert alone(kind, sequence(kind, max_tokens=3)).logprobs == []


class Anything:
    """A constraint that allows everything."""

    def __init__(self) -> None:
        self.taken: list[int] = []

    def allowed(self) -> bytes:
        return b"\xff" * (1 << 14)

    def advance(self, token: int) -> None:
        self.taken.append(token)


def test_a_constraint_is_asked_or_refused(kind: Kind) -> None:
    constraint = Anything()
    one = sequence(kind, max_tokens=6, ignores_end=True, constraint=constraint)
    if not kind.promises.schemas:
        assert (refused(kind, one).outcome, refused(kind, one).field) == (UNSUPPORTED, "schema")
        return
    first = alone(kind, one)
    assert constraint.taken == first.tokens == alone(kind, replace(one, constraint=None)).tokens
    constraint.taken.clear()
    rest = alone(kind, replace(one, generated=tuple(first.tokens[:4])))
    assert constraint.taken == first.tokens
    assert rest.tokens == first.tokens[4:]


def refused(kind: Kind, one: Sequence) -> RequestError:
    engine = kind.make(2, 64)
    with pytest.raises(RequestError) as caught:
        engine.start(one)
    assert engine.capacity() == (2, CONTEXT)
    return caught.value


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"sampling": Sampling(temperature=-1)}, "temperature"),
        ({"sampling": Sampling(temperature=float("nan"))}, "temperature"),
        ({"sampling": Sampling(top_p=0)}, "top_p"),
        ({"sampling": Sampling(top_k=-1)}, "top_k"),
        ({"sampling": Sampling(seed=-1)}, "seed"),
        ({"sampling": Sampling(seed=1 << 64)}, "seed"),
        ({"sampling": Sampling(logprobs=21)}, "logprobs"),
        ({"stop": ("",)}, "stop[0]"),
        ({"stop": ("a", "b" * 257)}, "stop[1]"),
        ({"stop": ("a", "b", "c", "d", "e")}, "stop"),
        ({"generated": (1,) * 13}, "generated"),
        ({"generated": (-1,)}, "generated"),
        ({"prompt": ""}, "prompt"),
    ],
)
def test_what_can_never_run_is_refused_by_name(kind: Kind, more: dict[str, object], field: str) -> None:
    if "prompt" in more:
        more = {**more, "prompt": kind.encode(str(more["prompt"]))}
    error = refused(kind, replace(sequence(kind), **more))  # type: ignore[arg-type]
    assert (error.outcome, error.field) == (INVALID_INPUT, field)


def test_a_token_that_is_none(kind: Kind) -> None:
    assert refused(kind, replace(sequence(kind), prompt=(1, 1 << 30))).field == "prompt"


@pytest.mark.parametrize(("length", "asked", "field"), [(CONTEXT, 1, "prompt"), (3, CONTEXT, "max_tokens")])
def test_too_long_says_both_numbers(kind: Kind, length: int, asked: int, field: str) -> None:
    error = refused(kind, replace(sequence(kind), prompt=(1,) * length, max_tokens=asked))
    assert (error.outcome, error.field, error.outcome.status) == (CONTEXT_LENGTH_EXCEEDED, field, 400)
    assert str(CONTEXT) in error.message
    assert str(length + asked) in error.message


def test_the_whole_context_can_be_used(kind: Kind) -> None:
    one = sequence(kind, prompt="a" * (CONTEXT - 30), max_tokens=30, ignores_end=True)
    assert len(alone(kind, one).tokens) == 30
