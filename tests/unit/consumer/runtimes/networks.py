"""Networks for tests of runtimes: small ones of every kind that an exporter may stumble over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from consumer.models.families import build
from consumer.models.pictures import samples
from consumer.models.vision.classifier import Classifier
from consumer.models.vision.timm import build_network as build_timm
from consumer.models.vision.torchvision import build_network as build_torchvision
from consumer.runtimes.base import Job, Pixels
from consumer.runtimes.network import Network
from consumer.runtimes.random_weights import construct
from shared import model_config
from shared.model_config import ModelConfig, Preprocessing

ROOT = Path(__file__).parents[4]
SIDE, CLASSES = 16, 4


def network_of(module: nn.Module, side: int = SIDE) -> Network:
    return Network(module.eval(), Preprocessing(resize=side, crop=side), tuple(map(str, range(CLASSES))))


def real(architecture: str, side: int = 64) -> Network:
    """torchvision's, or with ``timm:`` before it timm's, with random weights."""
    own = Preprocessing(resize=side, crop=side)
    if architecture.startswith("timm:"):
        return build_timm(ModelConfig("timm", architecture[5:], "random", preprocessing=own))
    return build_torchvision(ModelConfig("torchvision", architecture, "random", preprocessing=own))


def shipped(name: str) -> Network:
    """A network of the models file, with its own weights."""
    model = build(name, model_config.load(ROOT / "models.toml")[name])
    assert isinstance(model, Classifier)
    return model.network()


def job_of(
    network: Network, folder: Path, precision: str = "fp32", max_batch: int = 8, threads: int = 1, device: str = "cpu"
) -> Job:
    return Job(device, precision, max_batch, threads, network.preprocessing.crop, folder, network)


def pictures(network: Network, count: int) -> list[Pixels]:
    return samples.pictures(count, network.preprocessing.crop, network.preprocessing.crop)


def layers() -> nn.Module:
    return construct(
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, CLASSES),
        )
    )


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = layers()

    def forward(self, x: Tensor) -> Any:
        return self.layers(x)


class Turns(Plain):
    """Takes another way for bright pictures."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y if x.mean() < 1e6 else -y  # the samples all take the same way


class Repeats(Plain):
    """Goes round as often as the values want it."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        while y.abs().max() > 1e6:
            y = y / 2
        return y


class Reads(Plain):
    """Takes a number out of the picture and goes on with it."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y + min(float(x.max()), -100.0)


class ThroughNumpy(Plain):
    """Leaves torch for a while."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y * torch.from_numpy(np.sign(x.abs().amax((1, 2, 3))[:, None].numpy()))


class Looks(Plain):
    """Asks for sizes, which is harmless: they are the same for all pictures."""

    def forward(self, x: Tensor) -> Any:
        if x.shape[-1] % 2:
            raise ValueError("the side must be even")
        return self.layers(x.reshape(x.shape[0], 3, int(x.shape[2]), -1))


def is_exported() -> bool:
    return torch._C._get_tracing_state() is not None


class ForThisBatch(Plain):
    """Is written for batches of the size that it sees first."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = 0

    def forward(self, x: Tensor) -> Tensor:
        rows = 2 if is_exported() else len(x)
        y: Tensor = self.layers(x)
        return y.reshape(rows, CLASSES)


class RowByRow(Plain):
    """A loop over rows: the exporter writes down as many turns as the example has rows."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return torch.cat([y[index : index + 1] for index in range(len(y))])


class Noisy(Plain):
    """Is never the same twice, as with dropout that was left on."""

    def forward(self, x: Tensor) -> Any:
        return nn.functional.dropout(self.layers(x), 0.5, training=True)


class Ages(Plain):
    """Has a constant that changes with each call; the exporter writes down what it is at that time."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        y: Tensor = self.layers(x)
        return y * float(self.calls)


class Spectrum(Plain):
    """Uses an operator that ONNX does not have."""

    def forward(self, x: Tensor) -> Any:
        return self.layers(torch.fft.fft2(x).abs())


@torch.library.custom_op("headrace_tests::tripled", mutates_args=())
def tripled(x: Tensor) -> Tensor:
    return x * 3


class OwnOperator(Plain):
    """Uses an operator of the user's own."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = tripled(self.layers(x))
        return y


class Explodes(Plain):
    def forward(self, x: Tensor) -> Any:
        return self.layers(x) / 0


class TooDeep(Plain):
    """Has one output more for each row than a classifier."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y[:, :, None] if is_exported() else y


class Huge(Plain):
    """Has 2.4 GB of weights, all of them the same number, so that they take no memory."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1).expand(600_000_000), requires_grad=False)
