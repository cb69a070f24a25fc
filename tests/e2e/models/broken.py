"""A model that cannot be loaded until a file is there, in the way its options say; for tests of what fails alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from consumer.models.base import Description, Model, Result
from shared.state.cards import TensorSpec
from shared.wire.messages import Request, Tensor


class Broken(Model):
    """Gives back the bytes that come, once ``file`` exists."""

    def __init__(self, file: Path, how: str) -> None:
        self._file, self._how = file, how

    def load(self, device: str, precision: str) -> None:
        print("Gewichte für das Modell 模型 …", flush=True)
        if self._file.exists():
            return
        if self._how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError("The weights are missing.")

    def describe(self) -> Description:
        return Description((TensorSpec("x", "UINT8", (-1,)),), (TensorSpec("y", "UINT8", (-1,)),))

    def preprocess(self, request: Request) -> Sequence[Any]:
        return [request.inputs[0].data if request.inputs else request.body]

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        return rows

    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
        [data] = outputs
        return Result(outputs=[Tensor("y", "UINT8", (1, len(data)), bytes(data))])

    def sample_rows(self, count: int) -> Sequence[Any]:
        return [b"sample"] * count


def create(options: Mapping[str, Any]) -> Broken:
    """Make the model; see ``models.toml``."""
    return Broken(Path(options["file"]), options["how"])
