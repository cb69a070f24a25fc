"""Does an answer of the user's own model match its description and the protocol? Pure.

Front ends and direct producers trust answers, so the consumer checks them. It accepts what is clear
(arrays, numbers of numpy, generators) and turns it into plain bytes and numbers. Bytes do not say in which
order they are; they count as little-endian.
"""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from consumer.models.base import Description, Result
from shared.state.cards import ITEM_BYTES, TensorSpec
from shared.wire.messages import MAX_DIMENSIONS, Prediction, Tensor, WireError, decode_tensor
from shared.wire.outcomes import MODEL_ERROR, RequestError

from .returned import Unusable, kind, listed

MOST_PREDICTIONS = 1_000_000
_KINDS = {
    "?": "BOOL",
    **dict.fromkeys("bhilqn", "INT"),
    **dict.fromkeys("BHILQN", "UINT"),
    **dict.fromkeys("efd", "FP"),
}
"""From the letter of the buffer protocol to a datatype; all but BOOL are followed by the number of bits."""


class AnswerCheck:
    """Checks answers against ``description``. Call it with what ``postprocess`` returned."""

    def __init__(self, description: Description) -> None:
        self._specs = tuple(description.outputs)
        self._by_name = {spec.name: spec for spec in self._specs}
        self._labels = None if description.labels is None else frozenset(description.labels)

    def __call__(self, result: object, rows: int) -> Result:
        """Return the answer to a request of ``rows`` rows in plain bytes, texts and numbers.

        Raises:
            RequestError: ``MODEL_ERROR``; one sentence that names the output.
        """
        if not isinstance(result, Result):
            _wrong(f"postprocess() must return a Result, not {kind(result)}")
        if (result.predictions is None) is (result.outputs is None):
            _wrong("it must have either predictions or outputs, not both and not none")
        try:
            if result.outputs is None:
                return Result(predictions=self._predictions(result.predictions, rows))
            return Result(outputs=self._outputs(result.outputs, rows))
        except Unusable as error:
            _wrong(str(error).rstrip("."))

    def _outputs(self, outputs: Any, rows: int) -> Sequence[Tensor]:
        given = listed(outputs, "outputs must be a sequence of Tensors", len(self._specs))
        checked = [self._output(tensor, index, rows) for index, tensor in enumerate(given)]
        names = [tensor.name for tensor in checked]
        for name in names:
            if names.count(name) > 1:
                _wrong(f"output {name} is there twice")
        for name in self._by_name:
            if name not in names:
                _wrong(f"output {name} is missing")
        if not checked:
            _wrong("it has no outputs, and the model describes none")
        return checked

    def _output(self, tensor: object, index: int, rows: int) -> Tensor:
        if not isinstance(tensor, Tensor):
            _wrong(f"outputs[{index}] must be a Tensor, not {kind(tensor)}")
        spec = self._by_name.get(tensor.name) if isinstance(tensor.name, str) else None
        if spec is None:
            shown = tensor.name[:80] if isinstance(tensor.name, str) else kind(tensor.name)
            described = ", ".join(self._by_name) or "none"
            _wrong(f"the model describes no output {shown} (it describes {described[:200]})")
        if not isinstance(tensor.datatype, str) or tensor.datatype != spec.datatype:
            shown = tensor.datatype[:20] if isinstance(tensor.datatype, str) else kind(tensor.datatype)
            _wrong(f"output {spec.name} is described as {spec.datatype}, but its datatype is {shown}")
        shape = _shape(tensor.shape, spec, rows)
        data = _bytes(tensor.data, spec, shape)
        _check_length(data, shape, spec)
        return Tensor(spec.name, spec.datatype, shape, data)

    def _predictions(self, predictions: Any, rows: int) -> Sequence[Prediction]:
        given = listed(predictions, "predictions must be a sequence of Predictions", MOST_PREDICTIONS)
        if len(given) > MOST_PREDICTIONS:
            _wrong(f"it has more than {MOST_PREDICTIONS:,} predictions")
        if not given:
            _wrong("it has no predictions; a class that says so stands for nothing found")
        return [self._prediction(one, f"predictions[{index}]", rows) for index, one in enumerate(given)]

    def _prediction(self, given: object, path: str, rows: int) -> Prediction:
        if not isinstance(given, Prediction):
            _wrong(f"{path} must be a Prediction, not {kind(given)}")
        if not isinstance(given.label, str):
            _wrong(f"{path}.label must be text, not {kind(given.label)}")
        label, index, row = str(given.label), _whole(given.index), _whole(given.row)
        if self._labels is not None and label not in self._labels:
            _wrong(f"{path}.label is none of the labels that the model describes")
        if index is None or not -(1 << 63) <= index < 1 << 63:
            _wrong(f"{path}.index must be a whole number, not {kind(given.index)}")
        if row is None or not 0 <= row < rows:
            _wrong(f"{path}.row must be a row of the request, from 0 to {rows - 1}")
        return Prediction(label, index, _score(given.score, path), row)


def _wrong(what: str) -> NoReturn:
    raise RequestError(MODEL_ERROR, f"The model's answer is wrong: {what}.")


def _whole(value: Any) -> int | None:
    try:
        return int(operator.index(value))
    except TypeError:
        return None


def _score(value: Any, path: str) -> float:
    if not isinstance(value, str | bytes | bytearray):
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            pass
    _wrong(f"{path}.score must be a number, not {kind(value)}")


def _shape(shape: Any, spec: TensorSpec, rows: int) -> tuple[int, ...]:
    what = f"the shape of output {spec.name} must be whole numbers"
    sizes = [_whole(size) for size in listed(shape, what, MAX_DIMENSIONS)]
    plain = tuple(size for size in sizes if size is not None)
    if len(plain) != len(sizes):
        _wrong(what)
    wanted = (rows, *spec.shape)
    fits = (size == want or (want == -1 and size >= 0) for want, size in zip(wanted, plain, strict=False))
    if len(plain) != len(wanted) or not all(fits):
        _wrong(f"output {spec.name} has the shape {list(plain)}, not {list(wanted)}")
    return plain


def _bytes(data: object, spec: TensorSpec, shape: tuple[int, ...]) -> bytes:
    """Return the elements as the protocol has them: little-endian, the last dimension fastest."""
    if isinstance(data, bytes | bytearray):
        return data if type(data) is bytes else bytes(memoryview(data))
    if spec.datatype == "BYTES" and not isinstance(data, memoryview):
        return _packed_texts(data, spec, math.prod(shape))
    view = data if isinstance(data, memoryview) else _view(data, spec)
    if data is view and view.format in ("B", "b", "c"):  # bytes, whatever they stand for
        return view.tobytes()
    found = _datatype(view)
    if found != spec.datatype:
        _wrong(f"output {spec.name} is described as {spec.datatype}, but its data are {found or 'nothing we know'}")
    return _little_endian(view)


def _view(data: Any, spec: TensorSpec) -> memoryview:
    """Look into an array's memory; a tensor of torch is brought here and becomes an array first."""
    try:
        if hasattr(data, "detach") and hasattr(data, "numpy"):
            data = data.detach().cpu().numpy()
        return memoryview(data)
    except (TypeError, ValueError, BufferError, RuntimeError):
        _wrong(f"the data of output {spec.name} must be bytes or an array of {spec.datatype}, not {kind(data)}")


def _datatype(view: memoryview) -> str | None:
    letter = view.format.lstrip("@=<>!")
    name = _KINDS.get(letter)
    name = name if name in (None, "BOOL") else f"{name}{8 * view.itemsize}"
    return name if name in ITEM_BYTES else None


def _little_endian(view: memoryview) -> bytes:
    data, size = view.tobytes(), view.itemsize
    is_big = view.format[:1] in (">", "!") or (sys.byteorder == "big" and view.format[:1] != "<")
    if not is_big or size == 1:
        return data
    turned = bytearray(len(data))
    for place in range(size):
        turned[place::size] = data[size - 1 - place :: size]
    return bytes(turned)


def _packed_texts(data: Any, spec: TensorSpec, count: int) -> bytes:
    """Pack texts and bytes, each behind its length as four little-endian bytes; one more than ``count`` at the most."""
    what = f"the data of output {spec.name} must be bytes, or texts"
    if hasattr(data, "ravel"):
        data = data.ravel().tolist()
    parts: list[bytes] = []
    for one in listed(data, what, count):
        if not isinstance(one, str | bytes):
            _wrong(f"{what}, not {kind(one)}")
        part = one.encode() if isinstance(one, str) else one
        parts += (len(part).to_bytes(4, "little"), part)
    return b"".join(parts)


def _check_length(data: bytes, shape: tuple[int, ...], spec: TensorSpec) -> None:
    if spec.datatype != "BYTES":
        needed = math.prod(shape) * ITEM_BYTES[spec.datatype]
        if len(data) != needed:
            takes = f"the shape {list(shape)} of {spec.datatype} takes {needed}"
            _wrong(f"output {spec.name} holds {len(data)} bytes, but {takes}")
        return
    try:
        decode_tensor({"name": "", "datatype": "BYTES", "shape": shape, "data": data}, "")
    except WireError:
        _wrong(f"output {spec.name} must hold {math.prod(shape)} elements, each behind its length in four bytes")
