"""A small model of pictures for the console's tests: which colour is strongest?"""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.model import ImageModel


class Colours(ImageModel):
    """Needs no weights and no torch."""

    labels = ("red", "green", "blue")
    side = 32

    def load(self, device: str, precision: str) -> None:
        """Nothing is to be loaded."""

    def compute(self, pixels: Any) -> Any:
        """Return the mean of each colour: (n, 3)."""
        return np.asarray(pixels, np.float32).mean(axis=(2, 3))
