"""Linear layers whose weights lie as oneDNN wants them, for the CPU in fp32.

``torch.nn.Linear`` has MKL lay the weights out anew in each call with more than one row. For a network that is called
with few rows at a time, as a decoder is, that takes longer than the product.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

ROWS = 16
"""Rows that the layout is chosen for; it serves other numbers as well."""


class PackedLinear(nn.Module):
    """Does what ``linear`` does, with a copy of its weights.

    Args:
        linear: on the CPU, in fp32.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach().contiguous()
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` @ weight.T + bias; ``x`` has shape (..., in_features)."""
        rows = x.reshape(-1, self.in_features)
        out = torch.ops.mkldnn._linear_pointwise(rows, self._packed, self._bias, "none", [], "")
        return out.view(*x.shape[:-1], self.out_features)  # type: ignore[no-any-return]


def is_possible() -> bool:
    """Say whether torch was built with what this needs."""
    has = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(has) and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def pack(network: nn.Module) -> int:
    """Replace the linear layers of ``network``, in place; return how many.

    A weight that something else uses too, such as the embedding, stays beside its packed copy; others are freed.
    """
    count = 0
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear and child.weight.dtype is torch.float32 and child.weight.device.type == "cpu":
                setattr(module, name, PackedLinear(child))
                count += 1
    return count
