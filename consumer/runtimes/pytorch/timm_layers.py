"""timm's own kinds of layers in terms of torch's, with equal outputs, so that a recipe can work on them.

timm joins batch norm and activation in one module, and pads like TensorFlow: the padding depends on the input's size
and is one pixel more at the right and the bottom than at the left and the top. For one size it is a constant.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def simplified(network: nn.Module, pictures: Tensor) -> nn.Module:
    """Return a copy of ``network`` that is made of torch's layers where that can be done.

    Args:
        pictures: normalised float32, shape (n, 3, height, width), of the one size that the network will see.
    """
    from timm.layers.conv2d_same import Conv2dSame
    from timm.layers.norm_act import BatchNormAct2d

    network = copy.deepcopy(network).eval()
    sizes: dict[nn.Module, tuple[int, int]] = {}
    hooks = [
        module.register_forward_pre_hook(_note_size(sizes))
        for module in network.modules()
        if isinstance(module, Conv2dSame)
    ]
    with torch.inference_mode():
        network(pictures[:1])
    for hook in hooks:
        hook.remove()
    for name, module in list(network.named_modules()):
        if isinstance(module, BatchNormAct2d):
            network.set_submodule(name, nn.Sequential(_norm(module), module.drop, module.act).eval())
        elif module in sizes:
            network.set_submodule(name, same_padded(module, *sizes[module]))
    return network


def _note_size(sizes: dict[nn.Module, tuple[int, int]]) -> Callable[[nn.Module, Any], None]:
    def note(module: nn.Module, inputs: Any) -> None:
        sizes[module] = tuple(inputs[0].shape[-2:])

    return note


def _norm(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    plain = nn.BatchNorm2d(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    plain.load_state_dict(norm.state_dict())
    return plain.eval()


def same_padded(conv: nn.Conv2d, height: int, width: int) -> nn.Conv2d:
    """Return a convolution with constant padding that does on ``height`` x ``width`` what ``conv`` does with "same".

    torch pads left and right alike. Where one pixel less is wanted on the left, the filter gets a column of zeros
    there, and sees the superfluous pixel through it.
    """
    excess, padding, kernel = [], [], []
    for size, taps, stride, dilation in zip((height, width), conv.kernel_size, conv.stride, conv.dilation, strict=True):
        # timm and TensorFlow: as many outputs as ceil(size / stride), half of the padding first, rounded down.
        total = max((-(-size // stride) - 1) * stride + (taps - 1) * dilation + 1 - size, 0)
        odd = total % 2
        if odd and dilation > 1:
            return conv
        excess.append(odd)
        padding.append(total // 2 + odd)
        kernel.append(taps + odd)
    result = nn.Conv2d(conv.in_channels, conv.out_channels, (kernel[0], kernel[1]), groups=conv.groups)
    result.stride, result.dilation, result.padding = conv.stride, conv.dilation, (padding[0], padding[1])
    result.weight = nn.Parameter(nn.functional.pad(conv.weight.detach(), (excess[1], 0, excess[0], 0)))
    result.bias = conv.bias
    return result.eval()
