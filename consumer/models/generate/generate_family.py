"""Family ``generate``: which engine and which tokens a table of ``models.toml`` asks for."""

from __future__ import annotations

from consumer.models.base import Model
from shared.model_config import ModelConfig

from . import null


def build(config: ModelConfig, threads: int) -> Model:
    """Make the model; nothing heavy happens before its ``load``.

    Raises:
        ValueError: there is no such architecture, or an option is wrong.
    """
    if config.architecture == "null":
        return null.build(config.options)
    raise ValueError(f"family 'generate' has no architecture {config.architecture!r}; there is 'null'.")
