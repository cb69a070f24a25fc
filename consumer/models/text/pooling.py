"""From the hidden states of tokens to one vector per text."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .folder import CLS, MEAN


def pooled(hidden: torch.Tensor, lengths: Sequence[int], pooling: str, normalizes: bool) -> torch.Tensor:
    """Return fp32 vectors, shape (texts, size).

    Args:
        hidden: of all tokens, text behind text, shape (tokens, size).
        lengths: tokens of each text.
        pooling: ``mean``, ``cls`` (the first token) or ``last``.
        normalizes: whether vectors are given the length 1.
    """
    counts = torch.tensor(lengths, device=hidden.device)
    ends = counts.cumsum(0)
    if pooling == MEAN:
        sums = torch.zeros(len(lengths), hidden.shape[1], device=hidden.device)
        texts = torch.repeat_interleave(torch.arange(len(lengths), device=hidden.device), counts)
        found = sums.index_add_(0, texts, hidden.float()) / counts[:, None]
    else:
        found = hidden[ends - counts if pooling == CLS else ends - 1].float()
    return torch.nn.functional.normalize(found) if normalizes else found
