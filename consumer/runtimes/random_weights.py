"""Random weights for benchmarks: the same ones in every process, and outputs of unit scale.

A freshly constructed network gives logits near 1e-9 or far beyond 1, depending on its architecture, and such outputs
make every comparison of precisions meaningless. So its batch norms learn their statistics from one batch of pictures
and the last layer is scaled. All weights are numbers that bf16 can hold: what a comparison then shows is the
arithmetic of a precision, and not how a random network, far less stable than a trained one, takes to other weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

SEED = 20_261
WARNING = "The weights are random, for benchmarks only; the predictions mean nothing."
CALIBRATION_ROWS = 16
_BIAS_SHARE = 0.75  # of the variance of the logits: a trained network prefers some classes too


def construct(make: Callable[[], nn.Module]) -> nn.Module:
    """Call ``make`` with torch's generator seeded; the generator's state is put back afterwards."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return make()


def calibrate(network: nn.Module, pictures: Tensor) -> None:
    """Set the batch norms' statistics from ``pictures`` and scale the last layer; on the CPU in fp32.

    Args:
        network: a classifier; it is left in evaluation mode.
        pictures: normalised float32, shape (n, 3, height, width).
    """
    import torch

    network.eval()
    norms = [module for module in network.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    with torch.no_grad():
        for parameter in network.parameters():
            _round(parameter)
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain average over the one batch
            norm.train()
        network(pictures)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
        _scale_last_layer(network, pictures)


def _scale_last_layer(network: nn.Module, pictures: Tensor) -> None:
    """Bring the logits to deviation 1, part of it by the last layer's bias."""
    import torch

    last = [module for module in network.modules() if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)][-1]
    generator = torch.Generator().manual_seed(SEED)
    if not last.weight.any():  # transformers start with a head of zeros
        last.weight.copy_(torch.randn(last.weight.shape, generator=generator))
    if last.bias is not None:
        last.bias.zero_()
    deviation = network(pictures).std()
    if torch.isfinite(deviation) and deviation > 0:
        last.weight.mul_((1 - _BIAS_SHARE) ** 0.5 / deviation)
        _round(last.weight)
    if last.bias is not None:
        last.bias.copy_(torch.randn(last.bias.shape, generator=generator) * _BIAS_SHARE**0.5)
        _round(last.bias)


def _round(values: Tensor) -> None:
    values.copy_(values.bfloat16())
