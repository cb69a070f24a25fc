"""Family ``onnx``: an ONNX file, without the code that made it. A runtime serves it, without importing torch.

With ``labels`` or ``preprocessing`` in its table it is an image classifier, otherwise it takes and gives tensors.
"""

from __future__ import annotations

from consumer.models.base import Model
from shared.model_config import ModelConfig

from .opener import Opener


def build(config: ModelConfig, threads: int) -> Model:
    """Make the model; the file is read by ``load``."""
    opener = Opener(config, threads)
    if config.labels is None and config.preprocessing is None:
        from .tensors import OnnxTensors

        return OnnxTensors(opener)
    from .pictures import OnnxPictures

    return OnnxPictures(opener)
