"""A model that tests can hold back through files: ``hold-PRECISION`` keeps its load waiting, ``slow`` its run.

It gives back the bytes it was sent. It cannot be loaded in fp16, and in tf32 its outputs are too far from fp32's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from consumer.models.base import Description, Model, Result
from shared.state.cards import TensorSpec
from shared.wire.messages import Request, Tensor
from tests.helpers import write_models_file

POLL_S = 0.005
INPUTS = (TensorSpec("input", "UINT8", (-1,)),)
OUTPUTS = (TensorSpec("output", "UINT8", (-1,)),)


class Switchable(Model):
    """See the module; ``folder`` is where the files are. Process ids that wait are noted beside them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._factor = 1.0

    def describe(self) -> Description:
        """Bytes in, bytes out."""
        return Description(INPUTS, OUTPUTS)

    def load(self, device: str, precision: str) -> None:
        """Wait while it is held."""
        if precision == "fp16":
            raise ValueError("this model does not run in fp16.")
        self._factor = 1.1 if precision == "tf32" else 1.0
        self._wait_for(f"hold-{precision}")

    def _wait_for(self, name: str) -> None:
        while (self._folder / name).exists():
            # In one step: who sees the file must find the number in it.
            unfinished = self._folder / f"{name}.{os.getpid()}"
            unfinished.write_text(str(os.getpid()))
            unfinished.replace(self._folder / f"{name}.waits")
            time.sleep(POLL_S)

    def preprocess(self, request: Request) -> Sequence[Any]:
        """One row per request."""
        return [np.frombuffer(request.body or b"", np.uint8).astype(np.float32)]

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Give the numbers back, when it is not held."""
        self._wait_for("slow")
        return [row * self._factor for row in rows]

    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
        """The bytes again."""
        data = outputs[0].astype(np.uint8).tobytes()
        return Result(outputs=(Tensor("output", "UINT8", (1, len(data)), data),))

    def sample_rows(self, count: int) -> Sequence[Any]:
        """Eight numbers each."""
        return [np.arange(8, dtype=np.float32) + row for row in range(count)]

    def decodes(self, request: Request) -> bool:
        """Nothing is decoded."""
        return False


def create(options: dict[str, Any]) -> Model:
    """Make one; ``folder`` is required."""
    return Switchable(Path(options["folder"]))


def models_file(folder: Path, name: str) -> Path:
    """Write a models file with this model under ``name``."""
    return write_models_file(folder, name, "tests.e2e.runtimes.switchable:create")
