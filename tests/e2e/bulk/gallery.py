"""A model of photographs that says how many bytes each has, and takes no time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from consumer.models.base import IMAGES, Description, Model, Result
from shared.state.cards import TensorSpec
from shared.wire.messages import Request, Tensor


class Gallery(Model):
    """Takes JPEG, PNG and WebP."""

    def describe(self) -> Description:
        """Say so."""
        return Description(
            inputs=(TensorSpec("image", "UINT8", (-1,)),),
            outputs=(TensorSpec("size", "INT32", ()),),
            content_types=IMAGES,
        )

    def load(self, device: str, precision: str) -> None:
        """Do nothing."""

    def preprocess(self, request: Request) -> Sequence[bytes]:
        """Return the picture."""
        return (request.body or b"",)

    def run(self, rows: Sequence[bytes]) -> Sequence[int]:
        """Measure each."""
        return [len(row) for row in rows]

    def postprocess(self, outputs: Sequence[int], request: Request) -> Result:
        """Answer with the size."""
        return Result(outputs=(Tensor("size", "INT32", (1,), outputs[0].to_bytes(4, "little")),))

    def sample_rows(self, count: int) -> Sequence[bytes]:
        """Return some."""
        return [b"picture"] * count

    def decodes(self, request: Request) -> bool:
        """Say no: nothing is decoded."""
        return False


def create(options: dict[str, Any]) -> Model:
    """Make the model."""
    return Gallery()
