"""What a model of transformers says about its sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .cache import Shape


class CannotServe(ValueError):
    """A model that the slot engine cannot run; one sentence that says why."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes of a decoder; ``context`` is in tokens, and ``heads`` are those of keys and values."""

    vocabulary: int
    context: int
    layers: int
    heads: int
    size: int

    @classmethod
    def of(cls, config: Any, context: int) -> Limits:
        """Read them from a configuration of transformers.

        Args:
            context: most tokens that are wanted. A model that only looks back over a window is served within it.
        """
        config = config.get_text_config()
        window = getattr(config, "sliding_window", None)
        longest: int = config.max_position_embeddings
        return cls(
            config.vocab_size,
            min(context, longest, window or longest),
            config.num_hidden_layers,
            getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        )

    def shape(self, slots: int) -> Shape:
        """Return the sizes of a cache with so many slots."""
        return Shape(self.layers, slots, self.heads, self.context, self.size)
