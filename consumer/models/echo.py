"""The null model: it gives back the bytes it was sent, and so measures everything around a model."""

from __future__ import annotations

from collections.abc import Sequence

from shared.model_config import ModelConfig
from shared.state.cards import TensorSpec
from shared.wire.messages import Request, Tensor
from shared.wire.outcomes import UNSUPPORTED_MEDIA_TYPE, RequestError, invalid

from .base import RAW, Description, Model, Result

_SAMPLE = b"The quick brown fox jumps over the lazy dog."


class Echo(Model):
    """A row is the bytes of a whole request, of any length, none included, or a row of its input. It comes back."""

    def describe(self) -> Description:
        """Say that bytes come in and the same bytes go out."""
        return Description(
            inputs=(TensorSpec("input", "UINT8", (-1,)),),
            outputs=(TensorSpec("output", "UINT8", (-1,)),),
            content_types=(RAW,),
        )

    def load(self, device: str, precision: str) -> None:
        """Do nothing: every device and precision gives the same bytes."""

    def preprocess(self, request: Request) -> Sequence[bytes]:
        """Return the bytes of the body or of the one input, which may be of any datatype."""
        if request.inputs is not None:
            if len(request.inputs) != 1:
                raise invalid(f"This model takes one input, not {len(request.inputs)}.", "inputs")
            return _rows_of(request.inputs[0])
        if request.content_type != RAW or request.body is None:
            raise RequestError(UNSUPPORTED_MEDIA_TYPE, f"This model takes {RAW}, not {str(request.content_type)[:80]}.")
        return (request.body,)

    def run(self, rows: Sequence[bytes]) -> Sequence[bytes]:
        """Return the rows."""
        return rows

    def postprocess(self, outputs: Sequence[bytes], request: Request) -> Result:
        """Answer with one UINT8 tensor of shape [rows, bytes]."""
        data = outputs[0] if len(outputs) == 1 else b"".join(outputs)
        return Result(outputs=(Tensor("output", "UINT8", (len(outputs), len(data) // len(outputs)), data),))

    def sample_rows(self, count: int) -> Sequence[bytes]:
        """Return ``count`` short rows."""
        return [_SAMPLE] * count

    def decodes(self, request: Request) -> bool:
        """Say no: nothing is decoded."""
        return False


def _rows_of(tensor: Tensor) -> Sequence[bytes]:
    """Return the rows of a matrix; anything else is one row."""
    data = tensor.data
    if len(tensor.shape) != 2 or tensor.shape[0] < 2 or tensor.datatype == "BYTES":
        return (data,)
    size = len(data) // tensor.shape[0]
    return [data[start : start + size] for start in range(0, len(data), size or 1)] or (data,)


def build(config: ModelConfig, threads: int) -> Model:
    """Make the model; there is nothing to choose."""
    return Echo()
