"""An ONNX file, read once and checked before any runtime sees it [I/O]: what it takes, what it gives, what it names.

The runtimes get bytes and never a path. So a location of external data can lead nowhere that was not checked here, and
a file that is replaced or cut short while it is served changes nothing until the next start.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared import files
from shared.files import FileRefused
from shared.process.machine import GIB, this_machine
from shared.state.cards import TensorSpec
from shared.wire.messages import MAX_DIMENSIONS, MAX_INPUTS

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto

MOST_BYTES = (2 << 30) - 1
"""Of the file itself: protobuf can hold no more. Weights beside it are not counted."""

MOST_ROW_BYTES = 512 << 20
"""Of one row of one input: Redis holds no value longer than this."""

DATATYPES = {
    "FLOAT": "FP32",
    "FLOAT16": "FP16",
    "DOUBLE": "FP64",
    "BOOL": "BOOL",
    "STRING": "BYTES",
    **{name: name for name in ("UINT8", "INT8", "UINT16", "INT16", "UINT32", "INT32", "UINT64", "INT64")},
}
"""From the names of ONNX to those of the protocol; what is not here, such as BFLOAT16 and COMPLEX64, cannot be sent."""


@dataclass(frozen=True, slots=True)
class OnnxInput:
    """An input of the file.

    Attributes:
        spec: as a card describes it, without the dimension of rows.
        rows: size of the first dimension where the file fixes it; None where any number of rows fits.
    """

    spec: TensorSpec
    rows: int | None


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """What was read.

    Attributes:
        content: of the file.
        external: files of weights beside it by the location that the file gives.
        inputs: in the file's order.
        outputs: names and declared shapes with the first dimension, -1 for any size; None for a shape not declared.
        makes_scores: the first output comes out of a softmax: scores, where other classifiers give logits.
        scales_batches: numbers are quantised by the largest of a whole batch, which moves those of all rows a little.
    """

    path: Path
    content: bytes
    inputs: tuple[OnnxInput, ...]
    outputs: Mapping[str, tuple[int, ...] | None]
    external: Mapping[str, bytes] = field(default_factory=dict)
    makes_scores: bool = False
    scales_batches: bool = False

    @property
    def rows(self) -> int | None:
        """Rows of each batch where the file fixes them."""
        return next((one.rows for one in self.inputs if one.rows is not None), None)

    @property
    def has_free_sizes(self) -> bool:
        """Whether rows may differ in shape."""
        return any(-1 in one.spec.shape for one in self.inputs)

    def whole(self) -> bytes:
        """Return the file with the weights beside it put in.

        Raises:
            ValueError: together they are more than an ONNX file can hold.
        """
        if not self.external:
            return self.content
        import onnx

        if len(self.content) + sum(map(len, self.external.values())) > MOST_BYTES:
            raise ValueError("its weights are too large for one file.")
        model = onnx.load_model_from_string(self.content)
        for tensor in _tensors(model):
            if tensor.data_location == tensor.EXTERNAL:
                location, start, length = _external(tensor)
                data = self.external[location]
                tensor.raw_data = data[start : len(data) if length is None else start + length]
                tensor.ClearField("external_data")
                tensor.ClearField("data_location")
        return bytes(model.SerializeToString())


def read(path: Path) -> OnnxFile:
    """Read and check the ONNX file at ``path``.

    Raises:
        ValueError: it is missing, no ONNX file, too large, not to be trusted, or takes or gives what cannot be served;
            one sentence that names the file.
    """
    shown = files.shown(path)
    if "\0" in str(path):
        raise ValueError(f"the ONNX file {shown} cannot be read: its name cannot be one.")
    try:
        size_bytes = path.stat().st_size
        _check_memory(size_bytes)
        if size_bytes > MOST_BYTES:
            raise _Unfit("an ONNX file holds at most 2 GiB; export it with its weights in a file beside it")
        content = files.read(path, MOST_BYTES)
        model = _parsed(content)
        external = _read_external(path, model, len(content))
        return OnnxFile(
            path,
            content,
            _inputs(model.graph),
            _outputs(model.graph),
            external,
            makes_scores=_makes_scores(model),
            scales_batches=any(node.op_type.startswith("Dynamic") for node in model.graph.node),
        )
    except FileNotFoundError:
        raise ValueError(f"the ONNX file {shown} does not exist.") from None
    except (FileRefused, UnicodeError) as error:
        raise ValueError(f"the ONNX file {shown} cannot be read: {error}.") from None
    except (OSError, _Unfit) as error:
        why = error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
        raise ValueError(f"the ONNX file {shown} cannot be served: {why}.") from None


class _Unfit(Exception):
    """The file cannot be served; the end of a sentence, without a full stop."""


def _check_memory(size_bytes: int) -> None:
    free = this_machine(os.environ).free_memory_bytes
    if free is not None and size_bytes > free:
        raise _Unfit(f"it takes {size_bytes / GIB:.1f} GiB, but only {free / GIB:.1f} GiB of memory are free")


def _parsed(content: bytes) -> ModelProto:
    import onnx

    try:
        model = onnx.load_model_from_string(content)
    except Exception:  # protobuf has an error of its own for each of its implementations
        raise _Unfit("it is damaged, cut short, or no ONNX file") from None
    # Bytes that mean nothing can still be protobuf; none at all are.
    if not model.ir_version or not model.graph.output or not model.opset_import:
        raise _Unfit("it is no ONNX file, or an empty one")
    if any(isinstance(text, bytes) for text in _texts(model)):  # what protobuf makes of texts that are not UTF-8
        raise _Unfit("it is damaged: a name in it is not UTF-8")
    return model


def _texts(model: ModelProto) -> Iterator[object]:
    for value in (*model.graph.input, *model.graph.output):
        yield value.name
    for tensor in _tensors(model):
        yield tensor.name
        for entry in tensor.external_data:
            yield from (entry.key, entry.value)
    for node in model.graph.node:
        yield from (node.op_type, *node.input, *node.output)


def _inputs(graph: GraphProto) -> tuple[OnnxInput, ...]:
    # Until IR version 4 initializers were listed among the inputs; they have their values.
    preset = {one.name for one in graph.initializer} | {one.values.name for one in graph.sparse_initializer}
    given = [one for one in graph.input if one.name not in preset]
    if not given:
        raise _Unfit("it takes no inputs, so there is nothing to ask it")
    if len(given) > MAX_INPUTS:
        raise _Unfit(f"it has {len(given)} inputs, and a request can have {MAX_INPUTS}")
    found = tuple(_input(one) for one in given)
    fixed = sorted({one.rows for one in found if one.rows is not None})
    if len(fixed) > 1:
        raise _Unfit(f"its inputs disagree about the number of rows, which is the first dimension: {fixed}")
    return found


def _input(value: ValueInfoProto) -> OnnxInput:
    what = f"input {value.name[:80]}"
    datatype = _datatype(value, what)
    shape = _shape(value)
    if not shape:
        raise _Unfit(f"{what} has no first dimension that could be the rows of a batch")
    rows, sizes = shape[0], shape[1:]
    if len(sizes) >= MAX_DIMENSIONS or any(size == 0 or size >= 1 << 31 for size in shape):
        raise _Unfit(f"{what} has the shape {list(shape)}, which no request can have")
    spec = TensorSpec(value.name, datatype, sizes)
    batch_bytes = (spec.row_bytes() or 0) * max(1, rows)
    if batch_bytes > MOST_ROW_BYTES:
        which = "a row" if rows <= 1 else f"its fixed batch of {rows} rows"
        raise _Unfit(f"{which} of {what} takes {batch_bytes} bytes, and at most {MOST_ROW_BYTES} can be sent")
    return OnnxInput(spec, None if rows == -1 else rows)


def _outputs(graph: GraphProto) -> dict[str, tuple[int, ...] | None]:
    for one in graph.output:
        if one.type.WhichOneof("value") is not None:
            _datatype(one, f"output {one.name[:80]}")
    return {one.name: _shape(one) for one in graph.output}


def _datatype(value: ValueInfoProto, what: str) -> str:
    from onnx import TensorProto

    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        named = (kind or "nothing").removesuffix("_type").replace("_", " ")
        hint = (
            "; a converter of scikit-learn leaves that out with options={'zipmap': False}" if named != "nothing" else ""
        )
        raise _Unfit(f"{what} is declared as {named}, and only tensors can be sent{hint}")
    number = value.type.tensor_type.elem_type
    name = TensorProto.DataType.Name(number) if number in TensorProto.DataType.values() else f"type {number}"
    if name == "UNDEFINED" and what.startswith("output"):
        return ""  # the runtime works it out
    if name not in DATATYPES:
        raise _Unfit(f"{what} is of {name}, which requests and answers cannot hold; add a Cast to FLOAT to the model")
    return DATATYPES[name]


def _shape(value: ValueInfoProto) -> tuple[int, ...] | None:
    """Return the declared shape, -1 for a size that is free; None when none is declared."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(
        one.dim_value if one.WhichOneof("value") == "dim_value" and one.dim_value >= 0 else -1
        for one in tensor.shape.dim
    )


def _makes_scores(model: ModelProto) -> bool:
    name = model.graph.output[0].name
    for node in reversed(model.graph.node):
        if name in node.output:
            if node.op_type not in ("Identity", "Cast", "Flatten", "Reshape", "Squeeze"):
                return bool(node.op_type == "Softmax")
            name = node.input[0]
    return False


def _read_external(path: Path, model: ModelProto, size_bytes: int) -> dict[str, bytes]:
    """Read the files that hold tensors of ``model``."""
    folders = (path.resolve().parent, path.parent.resolve())  # a cache of models may hold links to its files
    found: dict[str, bytes] = {}
    for tensor in _tensors(model):
        if tensor.data_location != tensor.EXTERNAL:
            continue
        what = f"tensor {tensor.name[:80]!r}"
        location, start, length = _external(tensor)
        if location not in found:
            place = _place(path, location, folders, what)
            size_bytes += place.stat().st_size if place.exists() else 0
            _check_memory(size_bytes)
            try:
                found[location] = files.read(place, size_bytes)
            except FileRefused as error:
                raise _Unfit(f"{what} lies in {files.shown(location)}, which cannot be read: {error}") from None
        end = start if length is None else start + length
        if start < 0 or end < start or end > len(found[location]):
            raise _Unfit(f"{what} lies outside of {files.shown(location)}, which may have been cut short")
    return found


def _place(path: Path, location: str, folders: tuple[Path, ...], what: str) -> Path:
    outside = _Unfit(f"{what} lies in {files.shown(location)}, which is not in the file's own folder")
    if not location or "\0" in location or os.path.isabs(location) or ".." in Path(location).parts:
        raise outside
    place = (path.parent / location).resolve()
    if not any(place.is_relative_to(folder) for folder in folders):
        raise outside
    return place


def _external(tensor: TensorProto) -> tuple[str, int, int | None]:
    """Return file, first byte and number of bytes (None: all) of a tensor that lies elsewhere."""
    entries = {one.key: one.value for one in tensor.external_data}
    try:
        length = entries.get("length")
        return entries.get("location", ""), int(entries.get("offset") or 0), int(length) if length else None
    except ValueError:
        raise _Unfit(f"tensor {tensor.name[:80]!r} has no place where its data lie") from None


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Yield every tensor, wherever it stands."""
    waiting: list[Any] = [model.graph]
    for function in model.functions:
        waiting.append(function)
    for training in model.training_info:
        waiting += [training.initialization, training.algorithm]
    while waiting:
        place = waiting.pop()
        yield from getattr(place, "initializer", ())
        for sparse in getattr(place, "sparse_initializer", ()):
            yield from (sparse.values, sparse.indices)
        for node in place.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
                for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                    yield from (sparse.values, sparse.indices)
                waiting += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
