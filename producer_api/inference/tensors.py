"""Tensors of a request: checked against the model's card and packed into little-endian bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any

import msgspec

from producer_api.parsing import bf16, json_lists, packed_lists
from producer_api.parsing.elements import is_finite_in_steps, list_type, pack_elements
from producer_api.parsing.schemas import BinaryTensor, InputTensor, MsgpackTensor
from producer_api.parsing.steps import Steps
from producer_api.parsing.validation import from_validation
from shared.state.cards import Card, TensorSpec
from shared.wire.messages import MAX_DIMENSIONS, Tensor, WireError, check_byte_elements_in_steps, check_data
from shared.wire.outcomes import invalid

LONG_BYTES = 64 * 1024
"""Longer lists are checked and packed a piece at a time."""

ELEMENTS_AT_ONCE = 8192

_MSGPACK_BYTES = (0xC4, 0xC5, 0xC6)


@cache
def _msgpack_decoder(datatype: str, depth: int) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(list_type(datatype, depth))


@cache
def _json_decoder(datatype: str, depth: int) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(list_type(datatype, depth))


def check_inputs_in_steps(
    inputs: Sequence[InputTensor | MsgpackTensor | BinaryTensor], card: Card
) -> Steps[tuple[Tensor, ...]]:
    """Check the tensors of one request against ``card`` and pack them.

    Returns:
        The tensors in the order of the card, each with the row count as its first dimension.

    Raises:
        RequestError: ``INVALID_INPUT``; its field names the member that is wrong.
    """
    specs = {spec.name: spec for spec in card.inputs}
    found: dict[str, Tensor] = {}
    rows: int | None = None
    for index, tensor in enumerate(inputs):
        path = f"inputs[{index}]"
        spec = specs.get(tensor.name)
        if spec is None:
            raise invalid(f"The model has no input of that name; it has {', '.join(specs) or 'none'}.", f"{path}.name")
        if tensor.name in found:
            raise invalid(f"Input {tensor.name} is there twice.", f"{path}.name")
        if tensor.datatype != spec.datatype and not _widens(tensor, spec):
            raise invalid(f"Input {spec.name} takes {spec.datatype}.", f"{path}.datatype")
        shape = _with_rows(tensor.shape, spec, card.batch.max_batch, f"{path}.shape")
        if rows is not None and shape[0] != rows:
            raise invalid(f"All inputs must have the same number of rows, here {rows}.", f"{path}.shape")
        rows = shape[0]
        if isinstance(tensor, BinaryTensor):
            data = yield from _raw_data(tensor, spec, shape, f"{path}.data")
        else:
            data = yield from _data(tensor, shape, f"{path}.data")
        found[spec.name] = Tensor(spec.name, spec.datatype, shape, data)
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


def _data(tensor: InputTensor | MsgpackTensor, shape: tuple[int, ...], path: str) -> Steps[bytes]:
    raw, count, is_msgpack = memoryview(tensor.data), math.prod(shape), isinstance(tensor, MsgpackTensor)
    if is_msgpack and raw[0] in _MSGPACK_BYTES:
        return (yield from _bytes_data(msgspec.msgpack.decode(raw, type=bytes), tensor.datatype, shape, path))
    most = MAX_DIMENSIONS + 1
    depth = packed_lists.depth_of(raw, most) if is_msgpack else _json_depth(raw)
    if depth not in (1, len(tensor.shape)):
        raise invalid(f"Data must be a flat list or nested {len(tensor.shape)} levels deep, like the shape.", path)
    if len(raw) > LONG_BYTES:
        if is_msgpack:
            return (yield from packed_lists.packed(raw, tensor.datatype, tensor.shape, depth, count, path))
        return (yield from json_lists.packed(bytes(raw), tensor.datatype, tensor.shape, depth, count, path))
    try:
        values = (_msgpack_decoder if is_msgpack else _json_decoder)(tensor.datatype, depth).decode(raw)
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


def _widens(tensor: InputTensor | MsgpackTensor | BinaryTensor, spec: TensorSpec) -> bool:
    return tensor.datatype == "BF16" and isinstance(tensor, BinaryTensor) and spec.datatype in bf16.WIDER


def _raw_data(tensor: BinaryTensor, spec: TensorSpec, shape: tuple[int, ...], path: str) -> Steps[bytes]:
    data = tensor.data
    if tensor.datatype == "BF16":
        if len(data) != 2 * math.prod(shape):
            raise invalid(f"Shape {list(shape)} of BF16 takes {2 * math.prod(shape)} bytes, not {len(data)}.", path)
        try:
            data = yield from bf16.widen_in_steps(data, spec.datatype)
        except OverflowError:
            raise invalid(f"A number is too large for the {spec.datatype} that the model takes.", path) from None
    return (yield from _bytes_data(data, spec.datatype, shape, path))


def _json_depth(raw: memoryview) -> int:
    head = bytes(raw[:256]).translate(None, b" \t\r\n")
    depth = len(head) - len(head.lstrip(b"["))
    return depth if depth else 1


def _flat(values: list[Any], shape: Sequence[int], path: str) -> list[Any]:
    level = [values]
    for size in shape:
        for part in level:
            if len(part) != size:
                raise invalid(f"Data is not nested like the shape {list(shape)}.", path)
        level = list(chain.from_iterable(level))
    return level


def _bytes_data(data: bytes, datatype: str, shape: tuple[int, ...], path: str) -> Steps[bytes]:
    try:
        if datatype == "BYTES":
            yield from check_byte_elements_in_steps(data, math.prod(shape), path, ELEMENTS_AT_ONCE)
        else:
            check_data(datatype, shape, data, path)
    except WireError as error:
        raise invalid(str(error), path) from None
    if not (yield from is_finite_in_steps(datatype, data)):
        raise invalid("Data holds NaN or an infinity.", path)
    return data
