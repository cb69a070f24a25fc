"""Family ``text``: any encoder that transformers loads from a folder or a package, without running code of either."""

from __future__ import annotations

from consumer.models import installed
from consumer.models.base import Model
from shared.model_config import ModelConfig


def build(config: ModelConfig, threads: int) -> Model:
    """Make the model; torch and transformers are imported by its ``load``.

    Raises:
        ValueError: packages are not installed, the folder holds no encoder, or weights that could run code; one
            sentence.
    """
    installed.require(*installed.TEXT)
    from .folder import OpenFolder, open_folder
    from .text_model import TextModel

    folder: OpenFolder = open_folder(config)
    return TextModel(folder, threads, config.runtime)
