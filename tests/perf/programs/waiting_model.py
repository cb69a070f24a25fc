"""A model that uses no processor: a batch of n rows takes a·n + b milliseconds of sleep, like a device far away."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from consumer.models.base import Description, Model, Result
from shared.state.cards import TensorSpec
from shared.wire.messages import Request, Tensor

_DONE = bytes(4)


class Waiting(Model):
    """A row is the body of a request; the output is four zero bytes."""

    def __init__(self, per_row_ms: float, per_batch_ms: float) -> None:
        self._per_row_ms, self._per_batch_ms = per_row_ms, per_batch_ms

    def describe(self) -> Description:
        """Say that bytes come in and four bytes go out."""
        return Description(
            inputs=(TensorSpec("input", "UINT8", (-1,)),), outputs=(TensorSpec("output", "UINT8", (4,)),)
        )

    def load(self, device: str, precision: str) -> None:
        """Do nothing."""

    def preprocess(self, request: Request) -> Sequence[bytes]:
        """Take the body, or the one input's bytes."""
        return (request.body if request.body is not None else (request.inputs or ())[0].data,)

    def run(self, rows: Sequence[bytes]) -> Sequence[bytes]:
        """Sleep."""
        time.sleep((self._per_row_ms * len(rows) + self._per_batch_ms) / 1000)
        return [_DONE] * len(rows)

    def postprocess(self, outputs: Sequence[bytes], request: Request) -> Result:
        """Answer with the four bytes."""
        return Result(outputs=(Tensor("output", "UINT8", (1, 4), outputs[0]),))

    def sample_rows(self, count: int) -> Sequence[bytes]:
        """Return short rows."""
        return [b"sample"] * count

    def decodes(self, request: Request) -> bool:
        """Say no: nothing is decoded."""
        return False


def create(options: Mapping[str, Any]) -> Waiting:
    """Make the model from `per_row_ms` and `per_batch_ms`."""
    return Waiting(float(options.get("per_row_ms", 0.0)), float(options.get("per_batch_ms", 20.0)))


MODELS_FILE = """\
[models.waiting]
family = "python"
entry = "tests.perf.programs.waiting_model:create"
options = {{ per_row_ms = {per_row_ms}, per_batch_ms = {per_batch_ms} }}
"""


def models_file(per_row_ms: float, per_batch_ms: float) -> str:
    """Return a models file with this model under the name `waiting`."""
    return MODELS_FILE.format(per_row_ms=per_row_ms, per_batch_ms=per_batch_ms)
