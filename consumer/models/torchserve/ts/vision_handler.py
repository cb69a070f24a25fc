"""The handler for pictures that others derive from: ``image_processing`` makes a tensor of each."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image

from .base_handler import BaseHandler
from .util import PredictionException


def in_colour(picture: Any) -> Any:
    """Return a picture in three colours, whatever it is in."""
    return picture.convert("RGB") if isinstance(picture, Image.Image) else picture


class VisionHandler(BaseHandler):
    """See the module.

    Attributes:
        image_processing: from a picture to a tensor; each derived class has its own.
    """

    image_processing: Callable[[Any], Any]

    def preprocess(self, data: Any) -> Any:
        """Return the pictures of a batch as one tensor; also lists of numbers are taken.

        Raises:
            PredictionException: 400: one is no picture.
        """
        return torch.stack([self._tensor(row.get("data", row.get("body"))) for row in data]).to(self.device)

    def _tensor(self, image: Any) -> Any:
        if isinstance(image, str):
            try:
                image = base64.b64decode(image)
            except ValueError:
                raise PredictionException("The text is no picture in base64.", 400) from None
        if not isinstance(image, bytes | bytearray):
            return torch.FloatTensor(image)
        try:
            opened = Image.open(io.BytesIO(image))
            opened.load()
        except Exception:
            raise PredictionException("This is not a picture that can be read.", 400) from None
        return self.image_processing(opened)
