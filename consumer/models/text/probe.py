"""Is a packed batch the same as one text at a time? Tried once per start, in the network as it is."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from .rows import Row

LONGEST = 512
"""Longest text that is tried; where attention sees a window only, the windows in use are shorter."""

LENGTHS = (5, LONGEST, 3, 60)
AGREES = {torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.01}
"""Largest difference, as a share of the largest number."""


def probe_rows(vocabulary: int, context: int) -> list[Row]:
    """Return texts of different lengths, made of random tokens; the same ones every time."""
    random = np.random.default_rng(15)
    lengths = [min(length, context) for length in LENGTHS]
    return [Row(random.integers(vocabulary // 8, vocabulary, length)) for length in lengths]


def first_position(network: nn.Module) -> int:
    """Return the position of the first token: 0, or behind that of the padding, as RoBERTa and its like count."""
    for name, module in network.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return 0 if module.padding_idx is None else module.padding_idx + 1
    return 0


def agrees(exact: torch.Tensor, found: torch.Tensor) -> bool:
    """Say whether two results are the same but for rounding."""
    if exact.shape != found.shape or not torch.isfinite(found).all():
        return False
    limit = AGREES.get(exact.dtype, 0.05) * float(exact.abs().max())
    return float((exact.float() - found.float()).abs().max()) <= max(limit, 1e-6)
