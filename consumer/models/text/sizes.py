"""Do the sizes in ``config.json`` fit the weights? Asked before anything of that size is made [I/O].

A network is built after ``config.json`` alone, and only then filled: a file that says a million layers, or a hidden
size of a billion, would take all memory before the first weight is compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

LARGEST_HEADER = 32 * 1024 * 1024
"""Bytes of the list of tensors in front of the weights; a large encoder's has 100 KB."""

SIZES = (
    "vocab_size",
    "hidden_size",
    "embedding_size",
    "dim",
    "hidden_dim",
    "intermediate_size",
    "type_vocab_size",
    "num_labels",
)
"""Members that some tensor has as a dimension."""

LAYERS = ("num_hidden_layers", "n_layers", "num_hidden_groups")
MOST_POSITIONS = 1 << 20
"""Where positions are computed, no tensor has their number."""


def check_sizes(path: Path, config: Mapping[str, Any]) -> None:
    """Compare ``config`` with what the weights in the folder hold.

    Raises:
        ValueError: a size is larger than any tensor, or the weights are no safetensors; one sentence.
    """
    shapes = [shape for file in sorted(path.glob("*.safetensors")) for shape in _shapes(file)]
    largest = max((size for shape in shapes for size in shape), default=0)
    most = dict.fromkeys(SIZES, largest) | dict.fromkeys(LAYERS, len(shapes))
    most["max_position_embeddings"] = max(largest, MOST_POSITIONS)
    for name, limit in most.items():
        value = config.get(name)
        if isinstance(value, int) and value > limit:
            raise ValueError(
                f"{name} of {path / 'config.json'} is {value}, which does not fit the weights beside it: they hold "
                f"{len(shapes)} tensors of up to {largest} rows or columns."
            )


def _shapes(file: Path) -> Iterator[tuple[int, ...]]:
    """Yield the shapes of the tensors of a file (https://github.com/huggingface/safetensors, "Format")."""
    refusal = f"{file.parent} cannot be loaded: {file.name} is not a safetensors file."
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if not 2 <= length <= LARGEST_HEADER:
                raise ValueError(refusal)
            header = msgspec.json.decode(opened.read(length))
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}.") from None
    except (msgspec.DecodeError, RecursionError):
        raise ValueError(refusal) from None
    if not isinstance(header, dict):
        raise ValueError(refusal)
    for name, tensor in header.items():
        shape = tensor.get("shape") if isinstance(tensor, dict) else None
        if isinstance(shape, list) and all(type(size) is int for size in shape):
            yield tuple(shape)
        elif name != "__metadata__":
            raise ValueError(refusal)
