"""Tensors of a request: checked against the model's card and packed into little-endian bytes, without numpy."""

from __future__ import annotations

import math
import re
import struct
import sys
import types
from array import array
from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from shared.cards import ITEM_BYTES, Card, TensorSpec
from shared.outcomes import invalid
from shared.wire import MAX_DIMENSIONS, Tensor, WireError, decode_tensor

from .blame import from_validation
from .schemas import InputTensor, MsgpackTensor

_CODES = {
    "BOOL": "B",
    "INT8": "b",
    "UINT8": "B",
    "UINT16": "H",
    "INT16": "h",
    "UINT32": "I",
    "INT32": "i",
    "UINT64": "Q",
    "INT64": "q",
    "FP32": "f",
    "FP64": "d",
}
_FP32_MAX = 3.4028234663852886e38
_FP64_MAX = sys.float_info.max
_ELEMENTS: dict[str, Any] = {
    "BOOL": bool,
    "UINT8": Annotated[int, Meta(ge=0, le=2**8 - 1)],
    "INT8": Annotated[int, Meta(ge=-(2**7), le=2**7 - 1)],
    "UINT16": Annotated[int, Meta(ge=0, le=2**16 - 1)],
    "INT16": Annotated[int, Meta(ge=-(2**15), le=2**15 - 1)],
    "UINT32": Annotated[int, Meta(ge=0, le=2**32 - 1)],
    "INT32": Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)],
    "UINT64": int,
    "INT64": int,
    "FP16": Annotated[float, Meta(ge=-65504.0, le=65504.0)],
    "FP32": Annotated[float, Meta(ge=-_FP32_MAX, le=_FP32_MAX)],
    "FP64": Annotated[float, Meta(ge=-_FP64_MAX, le=_FP64_MAX)],
    "BYTES": str,
}
_HALF_SPECIAL = re.compile(rb"[\x7c-\x7f\xfc-\xff]")


@cache
def _list_type(datatype: str, depth: int) -> Any:
    nested = _ELEMENTS[datatype]
    for _ in range(depth):
        nested = types.GenericAlias(list, (nested,))
    return nested


@cache
def _json_decoder(datatype: str, depth: int) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(_list_type(datatype, depth))


def check_inputs(inputs: Sequence[InputTensor | MsgpackTensor], card: Card) -> tuple[Tensor, ...]:
    """Check the tensors of one request against ``card`` and pack them.

    Returns:
        The tensors in the order of the card, each with the row count as its first dimension.

    Raises:
        RequestError: ``INVALID_INPUT``; its field names the member to blame.
    """
    specs = {spec.name: spec for spec in card.inputs}
    found: dict[str, Tensor] = {}
    rows: int | None = None
    for index, tensor in enumerate(inputs):
        path = f"inputs[{index}]"
        spec = specs.get(tensor.name)
        if spec is None:
            raise invalid(f"The model has no input of that name; it has {', '.join(specs)}.", f"{path}.name")
        if tensor.name in found:
            raise invalid(f"Input {tensor.name} is there twice.", f"{path}.name")
        if tensor.datatype != spec.datatype:
            raise invalid(f"Input {spec.name} takes {spec.datatype}.", f"{path}.datatype")
        shape = _with_rows(tensor.shape, spec, card.batch.max_batch, f"{path}.shape")
        if rows is not None and shape[0] != rows:
            raise invalid(f"All inputs must have the same number of rows, here {rows}.", f"{path}.shape")
        rows = shape[0]
        found[spec.name] = Tensor(spec.name, spec.datatype, shape, _data(tensor, shape, f"{path}.data"))
    for name in specs:
        if name not in found:
            raise invalid(f"Input {name} is missing.", "inputs")
    return tuple(found[name] for name in specs)


def _with_rows(shape: Sequence[int], spec: TensorSpec, max_rows: int, path: str) -> tuple[int, ...]:
    given = tuple(shape)
    full = given if len(given) == len(spec.shape) + 1 else (1, *given)
    if len(full) != len(spec.shape) + 1 or any(
        want not in (-1, have) for want, have in zip(spec.shape, full[1:], strict=True)
    ):
        row = ", ".join(str(size) for size in spec.shape)
        rows = f"[rows, {row}]" if row else "[rows]"
        raise invalid(f"Input {spec.name} takes shape [{row}] or {rows}, not {list(given)}.", path)
    if 0 in full:
        raise invalid(f"Input {spec.name} is empty.", path)
    if full[0] > max_rows:
        raise invalid(f"The model takes at most {max_rows} rows, not {full[0]}.", path)
    return full


def _data(tensor: InputTensor | MsgpackTensor, shape: tuple[int, ...], path: str) -> bytes:
    count = math.prod(shape)
    if type(tensor.data) is bytes:
        return _bytes_data(tensor.data, tensor.datatype, shape, path)
    depth = _json_depth(tensor.data) if isinstance(tensor.data, msgspec.Raw) else _list_depth(tensor.data)
    if depth not in (1, len(tensor.shape)):
        raise invalid(f"Data must be a flat list or nested {len(tensor.shape)} levels deep, like the shape.", path)
    try:
        if isinstance(tensor.data, msgspec.Raw):
            values = _json_decoder(tensor.datatype, depth).decode(tensor.data)
        else:
            values = msgspec.convert(tensor.data, _list_type(tensor.datatype, depth))
    except msgspec.ValidationError as error:
        raise from_validation(error, path) from None
    if depth > 1:
        values = _flat(values, tensor.shape, path)
    if len(values) != count:
        raise invalid(f"Data holds {len(values)} elements, but the shape takes {count}.", path)
    try:
        return pack_elements(tensor.datatype, values)
    except OverflowError:
        raise invalid(f"An element is out of range for {tensor.datatype}.", path) from None


def _json_depth(raw: msgspec.Raw) -> int:
    head = bytes(memoryview(raw)[:256]).translate(None, b" \t\r\n")
    depth = len(head) - len(head.lstrip(b"["))
    return depth if depth else 1


def _list_depth(value: Any) -> int:
    depth = 1
    while depth <= MAX_DIMENSIONS and type(value) is list and value and type(value[0]) is list:
        value, depth = value[0], depth + 1
    return depth


def _flat(values: list[Any], shape: Sequence[int], path: str) -> list[Any]:
    level = [values]
    for size in shape:
        for part in level:
            if len(part) != size:
                raise invalid(f"Data is not nested like the shape {list(shape)}.", path)
        level = list(chain.from_iterable(level))
    return level


def _bytes_data(data: bytes, datatype: str, shape: tuple[int, ...], path: str) -> bytes:
    try:
        decode_tensor({"name": "", "datatype": datatype, "shape": list(shape), "data": data}, "")
    except WireError as error:
        raise invalid(str(error), path) from None
    if not is_finite(datatype, data):
        raise invalid("Data holds NaN or an infinity.", path)
    return data


def pack_elements(datatype: str, values: Sequence[Any]) -> bytes:
    """Pack elements as little-endian bytes; BYTES elements get a 4-byte length each.

    Raises:
        OverflowError: an element does not fit the datatype.
    """
    if datatype == "BYTES":
        parts = [value.encode() for value in values]
        return b"".join(chain.from_iterable((len(part).to_bytes(4, "little"), part) for part in parts))
    if datatype == "FP16":
        return struct.pack(f"<{len(values)}e", *values)
    packed = array(_CODES[datatype], values)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def unpack_elements(datatype: str, data: bytes) -> list[Any]:
    """Return the elements of a tensor's little-endian bytes; numbers that are not finite become None."""
    if datatype == "BYTES":
        return _strings(data)
    if datatype == "UINT8":
        return list(data)
    if datatype == "FP16":
        values: list[Any] = list(struct.unpack(f"<{len(data) // 2}e", data))
    else:
        numbers = array(_CODES[datatype])
        numbers.frombytes(data)
        if sys.byteorder == "big":
            numbers.byteswap()
        values = numbers.tolist()
    if datatype == "BOOL":
        return [value != 0 for value in values]
    if not is_finite(datatype, data):
        return [value if math.isfinite(value) else None for value in values]
    return values


def _strings(data: bytes) -> list[str]:
    texts, position = [], 0
    while position < len(data):
        end = position + 4 + int.from_bytes(data[position : position + 4], "little")
        texts.append(data[position + 4 : end].decode("utf-8", "replace"))
        position = end
    return texts


def is_finite(datatype: str, data: bytes) -> bool:
    """Say whether little-endian elements hold neither NaN nor an infinity; always true for integers.

    Such numbers have all exponent bits set, so the highest byte of each element tells in nearly every case.
    """
    if not datatype.startswith("FP"):
        return True
    size = ITEM_BYTES[datatype]
    high = data[size - 1 :: size]
    if datatype == "FP16":
        return _HALF_SPECIAL.search(high) is None
    if 0x7F not in high and 0xFF not in high:
        return True
    return all(map(math.isfinite, struct.unpack(f"<{len(data) // size}{'f' if size == 4 else 'd'}", data)))
