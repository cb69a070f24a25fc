"""Sample rows for an ONNX model of tensors: made from a seed, or read from the user's own file [I/O]."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consumer.models.own.inputs import numpy_type
from shared import files
from shared.files import FileRefused
from shared.state.cards import ITEM_BYTES, TensorSpec

SEED = 1867
DISTINCT = 32
"""Rows that differ, at most; more than these are the same ones again."""

MOST_MADE_BYTES = 64 << 20
"""Of all made-up rows together, the first aside; so that a file that only says that it takes gigabytes costs none."""

MOST_BYTES = 256 << 20
_WORDS = ("a", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "été")

Row = tuple[Any, ...]
"""One value per input, in the order of the inputs."""


def made(specs: Sequence[TensorSpec], free_size: int) -> list[Row]:
    """Make rows that most models can take, the same ones every time.

    Whole numbers are 0 and 1, the first of a row always 1: so small is every vocabulary, and no mask hides everything.
    Bytes may be of pictures, and take all values.

    Args:
        free_size: what every size becomes that may be any.

    Raises:
        ValueError: with such sizes a row of free sizes is too long to try.
    """
    row_bytes = sum(_bytes(spec, free_size) for spec in specs)
    if row_bytes > MOST_MADE_BYTES and any(-1 in spec.shape for spec in specs):
        raise ValueError(f"a row takes {row_bytes} bytes where each size that may be any is {free_size}")
    count = min(DISTINCT, max(1, MOST_MADE_BYTES // max(1, row_bytes)))
    return [
        tuple(_value(spec, free_size, number, place) for place, spec in enumerate(specs)) for number in range(count)
    ]


def _bytes(spec: TensorSpec, free_size: int) -> int:
    return ITEM_BYTES.get(spec.datatype, 64) * math.prod(free_size if size == -1 else size for size in spec.shape)


def _value(spec: TensorSpec, free_size: int, number: int, place: int) -> Any:
    random = np.random.default_rng((SEED, number, place))
    shape = tuple(free_size if size == -1 else size for size in spec.shape)
    if spec.datatype == "BYTES":
        words = random.choice(np.array(_WORDS, dtype=object), size=shape)
        return words if shape else str(words)
    kind = numpy_type(spec.datatype)
    if kind.kind == "f":
        found: NDArray[Any] = np.asarray(random.standard_normal(shape)).astype(kind)
    elif spec.datatype == "UINT8":
        found = np.asarray(random.integers(0, 256, shape)).astype(kind)
    else:
        found = np.asarray(random.integers(0, 2, shape)).astype(kind)
        found.reshape(-1)[:1] = 1
    return found


def own(path: Path, specs: Sequence[TensorSpec]) -> list[Row]:
    """Read rows from an ``.npz`` file, as ``numpy.savez`` writes it: for each input an array of its name.

    Raises:
        ValueError: it is no such file, or does not fit the inputs; one sentence.
    """
    shown = files.shown(path)
    arrays = _arrays(path, shown, [spec.name for spec in specs])
    found = [_fitting(arrays, spec, shown) for spec in specs]
    counts = {len(one) for one in found}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(f"the samples {shown} must have the same number of rows for each input, and at least one.")
    return list(zip(*found, strict=True))[:DISTINCT]


def _arrays(path: Path, shown: str, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    try:
        content = io.BytesIO(files.read(path, MOST_BYTES))
    except FileRefused as error:
        raise ValueError(f"the samples {shown} cannot be read: {error}.") from None
    if zipfile.is_zipfile(content):
        content.seek(0)
        try:
            with np.load(content, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in names if name in arrays}
        except Exception:  # damaged, or a pickle, which could run code
            pass
    raise ValueError(f"the samples {shown} are not an .npz file of plain arrays, as numpy.savez writes it.")


def _fitting(arrays: Mapping[str, NDArray[Any]], spec: TensorSpec, shown: str) -> NDArray[Any]:
    if spec.name not in arrays:
        raise ValueError(f"the samples {shown} have no array for input {spec.name}.")
    array = arrays[spec.name]
    fits = array.ndim == len(spec.shape) + 1 and all(
        want in (-1, have) for want, have in zip(spec.shape, array.shape[1:], strict=True)
    )
    if not fits:
        wanted = ["rows", *spec.shape]
        raise ValueError(f"the samples {shown} have the shape {list(array.shape)} for input {spec.name}, not {wanted}.")
    if spec.datatype == "BYTES":
        if array.dtype.kind != "U":
            raise ValueError(f"the samples {shown} must have texts for input {spec.name}.")
        return array.astype(object)
    wanted_type = numpy_type(spec.datatype)
    if not np.can_cast(array.dtype, wanted_type, "same_kind"):
        raise ValueError(f"the samples {shown} have {array.dtype} for input {spec.name}, not {spec.datatype}.")
    return array.astype(wanted_type)
