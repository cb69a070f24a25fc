"""Products with weights: in oneDNN's layout on a CPU, as torch has them elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from consumer.runtimes.pytorch import packed_linear

Linear = Callable[[Tensor], Tensor]
"""From shape (rows, in) to (rows, out)."""


def linear(weight: Tensor, bias: Tensor | None) -> Linear:
    """Return x @ weight.T + bias as a function of x. Where it packs, it keeps no reference to ``weight``."""
    if packed_linear.takes(weight):
        packed = packed_linear.packed(weight)
        return lambda x: packed_linear.product(x, packed, bias)
    return lambda x: functional.linear(x, weight, bias)


def fused(layers: Sequence[nn.Linear], order: Callable[[int, Tensor], Tensor] = lambda index, rows: rows) -> Linear:
    """Make one product of ``layers`` that read the same input; their outputs lie side by side.

    Args:
        order: puts the outputs of one of them in another order: rows of its weight, and its bias.
    """
    weight = torch.cat([order(index, one.weight.detach()) for index, one in enumerate(layers)])
    biases = [
        one.weight.new_zeros(one.out_features) if one.bias is None else order(index, one.bias.detach())
        for index, one in enumerate(layers)
    ]
    return linear(weight, torch.cat(biases) if any(one.bias is not None for one in layers) else None)
