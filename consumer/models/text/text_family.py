"""Family ``text``: any encoder that transformers loads from a folder or a package, without running code of either."""

from __future__ import annotations

from consumer.models.base import Model
from shared.model_config import ModelConfig

from .folder import OpenFolder, open_folder
from .text_model import TextModel


def build(config: ModelConfig, threads: int) -> Model:
    """Make the model; torch and transformers are imported by its ``load``.

    Raises:
        ValueError: the folder holds no encoder, or weights that could run code; one sentence.
    """
    folder: OpenFolder = open_folder(config)
    return TextModel(folder, threads)
