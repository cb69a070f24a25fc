"""Models for the tests of gRPC: one with inputs of several kinds, and one that waits until it is told."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from consumer.models.base import Description, Model, Result
from consumer.models.own.inputs import arrays
from shared.state.cards import TensorSpec
from shared.wire.messages import Request, Tensor

INPUTS = (
    TensorSpec("single", "FP32", (2,)),
    TensorSpec("half", "FP16", (2,)),
    TensorSpec("whole", "INT64", (-1,)),
    TensorSpec("text", "BYTES", (1,)),
)
OUTPUTS = (
    TensorSpec("sum", "FP32", (2,)),
    TensorSpec("double", "FP16", (2,)),
    TensorSpec("count", "INT64", ()),
    TensorSpec("shouted", "BYTES", (1,)),
)


class Mixed(Model):
    """Adds, doubles, counts and shouts."""

    def load(self, device: str, precision: str) -> None:
        """Nothing to load."""

    def describe(self) -> Description:
        """Four inputs, four outputs."""
        return Description(inputs=INPUTS, outputs=OUTPUTS, content_types=())

    def preprocess(self, request: Request) -> Sequence[Any]:
        """Return a dictionary for each row."""
        found = arrays(request, INPUTS)
        return [{name: array[row] for name, array in found.items()} for row in range(len(found["single"]))]

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Answer each row by itself."""
        return rows

    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
        """Make the four outputs."""
        count = len(outputs)
        texts = [row["text"][0].encode() for row in outputs]
        shouted = b"".join(len(text).to_bytes(4, "little") + text.upper() for text in texts)
        sums = np.stack([row["single"] + row["half"].astype(np.float32) for row in outputs])
        doubles = np.stack([row["half"] * np.float16(2) for row in outputs])
        counts = np.array([len(row["whole"]) for row in outputs], np.int64)
        return Result(
            outputs=[
                Tensor("sum", "FP32", (count, 2), sums.astype("<f4").tobytes()),
                Tensor("double", "FP16", (count, 2), doubles.astype("<f2").tobytes()),
                Tensor("count", "INT64", (count,), counts.tobytes()),
                Tensor("shouted", "BYTES", (count, 1), shouted),
            ]
        )

    def sample_rows(self, count: int) -> Sequence[Any]:
        """Return rows to warm up with."""
        row = {"single": np.ones(2, np.float32), "half": np.ones(2, np.float16), "whole": np.ones(1, np.int64)}
        return [{**row, "text": np.array(["a"], object)}] * count

    def decodes(self, request: Request) -> bool:
        """It is quick."""
        return False


class Gate(Model):
    """Echoes a number once a file is there, whose path is its option ``gate``."""

    def __init__(self, gate: Path) -> None:
        self._gate = gate

    def load(self, device: str, precision: str) -> None:
        """Nothing to load."""

    def describe(self) -> Description:
        """A number in, the same out."""
        spec = TensorSpec("number", "INT64", (1,))
        return Description(inputs=(spec,), outputs=(spec,), content_types=())

    def preprocess(self, request: Request) -> Sequence[Any]:
        """Return the numbers."""
        return list(arrays(request, (TensorSpec("number", "INT64", (1,)),))["number"])

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Wait for the gate if a number asks for that, which is when it is negative."""
        while any(row[0] < 0 for row in rows) and not self._gate.exists():
            time.sleep(0.005)
        return rows

    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
        """Give them back."""
        return Result(outputs=[Tensor("number", "INT64", (len(outputs), 1), np.stack(outputs).astype("<i8").tobytes())])

    def sample_rows(self, count: int) -> Sequence[Any]:
        """Return rows to warm up with."""
        return [np.ones(1, np.int64)] * count

    def decodes(self, request: Request) -> bool:
        """It is quick."""
        return False


def mixed(options: dict[str, Any]) -> Model:
    """Make the model of several kinds."""
    return Mixed()


def gate(options: dict[str, Any]) -> Model:
    """Make the model that waits."""
    return Gate(Path(options["gate"]))
