"""A model with a pace and a size: each run takes ``batch_ms``, and no more than ``room`` rows fit into its memory.

A row is four FP32 numbers; the answer is 2 x + 1 of each. It sleeps, as a host does while a GPU computes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from consumer.models.base import RAW, Description, Model, Result
from shared.state.cards import TensorSpec
from shared.wire.messages import Request, Tensor
from shared.wire.outcomes import UNSUPPORTED_MEDIA_TYPE, RequestError, invalid

ROW_BYTES = 16
LARGEST = np.finfo(np.float32).max


class OutOfMemoryError(RuntimeError):
    """Named as torch's is."""


class Paced(Model):
    """See the module.

    Args:
        huge: a row of the largest number there is does not fit at all.
        folder: where the sizes of all runs are noted, one a line.
    """

    def __init__(self, batch_ms: float, room: int, huge: bool, folder: Path) -> None:
        self._batch_s, self._room, self._huge, self._folder = batch_ms / 1000, room, huge, folder

    def describe(self) -> Description:
        """Four numbers in, four out."""
        return Description(inputs=(TensorSpec("x", "FP32", (4,)),), outputs=(TensorSpec("y", "FP32", (4,)),))

    def load(self, device: str, precision: str) -> None:
        """Do nothing."""

    def preprocess(self, request: Request) -> Sequence[Any]:
        """Check everything, as docs/models.md asks: direct producers do not pass the front end."""
        if request.inputs is not None:
            if [(one.name, one.datatype) for one in request.inputs] != [("x", "FP32")]:
                raise invalid("This model takes one input, x, in FP32.", "inputs")
            tensor = request.inputs[0]
            if tuple(tensor.shape[-1:]) != (4,) or len(tensor.shape) > 2:
                raise invalid("The shape of x is [4], or the number of rows and 4.", "inputs[0].shape")
            data = tensor.data
        elif request.content_type == RAW and request.body is not None:
            data = request.body
        else:
            raise RequestError(UNSUPPORTED_MEDIA_TYPE, f"This model takes {RAW}.")
        if not data or len(data) % ROW_BYTES:
            raise invalid("x is four FP32 numbers for each row.", "inputs[0].data")
        rows = np.frombuffer(data, "<f4").reshape(-1, 4)
        if not np.isfinite(rows).all():
            raise invalid("x must be finite.", "inputs[0].data")
        return list(rows)

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Take the time of a batch, or run out of memory."""
        with (self._folder / f"runs-{os.getpid()}").open("a") as noted:
            noted.write(f"{len(rows)}\n")
        is_huge = self._huge and any(row[0] == LARGEST for row in rows)
        if is_huge or (self._room and len(rows) > self._room):
            raise OutOfMemoryError("Tried to allocate 20 GiB.")
        if self._batch_s:
            time.sleep(self._batch_s)
        return list(2 * np.stack(rows) + 1)

    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
        """The rows of the request."""
        y = np.stack(outputs)
        return Result(outputs=(Tensor("y", "FP32", y.shape, y.tobytes()),))

    def sample_rows(self, count: int) -> Sequence[Any]:
        """Small numbers."""
        return [np.full(4, row, np.float32) for row in range(count)]

    def decodes(self, request: Request) -> bool:
        """Nothing is decoded."""
        return False


def create(options: dict[str, Any]) -> Model:
    """Make one."""
    return Paced(options["batch_ms"], options["room"], options["huge"], Path(options["folder"]))


def models_file(folder: Path, name: str, batch_ms: float = 0, room: int = 0, huge: bool = False) -> Path:
    """Write a models file with this model under ``name``; its runs are noted in ``folder``."""
    path = folder / "models.toml"
    path.write_text(
        f'[models.{name}]\nfamily = "python"\nentry = "tests.fault.paced:create"\n'
        f'options = {{ folder = "{folder}", batch_ms = {batch_ms}, room = {room}, huge = {str(huge).lower()} }}\n'
    )
    return path
