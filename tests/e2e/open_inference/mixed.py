"""A model of one's own with inputs and outputs of several datatypes, several of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from consumer.models.base import Description, Model, Result
from consumer.models.own.inputs import arrays
from shared.state.cards import TensorSpec
from shared.wire.messages import Request, Tensor

INPUTS = (
    TensorSpec("numbers", "FP32", (3,)),
    TensorSpec("halves", "FP16", (2,)),
    TensorSpec("ids", "INT64", (-1,)),
    TensorSpec("flags", "BOOL", (1,)),
    TensorSpec("texts", "BYTES", (1,)),
)
OUTPUTS = (
    TensorSpec("doubled", "FP32", (3,)),
    TensorSpec("halved", "FP16", (2,)),
    TensorSpec("total", "INT64", (1,)),
    TensorSpec("inverse", "BOOL", (1,)),
    TensorSpec("upper", "BYTES", (1,)),
)


class Mixed(Model):
    """Doubles, halves, adds up, inverts, and writes in capitals."""

    def load(self, device: str, precision: str) -> None:
        """Nothing to load."""

    def describe(self) -> Description:
        """Five of each."""
        return Description(INPUTS, OUTPUTS, content_types=())

    def preprocess(self, request: Request) -> Sequence[Any]:
        """Rows of five arrays."""
        found = arrays(request, INPUTS)
        return list(zip(*(found[spec.name] for spec in INPUTS), strict=True))

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Each row by itself."""
        return [
            (numbers * 2, halves / 2, np.array([ids.sum()]), ~flags, [str(texts[0]).upper()])
            for numbers, halves, ids, flags, texts in rows
        ]

    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
        """The columns."""
        columns = zip(OUTPUTS, zip(*outputs, strict=True), strict=True)
        return Result(outputs=[_tensor(spec, column) for spec, column in columns])

    def sample_rows(self, count: int) -> Sequence[Any]:
        """Ones."""
        row = (np.ones(3, "f4"), np.ones(2, "f2"), np.ones(4, "i8"), np.array([True]), np.array(["a"], object))
        return [row] * count


def _tensor(spec: TensorSpec, column: Sequence[Any]) -> Tensor:
    shape = (len(column), *spec.shape)
    data = [one[0] for one in column] if spec.datatype == "BYTES" else np.stack(column)
    return Tensor(spec.name, spec.datatype, shape, data)  # type: ignore[arg-type]


def create(options: dict[str, Any]) -> Model:
    """Make one."""
    return Mixed()
