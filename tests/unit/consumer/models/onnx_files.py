"""Small ONNX files for tests, made without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from consumer.models.base import Model
from consumer.models.families import build
from shared.model_config import ModelConfig
from shared.wire.messages import Request, Tensor

FLOAT, INT64, STRING, BOOL, UINT8 = (
    TensorProto.FLOAT,
    TensorProto.INT64,
    TensorProto.STRING,
    TensorProto.BOOL,
    TensorProto.UINT8,
)
Shape = Sequence[Any] | None


def value(name: str, kind: int, shape: Shape) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def proto(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: dict[str, Any] | None = None,
    tensors: Sequence[onnx.TensorProto] = (),
) -> onnx.ModelProto:
    """A model of these nodes; ``weights`` are arrays by name."""
    kept = [numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "test", inputs, outputs, [*kept, *tensors])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def node(operator: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """A node; names are separated by spaces."""
    return helper.make_node(operator, inputs.split(), outputs.split(), **attributes)


def written(folder: Path, model: onnx.ModelProto, name: str = "model.onnx") -> Path:
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


def identity(kind: int, shape: Shape = ("n", None)) -> onnx.ModelProto:
    return proto([node("Identity", "x", "y")], [value("x", kind, shape)], [value("y", kind, shape)])


def doubling(rows: Any = "n") -> onnx.ModelProto:
    """y = x + x, two numbers a row."""
    return proto([node("Add", "x x", "y")], [value("x", FLOAT, [rows, 2])], [value("y", FLOAT, [rows, 2])])


def embedding() -> onnx.ModelProto:
    """The mean vector of the ids that a mask keeps; ids from 0 to 9, rows of any length."""
    nodes = [
        node("Gather", "table ids", "vectors"),
        node("Unsqueeze", "mask last", "column"),
        node("Mul", "vectors column", "kept"),
        node("ReduceMean", "kept", "mean", axes=[1], keepdims=0),
        node("ReduceSum", "mask first", "count", keepdims=0),
    ]
    inputs = [value("ids", INT64, ["n", "length"]), value("mask", FLOAT, ["n", "length"])]
    outputs = [value("mean", FLOAT, ["n", 3]), value("count", FLOAT, ["n"])]
    table = np.arange(30, dtype=np.float32).reshape(10, 3)
    return proto(nodes, inputs, outputs, {"table": table, "last": np.array([2]), "first": np.array([1])})


def classifier(side: int = 8, classes: int = 4, rows: Any = "n", softmax: bool = False) -> onnx.ModelProto:
    """Logits are linear in the mean of each colour of a float picture."""
    nodes = [node("GlobalAveragePool", "pixels", "mean"), node("Flatten", "mean", "flat")]
    nodes.append(node("Gemm", "flat weight", "logits"))
    if softmax:
        nodes.append(node("Softmax", "logits", "scores", axis=-1))
    weight = np.random.default_rng(1).normal(size=(3, classes)).astype(np.float32)
    return proto(
        nodes,
        [value("pixels", FLOAT, [rows, 3, side, side])],
        [value("scores" if softmax else "logits", FLOAT, [rows, classes])],
        {"weight": weight},
    )


def serve(path: Path, **keys: Any) -> Model:
    """A loaded model of family onnx."""
    model = build("file", ModelConfig(family="onnx", weights=str(path), **keys))
    model.load("cpu", "fp32")
    return model


def request(**inputs: Any) -> Request:
    """A request of arrays by name, numbers only."""
    names = {np.dtype(name): kind for name, kind in DATATYPES.items()}
    arrays = {name: np.asarray(array) for name, array in inputs.items()}
    return Request(
        "r",
        1000,
        inputs=tuple(Tensor(name, names[one.dtype], one.shape, one.tobytes()) for name, one in arrays.items()),
    )


DATATYPES = {
    "?": "BOOL",
    **{
        f"{letter}{size}": f"{name}{8 * size}"
        for letter, name in (("u", "UINT"), ("i", "INT"))
        for size in (1, 2, 4, 8)
    },
    **{f"f{size}": f"FP{8 * size}" for size in (2, 4, 8)},
}


def answer(model: Model, asked: Request) -> dict[str, np.ndarray[Any, Any]]:
    """The outputs of a request that is run alone, by name."""
    result = model.postprocess(model.run(model.preprocess(asked)), asked)
    dtypes = {kind: np.dtype(name) for name, kind in DATATYPES.items()}
    return {one.name: np.frombuffer(one.data, dtypes[one.datatype]).reshape(one.shape) for one in result.outputs or ()}
