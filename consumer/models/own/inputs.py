"""The inputs of a request as arrays of numpy, for models that take tensors. Any of it may come from a stranger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.state.cards import ITEM_BYTES, TensorSpec
from shared.wire.messages import Request, Tensor
from shared.wire.outcomes import invalid

_KINDS = {"BOOL": "?", "UINT": "<u", "INT": "<i", "FP": "<f"}


def arrays(request: Request, specs: Sequence[TensorSpec]) -> dict[str, NDArray[Any]]:
    """Return the inputs of ``request`` by name, each of the shape (rows, \\*shape of its spec).

    Numbers are views of the request's bytes and cannot be written to. BYTES are an array of ``str``.

    Args:
        specs: what the model describes; -1 in a shape allows any size.

    Raises:
        RequestError: ``INVALID_INPUT``, with the wrong field: an input is missing, unknown, there twice, of another
            datatype or shape, of another number of rows than the first, or no UTF-8.
    """
    if not request.inputs:
        raise invalid(f"This model takes inputs: {', '.join(spec.name for spec in specs)}.", "inputs")
    known = {spec.name: spec for spec in specs}
    found: dict[str, NDArray[Any]] = {}
    for index, given in enumerate(request.inputs):
        path, spec = f"inputs[{index}]", known.get(given.name)
        if spec is None:
            raise invalid(f"The model has no input of that name; it has {', '.join(known) or 'none'}.", f"{path}.name")
        if spec.name in found:
            raise invalid(f"Input {spec.name} is there twice.", f"{path}.name")
        if given.datatype != spec.datatype:
            raise invalid(f"Input {spec.name} takes {spec.datatype}.", f"{path}.datatype")
        found[spec.name] = array = _array(given, spec, path)
        if len(array) != len(next(iter(found.values()))):
            raise invalid("All inputs must have the same number of rows.", f"{path}.shape")
    for name in known:
        if name not in found:
            raise invalid(f"Input {name} is missing.", "inputs")
    return found


def _array(given: Tensor, spec: TensorSpec, path: str) -> NDArray[Any]:
    sizes = given.shape if len(given.shape) == len(spec.shape) + 1 else (1, *given.shape)
    fits = len(sizes) == len(spec.shape) + 1 and 0 not in sizes
    if not fits or any(want not in (-1, have) for want, have in zip(spec.shape, sizes[1:], strict=True)):
        row = ", ".join(map(str, spec.shape))
        rows = f"[rows, {row}]" if row else "[rows]"
        raise invalid(f"Input {spec.name} takes shape [{row}] or {rows}, not {list(given.shape)}.", f"{path}.shape")
    if spec.datatype == "BYTES":
        return np.array(_texts(given.data, f"{path}.data"), dtype=object).reshape(sizes)
    if spec.datatype == "BOOL" and given.data.strip(b"\0\1"):
        # Libraries in other languages count on 0 and 1: another byte could be true and false at once.
        raise invalid("A BOOL is a byte of 0 or 1.", f"{path}.data")
    return np.frombuffer(given.data, numpy_type(spec.datatype)).reshape(sizes)


def numpy_type(datatype: str) -> np.dtype[Any]:
    """Return numpy's type of a datatype such as FP32, little-endian."""
    kind = _KINDS[datatype.rstrip("0123456789")]
    return np.dtype(kind if kind == "?" else f"{kind}{ITEM_BYTES[datatype]}")


def _texts(data: bytes, path: str) -> list[str]:
    texts, position = [], 0
    while position < len(data):
        end = position + 4 + int.from_bytes(data[position : position + 4], "little")
        try:
            texts.append(data[position + 4 : end].decode())
        except UnicodeDecodeError:
            raise invalid("A text is not UTF-8.", path) from None
        position = end
    return texts
