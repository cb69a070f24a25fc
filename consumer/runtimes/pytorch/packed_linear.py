"""Linear layers whose weights lie as oneDNN wants them, for the CPU.

``torch.nn.Linear`` has MKL lay the weights out anew in each call with more than one row. For a network that is called
with few rows at a time, as a decoder is, that takes longer than the product.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from consumer.runtimes.instructions import this_processor

_HALVES = {torch.bfloat16: "bf16", torch.float16: "fp16"}
ROWS = 16
"""Rows that the layout is chosen for; it serves other numbers as well."""


def takes(weight: Tensor) -> bool:
    """Say whether ``weight`` can be packed: on the CPU, in a datatype that oneDNN has kernels for here."""
    if weight.device.type != "cpu" or not is_possible():
        return False
    return weight.dtype is torch.float32 or _HALVES.get(weight.dtype) in _halves()


@cache
def _halves() -> frozenset[str]:
    return this_processor().onednn


def packed(weight: Tensor) -> Tensor:
    """Return a copy of ``weight``, shape (out, in), in oneDNN's layout; see :func:`product`.

    Only for one that it :func:`takes`.
    """
    return torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), ROWS)  # type: ignore[no-any-return]


def product(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """Return ``x`` @ weight.T + bias for rows ``x``, shape (rows, in), and a weight that is :func:`packed`."""
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")  # type: ignore[no-any-return]


class PackedLinear(nn.Module):
    """Does what ``linear`` does, with a copy of its weights.

    Args:
        linear: one whose weight can be packed; see :func:`takes`.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach()
        self._packed = packed(weight)
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` @ weight.T + bias; ``x`` has shape (..., in_features)."""
        rows = x.reshape(-1, self.in_features)
        out = product(rows, self._packed, self._bias)
        return out.view(*x.shape[:-1], self.out_features)


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
            if type(child) is nn.Linear and takes(child.weight):
                setattr(module, name, PackedLinear(child))
                count += 1
    return count
