"""Fewer bits with less loss: rounding that carries over, biases that make up for it, and batch norms that are gone."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from consumer.models.pictures import samples
from consumer.runtimes.exported import export
from consumer.runtimes.exported.onnx_runtime import FILE, open_session
from consumer.runtimes.exported.openvino_runtime import OpenVino
from consumer.runtimes.network import normalised_samples
from consumer.runtimes.pytorch import graph, half_precision, timm_layers
from consumer.runtimes.pytorch.cpu_runner import CpuRunner
from consumer.tuning.parity import compare
from tests.unit.consumer.runtimes import networks
from tests.unit.consumer.runtimes.networks import job_of, network_of, real, shipped

pytestmark = pytest.mark.timeout(180)  # imports torch and timm and builds whole networks, beside all other tests


def blocks() -> tuple[nn.Module, Tensor]:
    generator = torch.Generator().manual_seed(4)
    module = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator))
    return module, torch.rand(4, 8, 12, 12, generator=generator)


def test_biases_make_up_for_rounded_weights() -> None:
    """What a channel puts out on average stays what it was, although each weight is rounded to 8 bits."""
    module, pictures = blocks()
    with torch.no_grad():
        exact = module(pictures).mean((0, 2, 3))
        plain = (
            half_precision.converted(half_precision.copied(module), torch.bfloat16).float()(pictures).mean((0, 2, 3))
        )
        corrected = (
            half_precision.converted(half_precision.copied(module), torch.bfloat16, pictures)
            .float()(pictures)
            .mean((0, 2, 3))
        )
    assert (corrected - exact).abs().mean() < (plain - exact).abs().mean() / 2


@pytest.mark.parametrize("steps", [127, 64])
def test_weights_on_a_grid_are_whole_steps_of_their_channel(steps: int) -> None:
    network = real("resnet18")
    rounded = half_precision.on_grid(network, steps, normalised_samples(network))
    convolutions = [one for one in rounded.modules() if isinstance(one, nn.Conv2d | nn.Linear)]
    assert len(convolutions) == 21
    for one in convolutions:
        weight = one.weight.detach().flatten(1)
        wanted = weight / weight.abs().amax(1, keepdim=True) * steps
        assert (wanted - wanted.round()).abs().max() < 0.01
        assert one.bias is not None


def test_a_channel_of_zeros_stays_one() -> None:
    module = networks.Plain()
    convolution = module.layers[0]  # type: ignore[index]
    with torch.no_grad():
        convolution.weight[3] = 0
    network = network_of(module)
    for rounded in (
        half_precision.on_grid(network, 127, normalised_samples(network)),
        half_precision.prepared(network, torch.bfloat16, normalised_samples(network)),
    ):
        assert all(parameter.isfinite().all() for parameter in rounded.parameters())


@pytest.mark.parametrize("size", [7, 8, 31, 32])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_padding_like_tensorflows_becomes_constant(size: int, kernel: int, stride: int) -> None:
    from timm.layers.conv2d_same import Conv2dSame

    conv = Conv2dSame(4, 8, kernel, stride, groups=2).eval()
    x = torch.randn(2, 4, size, size + 1, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected, outputs = conv(x), timm_layers.same_padded(conv, size, size + 1)(x)
    torch.testing.assert_close(outputs, expected)


class Twice(nn.Module):
    """Uses one layer at two places, of which only one is followed by a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(x)) + self.conv(x + 1)
        return torch.cat((y.mean((2, 3)), y.amax((2, 3))[:, :1]), 1)


@pytest.mark.parametrize("module", [Twice(), networks.Turns()], ids=["shared", "no graph"])
def test_what_cannot_be_folded_is_only_converted(module: nn.Module) -> None:
    network = network_of(module)
    with pytest.raises(graph.DoesNotFit):
        graph.fold_batch_norms(graph.traced(network.module))
    rows = samples.pictures(3, 16, 16)
    exact = CpuRunner(network, "fp32", 4).run(rows)
    outputs = CpuRunner(network, "bf16", 4).run(rows)
    assert np.abs(outputs - exact).max() < 0.05 * np.abs(exact).max()


def test_batch_norms_become_part_of_convolutions_and_outputs_stay() -> None:
    for network in (real("resnet18"), real("timm:tf_efficientnet_lite0")):
        pictures = normalised_samples(network)
        simple = network.simplify(network.module, pictures) if network.simplify else network.module
        folded = graph.fold_batch_norms(graph.traced(simple))
        assert not any(isinstance(one, nn.BatchNorm2d) for one in folded.modules())
        with torch.inference_mode():
            expected, outputs = network.module(pictures), folded(pictures)
        torch.testing.assert_close(outputs, expected, atol=1e-3 * float(expected.abs().max()), rtol=0)


@pytest.mark.soak
def test_what_is_exported_for_bf16_loses_less_than_a_plain_export(tmp_path: Path) -> None:
    """In OpenVINO where it has bf16; elsewhere in fp32, with weights that were rounded alike."""
    network = shipped("imagenet")
    rows = samples.pictures(16, 224, 224)
    exact = CpuRunner(network, "fp32", 16).run(rows)
    parities = []
    for number, prepare in enumerate((None, export.for_bf16)):
        folder = tmp_path / str(number)
        folder.mkdir()
        export.to_onnx(network, folder / FILE, prepare)
        parities.append(compare(exact, in_bf16(folder, rows), "bf16"))
    plain, made = parities
    assert made.passed, made.reason
    if has_bf16():
        assert made.largest_difference < 0.6 * plain.largest_difference


def has_bf16() -> bool:
    return importlib.util.find_spec("openvino") is not None and "bf16" in OpenVino().precisions("cpu")


def in_bf16(folder: Path, rows: list[np.ndarray]) -> np.ndarray:
    if has_bf16():
        return OpenVino().open(job_of(shipped("imagenet"), folder, "bf16")).run(rows)
    outputs: np.ndarray = open_session(folder / FILE, 1).run(None, {"input": np.stack(rows)})[0]
    return outputs
