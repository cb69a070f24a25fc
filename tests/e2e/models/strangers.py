"""Models as strangers write them: right, but not like ours; and one whose own answers are wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from consumer.models.base import Description, Model, Result
from shared.state.cards import TensorSpec
from shared.wire.messages import Request, Tensor
from shared.wire.outcomes import invalid


class Stranger(Model):
    """Adds up the numbers of a row."""

    inputs: tuple[TensorSpec, ...] = (TensorSpec("x", "UINT8", (4,)),)

    def load(self, device: str, precision: str) -> None:
        """Nothing to load."""

    def describe(self) -> Description:
        """One number for each row."""
        return Description(self.inputs, (TensorSpec("sum", "FP32", ()),))

    def preprocess(self, request: Request) -> Sequence[Any]:
        """Rows of numbers."""
        data = request.inputs[0].data if request.inputs else request.body or b""
        return list(np.frombuffer(data, np.uint8).reshape(-1, 4))

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Add up."""
        return [float(np.sum(row)) for row in rows]

    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
        """One tensor."""
        data = np.array(outputs, np.float32)
        return Result(outputs=[Tensor("sum", "FP32", data.shape, data.tobytes())])

    def sample_rows(self, count: int) -> Sequence[Any]:
        """Ones."""
        return [np.ones(4, np.uint8)] * count

    def decodes(self, request: Request) -> bool:
        """Nothing is decoded."""
        return False


class Positive(Stranger):
    """Refuses what makes no sense, and has rows that look like nothing that can be sent."""

    def preprocess(self, request: Request) -> Sequence[Any]:
        """Anything but zeros."""
        [row] = super().preprocess(request)
        if not row.any():
            raise invalid("An empty picture.", "inputs[0].data")
        return [{"row": row}]

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Of the inner rows."""
        return super().run([row["row"] for row in rows])

    def sample_rows(self, count: int) -> Sequence[Any]:
        """Ones, packed away."""
        return [{"row": np.ones(4, np.uint8)}] * count


class Huge(Stranger):
    """A row of 92 MB."""

    inputs = (TensorSpec("x", "FP32", (23_000_000,)),)

    def sample_rows(self, count: int) -> Sequence[Any]:
        """The same row again and again."""
        return [np.zeros(23_000_000, np.float32)] * count


class Sour(Stranger):
    """What it answers is not what it describes."""

    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
        """Twice as many bytes as the shape takes."""
        data = np.array(outputs, np.float64)
        return Result(outputs=[Tensor("sum", "FP32", data.shape, data.tobytes())])


class Mistaken(Stranger):
    """Its example is none, its samples are right."""

    def example(self) -> Mapping[str, Any]:
        """Three numbers, where four are described."""
        return {"x": [1, 2, 3]}


def create(options: dict[str, Any]) -> Model:
    """Make the one that ``kind`` names."""
    kinds: dict[str, type[Stranger]] = {one.__name__.lower(): one for one in (Positive, Huge, Sour, Mistaken)}
    return kinds[options["kind"]]()
