"""Linear layers whose weights are laid out once as oneDNN likes them, instead of at each call."""

from __future__ import annotations

import torch
from torch import nn

EXPECTED_ROWS = 256
"""Tokens that the layout is chosen for; any other number works, too."""


class PackedLinear(nn.Module):
    """A linear layer on the CPU with packed weights; the original layer's are freed with it."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight = layer.weight.detach().contiguous()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, EXPECTED_ROWS)
        self._bias = None if layer.bias is None else layer.bias.detach()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.dtype = weight.dtype

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return (…, out_features) of (…, in_features)."""
        found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(values, self._weight, self._bias, "none", [], "")
        return found


def pack_linears(network: nn.Module) -> int:
    """Replace the linear layers of ``network`` in place; return how many. None where torch has no oneDNN."""
    if not torch.backends.mkldnn.is_available():
        return 0
    shared = [layer.weight for layer in network.modules() if isinstance(layer, nn.Embedding)]
    count = 0
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear and not any(child.weight is weight for weight in shared):
                setattr(module, name, PackedLinear(child))
                count += 1
    return count
