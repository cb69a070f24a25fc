"""A model that takes pictures: you write what it makes of their pixels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from consumer.models.base import IMAGES, Description, Model, Result
from consumer.models.own.inputs import arrays
from consumer.models.pictures import images, samples
from shared.state.cards import TensorSpec
from shared.wire.messages import Request
from shared.wire.outcomes import UNSUPPORTED_MEDIA_TYPE, RequestError

from .values import answer, check, rows_of

if TYPE_CHECKING:
    from consumer.models.pictures.decode_cost import Effort

Pixels = NDArray[np.uint8]

EXAMPLE_SIDE = 48
"""Pixels of the example's sides, whatever the model's: a card shows it as text."""


class ImageModel(Model):
    """You write ``load`` and :meth:`compute`; a request is a JPEG, PNG or WEBP, or an input with pixels.

    Attributes:
        side: pictures become squares of so many pixels: the shorter side is scaled to ``resize`` (``side``, if None),
            and the middle is kept.
        mean, std: of each colour, on a scale from 0 to 1; pixels are (x / 255 - mean) / std. The usual ones of
            ImageNet.
        labels: of a classifier: ``compute`` returns one score for each, and answers are the likeliest classes.
        size: numbers of one output where there are no labels; -1 for any.
    """

    side: ClassVar[int] = 224
    resize: ClassVar[int | None] = None
    interpolation: ClassVar[str] = "bilinear"
    mean: ClassVar[tuple[float, float, float]] = (0.485, 0.456, 0.406)
    std: ClassVar[tuple[float, float, float]] = (0.229, 0.224, 0.225)
    labels: ClassVar[tuple[str, ...] | None] = None
    size: ClassVar[int] = -1

    @abstractmethod
    def compute(self, pixels: NDArray[np.float32]) -> Any:
        """Compute the pictures of a whole batch.

        Args:
            pixels: float32, shape (n, 3, side, side), RGB, normalised. Fresh for each call.

        Returns:
            An array or a tensor of torch with a row for each picture.
        """

    def describe(self) -> Description:
        """See the interface."""
        name, size = ("vector", self.size) if self.labels is None else ("scores", len(self.labels))
        return Description(self._specs(), (TensorSpec(name, "FP32", (size,)),), IMAGES, self.labels)

    def preprocess(self, request: Request) -> Sequence[Pixels]:
        """See the interface."""
        check(request, self.labels)
        if request.inputs is not None:
            return list(arrays(request, self._specs())["input"])
        kind = (request.content_type or "").partition(";")[0].strip().lower()
        if kind not in IMAGES:
            told = f"This model takes {', '.join(IMAGES)} or an input, not {kind[:80] or 'a nameless body'}."
            raise RequestError(UNSUPPORTED_MEDIA_TYPE, told)
        return [images.decode(request.body or b"", self.resize or self.side, self.side, self.interpolation)]

    def run(self, rows: Sequence[Pixels]) -> Sequence[Any]:
        """See the interface."""
        scale = np.asarray(self.std, np.float32) * 255
        shift = np.asarray(self.mean, np.float32) / np.asarray(self.std, np.float32)
        pixels = np.stack(rows).astype(np.float32) / scale - shift
        return list(rows_of(self.compute(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))), len(rows), "compute"))

    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
        """See the interface."""
        return answer(outputs, self.labels, request)

    def sample_rows(self, count: int) -> Sequence[Pixels]:
        """Return pictures made from a seed."""
        return samples.pictures(count, self.side, self.side)

    def example(self) -> bytes:
        """Return a small JPEG; override it with a picture of yours."""
        return samples.jpeg(EXAMPLE_SIDE)

    def effort(self, request: Request) -> Effort | None:
        """Return what the header of a picture says."""
        if request.inputs is not None or request.content_type not in IMAGES:
            return None
        resize = None if self.interpolation == "nearest" else self.resize or self.side
        return images.effort(request.body or b"", resize)

    def decodes(self, request: Request) -> bool:
        """Say yes for pictures; pixels are only looked at."""
        return request.inputs is None

    def _specs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec("input", "UINT8", (self.side, self.side, 3)),)
