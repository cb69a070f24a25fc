"""What a model of your own is made of. This module keeps its names from version to version; nothing behind it does.

Write a class that derives from :class:`ImageModel`, :class:`TextModel` or :class:`TensorModel`, which need a ``load``
and a ``compute``; from :class:`Model` where you want each step to be yours. docs/models.md has examples of all.
"""

from __future__ import annotations

try:
    from consumer.models.base import IMAGES, RAW, Description, Model, Result
    from consumer.models.own.inputs import arrays
    from consumer.models.pictures.images import decode as decode_image
    from consumer.models.simple.image_model import ImageModel
    from consumer.models.simple.tensor_model import TensorModel
    from consumer.models.simple.text_model import TextModel
except ModuleNotFoundError as error:
    if error.name not in ("numpy", "PIL"):
        raise
    raise ImportError(f"headrace.model needs {error.name}: pip install 'headrace[consumer]'") from error
from shared.families import Family
from shared.model_config import ModelConfig
from shared.state.cards import TensorSpec
from shared.wire.messages import Prediction, Request, Tensor
from shared.wire.outcomes import UNSUPPORTED_MEDIA_TYPE, RequestError, invalid

__all__ = [
    "IMAGES",
    "RAW",
    "UNSUPPORTED_MEDIA_TYPE",
    "Description",
    "Family",
    "ImageModel",
    "Model",
    "ModelConfig",
    "Prediction",
    "Request",
    "RequestError",
    "Result",
    "Tensor",
    "TensorModel",
    "TensorSpec",
    "TextModel",
    "arrays",
    "decode_image",
    "invalid",
]
