"""Which engine runs a language model."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from consumer.generation.detokeniser import Decode
from consumer.generation.engine import Engine

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class Given:
    """What an engine is made of.

    Attributes:
        place: the folder or GGUF file that the weights are in, as they came.
        folder: the folder with weights, configuration and tokeniser as transformers saves them.
        network: reads the weights for torch; told whether linear layers are to be packed where that is possible.
        decode: the text of tokens.
        ends: tokens with which the model ends a text.
        slots: sequences at once.
        context: most tokens of one.
        device: ``cpu`` or ``cuda``.
        precision: ``fp32``, ``fp16`` or ``bf16``.
    """

    place: Path
    folder: Path
    network: Callable[[bool], PreTrainedModel]
    decode: Decode
    ends: Container[int]
    slots: int
    context: int
    device: str
    precision: str


class Made(NamedTuple):
    """An engine, most tokens of a sequence, how many tokens there are, and what tells logits, if anything does."""

    engine: Engine
    context: int
    vocabulary: int
    logits: Callable[[Sequence[int]], NDArray[np.float32]] | None = None


def make(name: str, given: Given) -> Made:
    """Make the engine ``name``, one of :data:`ENGINES`.

    Raises:
        ValueError: it cannot run this model; one sentence.
    """
    return ENGINES[name](given)


def _slots(given: Given) -> Made:
    from consumer.generation.slots.choice import network_of
    from consumer.generation.slots.engine import SlotEngine

    network = network_of(lambda: given.network(False), given.slots, given.context)
    engine = SlotEngine(network, given.decode, given.ends)
    return Made(engine, network.context, network.vocabulary, engine.logits)


def _transformers(given: Given) -> Made:
    from consumer.generation.library_engine import LibraryEngine
    from consumer.generation.transformers_batching.library import TransformersLibrary

    from .quiet import quiet

    with quiet():
        library = TransformersLibrary(given.network(True), given.slots, given.context, given.decode)
    engine = LibraryEngine(library, given.slots, given.decode, given.ends)
    return Made(engine, library.context, library.vocabulary)


def _openvino(given: Given) -> Made:
    if given.place.is_dir():
        raise ValueError("engine 'openvino' reads GGUF files only; name one in weights, or another engine.")
    if given.device != "cpu":
        raise ValueError(f"engine 'openvino' runs on a CPU only, not on {given.device!r}.")
    from consumer.generation.library_engine import LibraryEngine
    from consumer.generation.openvino_genai.library import OpenVinoLibrary

    context, vocabulary = sizes_of(given)
    try:
        library = OpenVinoLibrary(given.place, given.slots, context, vocabulary, given.decode)
    except RuntimeError as error:
        raise ValueError(f"OpenVINO GenAI cannot read {given.place}: {' '.join(str(error).split())[:300]}.") from error
    return Made(LibraryEngine(library, given.slots, given.decode, given.ends), context, vocabulary)


def _vllm(given: Given) -> Made:
    from consumer.generation.library_engine import LibraryEngine
    from consumer.generation.vllm_engine.library import VllmLibrary

    context, vocabulary = sizes_of(given)
    library = VllmLibrary(given.folder, given.slots, context, vocabulary, given.decode, given.precision, given.device)
    return Made(LibraryEngine(library, library.slots, given.decode, given.ends), context, vocabulary)


def sizes_of(given: Given) -> tuple[int, int]:
    """Return most tokens of a sequence and how many tokens there are, by the model's configuration.

    Raises:
        ValueError: it does not say.
    """
    file = given.folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        config = config.get("text_config", config)
        longest, vocabulary = config["max_position_embeddings"], config["vocab_size"]
        return min(given.context, int(longest)), int(vocabulary)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{file} does not say max_position_embeddings and vocab_size: {type(error).__name__}: {error}."
        ) from error


ENGINES: dict[str, Callable[[Given], Made]] = {
    "slots": _slots,
    "transformers": _transformers,
    "openvino": _openvino,
    "vllm": _vllm,
}
