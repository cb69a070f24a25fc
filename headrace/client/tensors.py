"""Between arrays and the tensors of the wire: with numpy where it is installed, without it as lists. Pure."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from shared.wire.messages import Tensor

_FORMATS = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
_KINDS = {"BOOL": "?", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8"} | {
    f"{sign}INT{bits}": f"<{sign.lower() or 'i'}{bits // 8}" for sign in ("", "U") for bits in (8, 16, 32, 64)
}
_LENGTH = struct.Struct("<I")


@cache
def numpy() -> Any:
    """Return numpy, which takes a while to import; None where it is missing, as beside a wheel without extras."""
    try:
        import numpy
    except ImportError:
        return None
    return numpy


def array_of(tensor: Tensor) -> Any:
    """Return a tensor as an array, or as nested lists where numpy is missing."""
    np = numpy()
    if tensor.datatype == "BYTES":
        flat: list[Any] = list(_elements(tensor.data))
    elif np is not None:
        return np.frombuffer(tensor.data, np.dtype(_KINDS[tensor.datatype])).reshape(tensor.shape)
    else:
        flat = list(struct.unpack(f"<{math.prod(tensor.shape)}{_FORMATS[tensor.datatype]}", tensor.data))
    if np is None:
        return _nested(flat, tensor.shape)
    found = np.empty(len(flat), object)
    found[:] = flat
    return found.reshape(tensor.shape)


def _elements(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        yield data[at + 4 : at + 4 + length]
        at += 4 + length


def _nested(flat: list[Any], shape: Sequence[int]) -> Any:
    if not shape:
        return flat[0]
    if len(shape) == 1:
        return flat
    step = math.prod(shape[1:])
    return [_nested(flat[at * step : (at + 1) * step], shape[1:]) for at in range(shape[0])]


def tensors_of(inputs: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """Make tensors of inputs by name; see :func:`tensor_of`."""
    if not isinstance(inputs, Mapping) or not inputs:
        raise ValueError("inputs must map the name of each input to its values.")
    return tuple(tensor_of(name, value) for name, value in inputs.items())


def tensor_of(name: str, value: Any) -> Tensor:
    """Make a tensor of an array, a text, bytes, a number, or lists of these.

    Args:
        value: an array has the datatype of its ``dtype``. Of lists, whole numbers are INT64, others FP32, truth
            values BOOL, texts and bytes BYTES. A :class:`Tensor` says all of it itself.

    Raises:
        ValueError: it is something else, or its lists differ in length.
    """
    if isinstance(value, Tensor):
        return Tensor(name, value.datatype, value.shape, value.data)
    if hasattr(value, "__array__") and (np := numpy()) is not None:
        return _of_array(name, np.asarray(value), np)
    flat: list[Any] = []
    shape = _flatten(value, flat, f"inputs[{name!r}]")
    datatype = _datatype(flat, f"inputs[{name!r}]")
    if datatype == "BYTES":
        return Tensor(name, datatype, shape, _joined(flat))
    try:
        return Tensor(name, datatype, shape, struct.pack(f"<{len(flat)}{_FORMATS[datatype]}", *flat))
    except (struct.error, OverflowError) as error:
        raise ValueError(f"inputs[{name!r}] does not fit {datatype}: {error}.") from None


def _of_array(name: str, array: Any, np: Any) -> Tensor:
    if array.dtype.kind in "OSU":
        return tensor_of(name, array.tolist())
    known = {np.dtype(kind): datatype for datatype, kind in _KINDS.items()}
    datatype = known.get(array.dtype.newbyteorder("<"))
    if datatype is None:
        raise ValueError(f"inputs[{name!r}] has the dtype {array.dtype}, which no model takes.")
    data = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    return Tensor(name, datatype, tuple(int(size) for size in array.shape), data)


def _flatten(value: Any, flat: list[Any], what: str) -> tuple[int, ...]:
    if not isinstance(value, list | tuple):
        flat.append(value)
        return ()
    shapes = {_flatten(one, flat, what) for one in value}
    if len(shapes) > 1:
        raise ValueError(f"{what} has lists of different lengths.")
    return (len(value), *(shapes.pop() if shapes else ()))


def _datatype(flat: list[Any], what: str) -> str:
    kinds = {type(one) for one in flat}
    if kinds and kinds <= {str, bytes}:
        return "BYTES"
    if kinds == {bool}:
        return "BOOL"
    if kinds == {int}:
        return "INT64"
    if kinds and kinds <= {int, float}:
        return "FP32"
    names = ", ".join(sorted(kind.__name__ for kind in kinds)) or "nothing"
    raise ValueError(f"{what} must hold numbers, truth values, texts or bytes, not {names}.")


def _joined(elements: list[Any]) -> bytes:
    plain = [one.encode() if isinstance(one, str) else one for one in elements]
    return b"".join(piece for one in plain for piece in (_LENGTH.pack(len(one)), one))
