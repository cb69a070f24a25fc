"""Layers that do in one call of oneDNN what a network spells as several, for the CPU.

A convolution and its activation, written as two modules, pass every number through memory twice, and torch lays out a
filter anew on each call. Here the activation (and the sum with a shortcut) is done while the result is still in
registers, and the filters are laid out once. These are the operators that ``torch.compile`` uses too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

_PACKED_FOR = 8
"""Rows that filters are laid out for: oneDNN chooses the same layout from 2 rows up, and another for a single row."""


@dataclass(frozen=True, slots=True)
class Activation:
    """An activation as oneDNN names it, with its numbers and, for gelu, its algorithm."""

    name: str = "none"
    numbers: tuple[float, ...] = ()
    algorithm: str = ""


class PackedConv(nn.Module):
    """A convolution with its activation, and with the sum of its result and a shortcut before the activation.

    Args:
        conv: a convolution with zero padding, in the datatype that it shall run in.
        adds: whether ``forward`` gets a shortcut to add; the activation is then none or relu.
    """

    def __init__(self, conv: nn.Conv2d, activation: Activation, adds: bool) -> None:
        super().__init__()
        if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            raise ValueError("only zero padding by numbers is supported.")
        self._weight: Tensor | None = conv.weight.detach()
        self._bias = None if conv.bias is None else conv.bias.detach()
        self._shape = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
        self._activation = (activation.name, list(activation.numbers), activation.algorithm)
        self._adds = adds
        self._packed: dict[bool, Tensor] = {}

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """Return activation(conv(x) + shortcut); (n, channels, height, width), channels last."""
        weight = self._packed.get(x.shape[0] == 1)
        if weight is None:
            weight = self._pack(x)
        if self._adds:
            unary = self._activation[0] if self._activation[0] != "none" else None
            operator = torch.ops.mkldnn._convolution_pointwise.binary
            result: Tensor = operator(x, shortcut, weight, self._bias, *self._shape, "add", 1.0, unary, [], None)
        else:
            operator = torch.ops.mkldnn._convolution_pointwise.default
            result = operator(x, weight, self._bias, *self._shape, *self._activation)
        return result

    def _pack(self, x: Tensor) -> Tensor:
        rows = 1 if x.shape[0] == 1 else _PACKED_FOR
        packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(self._weight, *self._shape, [rows, *x.shape[1:]])
        self._packed[rows == 1] = packed
        if len(self._packed) == 2:
            self._weight = None  # both layouts are there: the original is not needed any more
        return packed


class PackedLinear(nn.Module):
    """A linear layer with its activation; the weights are laid out at the first call."""

    def __init__(self, linear: nn.Linear, activation: Activation) -> None:
        super().__init__()
        self._weight = linear.weight.detach()
        self._bias = None if linear.bias is None else linear.bias.detach()
        self._activation = (activation.name, list(activation.numbers), activation.algorithm)
        self._packed: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return activation(x W' + b)."""
        if self._packed is None:
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self._weight, _PACKED_FOR)
            self._weight = self._packed
        result: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, *self._activation)
        return result


class GlobalPool(nn.Module):
    """The mean over height and width; in bf16 three times as fast as torch's adaptive pooling, which passes fp32."""

    def __init__(self, keeps_dimensions: bool) -> None:
        super().__init__()
        self._keeps = keeps_dimensions

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, channels, 1, 1), or (n, channels)."""
        pooled = functional.avg_pool2d(x, (x.shape[2], x.shape[3]))
        return pooled if self._keeps else pooled.flatten(1)
