"""From ``weights`` to an engine that runs, with what makes sequences for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from consumer.generation.chat import ChatTemplate
from consumer.generation.engine import Engine
from consumer.generation.request import Reader
from consumer.generation.schema import Schemas
from consumer.generation.tokeniser import Tokeniser, ends_of

from . import conversion, engines, sources

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SLOTS = 16
CONTEXT = 2048
_MOST_JSON_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Opened:
    """A language model that is ready.

    Attributes:
        context: most tokens of a sequence.
        logits: what the network says after a prompt, shape (vocabulary,), to compare precisions; only while nothing
            runs. None: the engine does not tell.
    """

    engine: Engine
    tokeniser: Tokeniser
    reader: Reader
    context: int
    logits: Callable[[Sequence[int]], NDArray[np.float32]] | None = None


def open_model(
    weights: str,
    data_folder: Path,
    *,
    slots: int = SLOTS,
    context: int = CONTEXT,
    device: str = "cpu",
    precision: str = "fp32",
    engine: str = "slots",
) -> Opened:
    """Load a causal language model into an engine.

    Args:
        weights: a folder, a GGUF file, or ``package:NAME``.
        data_folder: where converted GGUF files are kept.
        slots: sequences at once.
        context: most tokens of one; the model's own context if that is less.
        device: ``cpu`` or ``cuda``.
        precision: ``fp32``, ``fp16`` or ``bf16``.
        engine: one of :data:`consumer.generation.weights.engines.ENGINES`.

    Raises:
        ValueError: it cannot be served; one sentence.
    """
    place = sources.find(weights)
    folder = place if place.is_dir() else conversion.converted(place, data_folder / "converted")
    tokeniser = read_tokeniser(folder)
    given = engines.Given(
        place,
        folder,
        lambda is_packed: read_network(folder, device, precision, is_packed),
        tokeniser.decode,
        tokeniser.ends,
        slots,
        context,
        device,
        precision,
    )
    made = engines.make(engine, given)
    end = min(tokeniser.ends, default=0)
    schemas = Schemas(lambda: tokeniser.definition, max(made.vocabulary, tokeniser.size), end)
    reader = Reader(tokeniser, schemas, made.context, made.vocabulary)
    return Opened(made.engine, tokeniser, reader, made.context, made.logits)


def read_network(folder: Path, device: str, precision: str, is_packed: bool = True) -> PreTrainedModel:
    """Read the weights of ``folder``, onto ``device``.

    Args:
        is_packed: whether the linear layers are packed, where that is possible.

    Raises:
        ValueError: they cannot be read, are not those of a causal language model, or do not run in ``precision``.
    """
    from transformers import AutoModelForCausalLM

    from consumer.runtimes.pytorch import packed_linear

    from . import precisions
    from .quiet import quiet

    dtype = precisions.datatype(device, precision)
    try:
        with quiet():
            model = AutoModelForCausalLM.from_pretrained(
                str(folder), dtype=dtype, use_safetensors=True, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:
        raise ValueError(f"{folder} cannot be read: {type(error).__name__}: {str(error)[:300]}.") from error
    model = model.eval().to(device)
    if is_packed:
        packed_linear.pack(model)
    return model  # type: ignore[no-any-return]


def read_tokeniser(folder: Path) -> Tokeniser:
    """Read ``tokenizer.json`` and the chat template of ``folder``.

    Raises:
        ValueError: one of them cannot be read.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:
        raise ValueError(f"{folder / 'tokenizer.json'} cannot be read: {str(error)[:300]}.") from error
    config = _json(folder / "tokenizer_config.json")
    source = _template(folder, config)
    names = {name: _token(value) for name, value in config.items() if name.endswith("_token")}
    tokens = {name: text for name, text in names.items() if text}
    ends = ends_of(_json(folder / "generation_config.json"), _json(folder / "config.json"))
    return Tokeniser(tokenizer, ends, None if source is None else ChatTemplate(source, tokens))


def _template(folder: Path, config: dict[str, Any]) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    named = config.get("chat_template")
    if isinstance(named, list):  # several, of which one is the usual one
        named = next((one.get("template") for one in named if one.get("name") == "default"), None)
    return named if isinstance(named, str) else None


def _token(value: object) -> str | None:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _json(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            value = json.loads(opened.read(_MOST_JSON_BYTES))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file} cannot be read: {error}.") from error
    return value if isinstance(value, dict) else {}
