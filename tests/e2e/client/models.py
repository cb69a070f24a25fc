"""Models for the clients' tests; consumers load them by the path of this file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from headrace.model import ImageModel, TensorModel, TextModel


class Moods(TextModel):
    """Says of a text whether it ends in an exclamation mark."""

    labels: ClassVar[tuple[str, ...]] = ("calm", "loud")

    def load(self, device: str, precision: str) -> None:
        """Load nothing."""

    def compute(self, texts: Sequence[str]) -> Any:
        """See the interface."""
        return [[0.25, 0.75] if text.endswith("!") else [0.75, 0.25] for text in texts]


class Sums(TensorModel):
    """Adds up three numbers."""

    inputs: ClassVar[Mapping[str, tuple[str, tuple[int, ...]]]] = {"numbers": ("FP32", (3,))}
    outputs: ClassVar[Mapping[str, tuple[str, tuple[int, ...]]]] = {"sum": ("FP32", (1,))}

    def load(self, device: str, precision: str) -> None:
        """Load nothing."""

    def compute(self, **inputs: Any) -> Any:
        """See the interface."""
        return inputs["numbers"].sum(axis=1, keepdims=True)


class Photos(ImageModel):
    """Says of a picture whether it is bright."""

    labels: ClassVar[tuple[str, ...]] = ("bright", "dark", "neither")

    def load(self, device: str, precision: str) -> None:
        """Load nothing."""

    def compute(self, pixels: Any) -> Any:
        """See the interface."""
        bright = pixels.mean(axis=(1, 2, 3)) > 0
        return [[0.75, 0.25, 0.0] if one else [0.25, 0.75, 0.0] for one in bright]
